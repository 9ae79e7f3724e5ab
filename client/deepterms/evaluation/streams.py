"""Descriptors that stream by in blocks, from an array, a feature store or a rule, as often as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.inputs import normalise_rows, reject_unusable
from deepterms.errors import InvalidInput

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["BLOCK", "ArrayFeatures", "FeatureStream", "MixedFeatures", "StoredFeatures", "sample_rows"]

BLOCK = 4_096  # rows at once: 21 MB of 1,280 dimensions
PARTS = 3  # of a mixture
MIXED_SEED = 2018
MIXED_ROWS = 8_192  # made at once by one generator


class FeatureStream(Protocol):
    """Descriptors in a fixed order; nothing but one block of them need be in memory."""

    @property
    def dimensions(self) -> int:
        """D."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All of them from the first on: float32 (n, D) at a time, rows L2-normalised."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayFeatures:
    """Rows of an array, which may be memory-mapped.

    Attributes:
        array: numbers (N, D).
    """

    array: NDArray[np.float32]

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """As of every stream."""
        for start in range(0, len(self.array), BLOCK):
            yield _normalised(self.array[start : start + BLOCK])


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """Descriptors of a feature store, or of a folder of embeddings.

    Attributes:
        store: opened.
    """

    store: FeatureStore | EmbeddingFolder

    @property
    def dimensions(self) -> int:
        """D."""
        return self.store.dimensions

    def __len__(self) -> int:
        return len(self.store)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """As of every stream."""
        for batch in self.store.batches(rows=BLOCK):
            yield _normalised(batch.features)


@dataclass(frozen=True, eq=False)
class MixedFeatures:
    """Mixtures of real descriptors: distractors in any number where photographs are few.

    Each is the sum of three rows, picked at random, with weights drawn from an exponential distribution. It has the
    distribution of components of the real ones, but neighbours that are less near. The same for one seed; more of them
    begin alike.

    Attributes:
        base: float32 (n, D), rows to mix.
        count: how many mixtures.
        seed: of the generator.
    """

    base: NDArray[np.float32]
    count: int
    seed: int = 0

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.base.shape[1])

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """As of every stream."""
        for chunk, start in enumerate(range(0, self.count, MIXED_ROWS)):
            rng = np.random.default_rng([MIXED_SEED, self.seed, chunk])
            picked = rng.integers(0, len(self.base), (MIXED_ROWS, PARTS))
            weights = rng.exponential(size=(MIXED_ROWS, PARTS)).astype(np.float32)
            rows = min(MIXED_ROWS, self.count - start)
            mixed = np.zeros((rows, self.dimensions), dtype=np.float32)
            for part in range(PARTS):
                mixed += weights[:rows, part, np.newaxis] * self.base[picked[:rows, part]]
            yield _normalised(mixed)


def sample_rows(streams: tuple[FeatureStream, ...], count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random rows of several streams together, in their order.

    Args:
        streams: of N descriptors in all, which stream by once.
        count: how many rows.
        seed: the same streams and seed give the same rows.

    Returns:
        float32 (n, D), L2-normalised: `count` rows, or all N if there are no more.

    Raises:
        InvalidInput: there are no descriptors, or one is not finite or all zero.
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
        raise InvalidInput("there are no descriptors to take a sample of")
    return np.concatenate(kept)


def _normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    array = np.asarray(rows, dtype=np.float32)
    reject_unusable(array)
    return normalise_rows(array)
