"""Turns options into the encoder of a new index, and samples the descriptors that become its pivots."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import numpy as np
import typer
from numpy.typing import NDArray

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.scalar_quantization import ScalarQuantization
from deepterms.errors import InvalidInput
from deepterms.tuning.selection import count_sample_rows

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["EncoderKeywords", "EncoderName", "EncoderOption", "RecallOption", "build_encoder", "sample_features"]


class EncoderName(str, Enum):
    """Values of `--encoder`."""

    components = "components"
    quantized = "quantized"
    auto = "auto"


EncoderOption = Annotated[
    EncoderName,
    typer.Option(
        help="components: the ranks of the K largest components, as in the paper. quantized: the K largest components "
        "after a random rotation, with their values. auto: pivots near the descriptor, of a set sampled from all "
        "descriptors; their number and the rest are measured to reach --recall. For a new index."
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option(
        help="For --encoder auto: the share of the ten nearest documents that searches find. Pivots, words and "
        "candidates are chosen by measuring on the descriptors; `deepterms tune` measures the filled index.",
        min=0,
        max=1,
        show_default="0.95",
    ),
]


class EncoderKeywords(TypedDict, total=False):
    """Arguments of `SurrogateIndex.create` that set the encoder."""

    encoder: Encoder | Literal["auto"]
    features: NDArray[np.float32]
    documents: int
    recall: float | None


def build_encoder(
    features: FeatureStore | EmbeddingFolder, *, name: EncoderName, recall: float | None, top_k: int
) -> EncoderKeywords:
    """Build the arguments of `SurrogateIndex.create` that set the encoder of a new index.

    Raises:
        InvalidInput: a recall is given for an encoder other than auto.
    """
    if name is EncoderName.auto:
        documents = max(1, len(features))
        sample = sample_features(features, count_sample_rows(documents))
        return {"encoder": "auto", "features": sample, "documents": documents, "recall": recall}
    if recall is not None:
        raise InvalidInput(f"--recall is for --encoder auto; with {name.value}, run `deepterms tune` after indexing")
    if name is EncoderName.components:
        return {"encoder": DeepPermutation(features.dimensions, top_k=top_k)}
    return {"encoder": ScalarQuantization(features.dimensions, top_k=top_k, rotation_seed=0)}


def sample_features(features: FeatureStore | EmbeddingFolder, count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Sample up to `count` random rows, float32 (n, D), leaving out rows that are zero or not finite."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(features))[:count])
    rows, start = [np.empty((0, features.dimensions), dtype=np.float32)], 0
    for batch in features.batches():
        low, high = np.searchsorted(chosen, [start, start + len(batch.ids)])
        rows.append(batch.features[chosen[low:high] - start])
        start += len(batch.ids)
    sample = np.concatenate(rows)
    usable: NDArray[np.float32] = sample[np.isfinite(sample).all(axis=1) & sample.any(axis=1)]
    return usable
