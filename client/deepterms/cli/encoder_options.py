"""Turns options into the encoder of a new index, and samples the descriptors that become its pivots."""

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

__all__ = ["EncoderName", "EncoderOption", "PresetChoice", "PresetOption", "build_encoder", "sample_features"]

# Rows to sample pivots from: 168 MB at 1,280 dimensions.
MAX_ROWS = 32_768


class EncoderName(str, Enum):
    """Values of `--encoder`."""

    components = "components"
    quantized = "quantized"
    auto = "auto"


class PresetChoice(str, Enum):
    """Values of `--preset`."""

    small = "small"
    balanced = "balanced"
    accurate = "accurate"


EncoderOption = Annotated[
    EncoderName,
    typer.Option(
        help="components: the ranks of the K largest components, as in the paper. quantized: the K largest components "
        "after a random rotation, with their values. auto: pivots near the descriptor, of a set sampled from all "
        "descriptors; their number depends on the size of the collection. For a new index."
    ),
]
PresetOption = Annotated[
    PresetChoice, typer.Option(help="For --encoder auto: numbers of pivots, words and candidates that go together.")
]


def build_encoder(
    features: FeatureStore | EmbeddingFolder, *, name: EncoderName, preset: PresetChoice, top_k: int
) -> SelectedEncoder:
    """Build the encoder of a new index, and choose how many candidates its searches re-rank.

    Raises:
        InvalidInput: there are too few descriptors to sample pivots from.
    """
    if name is EncoderName.components:
        return SelectedEncoder(DeepPermutation(features.dimensions, top_k=top_k))
    if name is EncoderName.quantized:
        return SelectedEncoder(ScalarQuantization(features.dimensions, top_k=top_k, rotation_seed=0))
    preset_name: PresetName = preset.value
    pivots = PRESETS[preset_name].choose_pivot_count(max(1, len(features)))
    sample = sample_features(features, min(MAX_ROWS, count_rows_needed(pivots)))
    return select_encoder("auto", features=sample, documents=max(1, len(features)), preset=preset_name)


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
