"""Options that choose the encoder of a new index, and the sample of descriptors from which pivots are taken."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.pivots.sampling import count_rows_needed
from deepterms.encoders.presets import PRESETS, PresetName, SelectedEncoder, select_encoder
from deepterms.encoders.scalar_quantization import ScalarQuantization

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["EncoderName", "EncoderOption", "PresetChoice", "PresetOption", "encoder_for", "sample_of"]

# Rows read to take pivots from: 168 MB of 1,280 dimensions.
MAX_ROWS = 32_768


class EncoderName(str, Enum):
    """What `--encoder` takes."""

    components = "components"
    quantized = "quantized"
    auto = "auto"


class PresetChoice(str, Enum):
    """What `--preset` takes."""

    small = "small"
    balanced = "balanced"
    accurate = "accurate"


EncoderOption = Annotated[
    EncoderName,
    typer.Option(
        help="components: the K largest components, ranked (the paper's). quantized: the K largest after a random "
        "rotation, with their values. "
        "auto: the nearest of some pivots, taken from the descriptors, as many as these need. For a new index."
    ),
]
PresetOption = Annotated[
    PresetChoice, typer.Option(help="For --encoder auto: pivots, words and candidates that go together.")
]


def encoder_for(
    features: FeatureStore | EmbeddingFolder, *, name: EncoderName, preset: PresetChoice, top_k: int
) -> SelectedEncoder:
    """The encoder of a new index for these descriptors, and how many candidates its searches re-rank.

    Raises:
        InvalidInput: there are too few descriptors to choose by.
    """
    if name is EncoderName.components:
        return SelectedEncoder(DeepPermutation(features.dimensions, top_k=top_k))
    if name is EncoderName.quantized:
        return SelectedEncoder(ScalarQuantization(features.dimensions, top_k=top_k, rotation_seed=0))
    wanted: PresetName = preset.value
    pivots = PRESETS[wanted].choose_pivot_count(max(1, len(features)))
    sample = sample_of(features, min(MAX_ROWS, count_rows_needed(pivots)))
    return select_encoder("auto", features=sample, documents=max(1, len(features)), preset=wanted)


def sample_of(features: FeatureStore | EmbeddingFolder, count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random rows, float32 (n, D), all of them if there are no more than wanted; ones of no use are left out."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(features))[:count])
    rows, start = [np.empty((0, features.dimensions), dtype=np.float32)], 0
    for batch in features.batches():
        low, high = np.searchsorted(chosen, [start, start + len(batch.ids)])
        rows.append(batch.features[chosen[low:high] - start])
        start += len(batch.ids)
    sample = np.concatenate(rows)
    usable: NDArray[np.float32] = sample[np.isfinite(sample).all(axis=1) & sample.any(axis=1)]
    return usable
