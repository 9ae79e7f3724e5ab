"""Scalar quantization: from a descriptor to its own components, as whole numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.arrays import Features
from deepterms.encoders.blocks import map_blocks
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.inputs import check_features
from deepterms.encoders.rotation import MAX_SEED, draw_signs, rotate, round_up_to_power_of_two
from deepterms.errors import InvalidInput
from deepterms.terms import MAX_TERM_FREQUENCY, TermFrequencies

__all__ = ["DEFAULT_FACTOR", "ScalarQuantization"]

# The layout `rank_features` stores frequencies up to 512 exactly; scores, at most the factor squared, stay below 2^24.
DEFAULT_FACTOR = 500

# Bytes of float64 components per block and thread.
BLOCK_BYTES = 4 * 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class ScalarQuantization:
    """Repeat each component in proportion to its value, so that the dot product is the rounded cosine.

    The descriptor is scaled to length 1. Component i of [x]+ is codeword ``t{i}`` and component i of [−x]+ is
    ``t{D+i}`` (CReLU); its frequency is ⌊s·x⌋, where s is the factor. A component is dropped if it is below the
    threshold, not among the K largest (ties go to the lower codeword), or of frequency 0. If only frequency 0 is
    dropped, a posting list holds about half of the collection. The largest component always counts at least once, so
    no document is empty. Source: Amato, Carrara, Falchi, Gennaro and Vadicamo, "Large-scale instance-level image
    retrieval", Information Processing & Management 57, 2020.

    A rotation makes all components equally large on average, and posting lists equally long: a third of the postings
    for the same mAP, measured in docs/choosing.md. It is a rotation of `deepterms.encoders.rotation`, into D′
    dimensions, the next power of two, because sums with a random orthogonal matrix would differ between machines.

    Args:
        dimensions: D, the length of a descriptor.
        factor: s, 1 to 65,535; also the largest frequency. Scores are at most s², which an engine's float32 holds
            exactly up to s = 4,096.
        top_k: K, the number of components to keep; None for all. Engines limit the clauses of a query, often to 1,024.
        threshold: drop components of the unit vector below this, 0 to 1. Use `threshold_for` to choose it.
        rotation_seed: seed of the rotation; None for no rotation.

    Raises:
        InvalidInput: an argument is out of range.
    """

    dimensions: int
    factor: int = DEFAULT_FACTOR
    top_k: int | None = None
    threshold: float = 0.0
    rotation_seed: int | None = None

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise InvalidInput(f"dimensions is {self.dimensions}; expected at least 1")
        if not isinstance(self.factor, int) or not 1 <= self.factor <= MAX_TERM_FREQUENCY:
            raise InvalidInput(
                f"factor is {self.factor}; expected a whole number from 1 to {MAX_TERM_FREQUENCY}, the largest "
                "frequency of a codeword"
            )
        if self.top_k is not None and not 1 <= self.top_k <= self.quantized_dimensions:
            raise InvalidInput(f"top_k is {self.top_k}; expected 1 to {self.quantized_dimensions} components, or None")
        if not 0 <= self.threshold <= 1:
            raise InvalidInput(f"threshold is {self.threshold}; expected 0 to 1, like the components of a unit vector")
        if self.rotation_seed is not None and not 0 <= self.rotation_seed <= MAX_SEED:
            raise InvalidInput(f"rotation_seed is {self.rotation_seed}; expected 0 to 2^63 − 1, or None")

    def __str__(self) -> str:
        parts = [f"scalar-quantization/d{self.dimensions}/s{self.factor}"]
        parts += [f"k{self.top_k}"] if self.top_k is not None else []
        parts += [f"t{self.threshold:g}"] if self.threshold else []
        parts += [f"seed{self.rotation_seed}"] if self.rotation_seed is not None else []
        return "/".join(parts)

    @property
    def quantized_dimensions(self) -> int:
        """D, or D′ with a rotation."""
        return self.dimensions if self.rotation_seed is None else round_up_to_power_of_two(self.dimensions)

    @property
    def vocabulary_size(self) -> int:
        """V: 2·D, or 2·D′ with a rotation."""
        return 2 * self.quantized_dimensions

    @property
    def max_term_frequency(self) -> int:
        """The factor, reached if all other components are zero."""
        return self.factor

    @property
    def max_words(self) -> int:
        """The factor · √K, as no K components of a unit vector have a larger sum."""
        return math.isqrt(self.factor**2 * (self.top_k or self.quantized_dimensions))

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder."""
        return {
            "type": "scalar_quantization",
            "dimensions": self.dimensions,
            "factor": self.factor,
            "top_k": self.top_k,
            "threshold": self.threshold,
            "rotation_seed": self.rotation_seed,
        }

    def encode(self, features: Features) -> TermFrequencies:
        """Quantize the components of documents.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first. They need not be normalised.

        Returns:
            Term frequencies (N, V), each from 1 to the factor.

        Raises:
            InvalidInput: the shape is wrong, or a row is not finite or all zero.
        """
        empty = sparse.csr_array((0, self.vocabulary_size), dtype=np.int32)
        return TermFrequencies(sparse.csr_array(sparse.vstack([empty, *self._map_blocks(features, self._quantize)])))

    def encode_queries(self, features: Features) -> TermFrequencies:
        """Encode queries, which is the same as `encode`."""
        return self.encode(features)

    def threshold_for(self, features: Features, *, words: float) -> float:
        """Find the threshold at which documents like these keep a given number of components on average.

        Only the threshold is considered: with a small factor, some of the components it keeps have frequency 0.

        Args:
            features: float32 (n, D), a sample of the collection; the search holds 8·D bytes per row in memory.
            words: the average number of components to keep, up to D (D′ with a rotation).

        Returns:
            The threshold, 0 to 1.

        Raises:
            InvalidInput: as for `encode`; there are no features; or `words` is out of range.
        """

        def measure_sizes(block: NDArray[np.float32]) -> NDArray[np.float64]:
            block = self._rotate(block)
            return (np.abs(block, dtype=np.float64) / _compute_norms(block)[:, np.newaxis]).ravel()

        values = np.concatenate([np.empty(0), *self._map_blocks(features, measure_sizes)])
        place = len(values) - round(words * len(values) / self.quantized_dimensions)
        if not 0 <= place < len(values):
            raise InvalidInput(
                f"words is {words} for {len(values) // self.quantized_dimensions} features; expected more than 0, up "
                f"to {self.quantized_dimensions} components, and at least one feature"
            )
        return float(np.partition(values, place)[place])

    def _map_blocks(self, features: Features, function: Callable[[NDArray[np.float32]], T]) -> list[T]:
        """Apply a function to blocks (n, D) of the features, in order."""
        array = check_features(features, dimensions=self.dimensions)
        rows = max(1, BLOCK_BYTES // (8 * self.quantized_dimensions))
        return map_blocks(function, [array[start : start + rows] for start in range(0, len(array), rows)])

    def _quantize(self, block: NDArray[np.float32]) -> sparse.csr_array:
        """Compute the frequencies of a block (n, D): int32 (n, V)."""
        block = self._rotate(block)
        D, K = self.quantized_dimensions, self.top_k or self.quantized_dimensions
        ranks = DeepPermutation(D, top_k=K).encode(block).matrix  # (n, V); the largest component has K
        rows = np.repeat(np.arange(len(block)), np.diff(ranks.indptr))
        # At most 1 even after rounding, as a length is never below the largest component.
        values = np.abs(block[rows, ranks.indices % D], dtype=np.float64) / _compute_norms(block)[rows]
        frequencies = np.floor(values * self.factor).astype(np.int32)
        frequencies[values < self.threshold] = 0
        largest = ranks.data == K
        frequencies[largest] = np.maximum(frequencies[largest], 1)
        ranks.data = frequencies
        ranks.eliminate_zeros()
        return ranks

    def _rotate(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rotate a block (n, D) to (n, D′), if the encoder has a rotation."""
        if self.rotation_seed is None:
            return block
        return rotate(block, draw_signs(f"deepterms scalar quantization {self.rotation_seed}", self.dimensions))


def _compute_norms(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the L2 norms of rows (n, D), float64 (n,).

    Every step is correctly rounded and their order is fixed, so that all machines agree bit for bit.
    """
    squares = np.square(block, dtype=np.float64)  # exact, as float32 has 24 bits
    while squares.shape[1] > 1:
        half = -(-squares.shape[1] // 2)
        squares[:, : squares.shape[1] - half] += squares[:, half:]
        squares = squares[:, :half]
    return np.asarray(np.sqrt(squares[:, 0]))
