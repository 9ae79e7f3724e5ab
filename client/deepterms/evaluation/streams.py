"""Turn an array, a feature store or a random mixture into blocks of descriptors that can be streamed repeatedly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import as_array
from deepterms.encoders.inputs import normalise_rows, reject_unusable
from deepterms.errors import InvalidInput

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["BLOCK", "ArrayFeatures", "FeatureStream", "MixedFeatures", "StoredFeatures", "sample_rows"]

BLOCK = 4_096  # rows per block: 21 MB at 1,280 dimensions
PARTS = 3  # rows per mixture
MIXED_SEED = 2018
MIXED_ROWS = 8_192  # mixtures drawn from one generator


class FeatureStream(Protocol):
    """Descriptors in a fixed order, of which only one block has to be in memory."""

    @property
    def dimensions(self) -> int:
        """D, the descriptor length."""
        ...

    def __len__(self) -> int:
        """N, the number of descriptors."""
        ...

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Iterate over all descriptors from the start as float32 (n, D) blocks with L2-normalised rows."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayFeatures:
    """Rows of an array, which may be memory-mapped.

    Attributes:
        array: numbers (N, D), or another container that `as_array` reads.
    """

    array: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", as_array(self.array))

    @property
    def dimensions(self) -> int:
        """D, the descriptor length."""
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `FeatureStream.blocks`."""
        for start in range(0, len(self.array), BLOCK):
            yield _normalise(self.array[start : start + BLOCK])


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """Descriptors from a feature store or a folder of embeddings.

    Attributes:
        store: an open store or folder.
    """

    store: FeatureStore | EmbeddingFolder

    @property
    def dimensions(self) -> int:
        """D, the descriptor length."""
        return self.store.dimensions

    def __len__(self) -> int:
        return len(self.store)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `FeatureStream.blocks`."""
        for batch in self.store.batches(rows=BLOCK):
            yield _normalise(batch.features)


@dataclass(frozen=True, eq=False)
class MixedFeatures:
    """Mixtures of real descriptors, for any number of distractors when photographs are scarce.

    Each mixture is the sum of three random rows with exponentially distributed weights. Its components are distributed
    like those of real descriptors, but its nearest neighbours are farther away. The same seed gives the same mixtures,
    and a smaller count gives a prefix of a larger one.

    Attributes:
        base: float32 (n, D), rows to mix.
        count: number of mixtures.
        seed: of the generator.
    """

    base: NDArray[np.float32]
    count: int
    seed: int = 0

    @property
    def dimensions(self) -> int:
        """D, the descriptor length."""
        return int(self.base.shape[1])

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `FeatureStream.blocks`."""
        for chunk, start in enumerate(range(0, self.count, MIXED_ROWS)):
            rng = np.random.default_rng([MIXED_SEED, self.seed, chunk])
            picked = rng.integers(0, len(self.base), (MIXED_ROWS, PARTS))
            weights = rng.exponential(size=(MIXED_ROWS, PARTS)).astype(np.float32)
            rows = min(MIXED_ROWS, self.count - start)
            mixed = np.zeros((rows, self.dimensions), dtype=np.float32)
            for part in range(PARTS):
                mixed += weights[:rows, part, np.newaxis] * self.base[picked[:rows, part]]
            yield _normalise(mixed)


def sample_rows(streams: tuple[FeatureStream, ...], count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Sample rows from several streams without replacement, keeping their order.

    Args:
        streams: N descriptors in total, read once.
        count: number of rows.
        seed: the same streams and seed give the same rows.

    Returns:
        float32 (n, D), L2-normalised: `count` rows, or all N if there are fewer.

    Raises:
        InvalidInput: there are no descriptors, or one is not finite or all zeros.
    """
    rows = sum(map(len, streams))
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    kept, start = [], 0
    for stream in streams:
        for block in stream.blocks():
            low, high = np.searchsorted(chosen, [start, start + len(block)])
            kept.append(block[chosen[low:high] - start])
            start += len(block)
    if not kept:
        raise InvalidInput("there are no descriptors to sample from; expected at least one")
    return np.concatenate(kept)


def _normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    array = np.asarray(rows, dtype=np.float32)
    reject_unusable(array)
    return normalise_rows(array)
