"""Scalar quantization: a descriptor becomes its components themselves, as whole numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from deepterms.encoders.blocks import map_blocks
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.inputs import check_features
from deepterms.encoders.rotation import MAX_SEED, draw_signs, rotate, round_up_to_power_of_two
from deepterms.errors import InvalidInput
from deepterms.terms import MAX_TERM_FREQUENCY, TermFrequencies

__all__ = ["DEFAULT_FACTOR", "ScalarQuantization"]

# The layout `rank_features` holds frequencies up to 512 exactly; scores (at most the factor squared) stay below 2^24.
DEFAULT_FACTOR = 500

# Bytes of float64 components worked on at once by one thread.
BLOCK_BYTES = 4 * 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class ScalarQuantization:
    """Each component occurs as often as its value says, so that the dot product is the cosine, rounded.

    Of the descriptor, scaled to length 1, component i of [x]+ is codeword ``t{i}`` and component i of [−x]+ is
    ``t{D+i}`` (CReLU); its frequency is ⌊s·x⌋, with s the factor. Components are left out that are below a threshold,
    or not among the K largest (equal ones by codeword ascending), or of frequency 0. Where nothing else is left out, a
    posting list holds about half of the collection. Whatever is, the largest component counts at least once: no
    document is without a word. Source: Amato, Carrara, Falchi, Gennaro and Vadicamo, "Large-scale instance-level image
    retrieval", Information Processing & Management 57, 2020.

    A rotation makes all components equally large on average, and posting lists equally long: a third of the postings
    for the same mAP, measured in docs/choosing.md. It is one of `deepterms.encoders.rotation`, into the next power of
    two D′ of dimensions, as a random orthogonal matrix would not give the same sums on all machines.

    Args:
        dimensions: D, the length of a descriptor.
        factor: s, 1 to 65,535; also the largest frequency. Scores are at most s², which an engine's float32 holds
            exactly up to s = 4,096.
        top_k: K, how many components are kept; None for all. An engine limits the clauses of a query, often to 1,024.
        threshold: components of the unit vector below this are left out, 0 to 1. `threshold_for` finds one.
        rotation_seed: rotate first, by this seed; None for no rotation.

    Raises:
        InvalidInput: one of them is out of range.
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
                "frequency that a codeword can have"
            )
        if self.top_k is not None and not 1 <= self.top_k <= self.quantized_dimensions:
            raise InvalidInput(f"top_k is {self.top_k}; expected 1 to {self.quantized_dimensions} components, or None")
        if not 0 <= self.threshold <= 1:
            raise InvalidInput(f"threshold is {self.threshold}; expected 0 to 1, as components of a unit vector are")
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
        """D; D′ if it is rotated."""
        return self.dimensions if self.rotation_seed is None else round_up_to_power_of_two(self.dimensions)

    @property
    def vocabulary_size(self) -> int:
        """V: 2·D, or 2·D′."""
        return 2 * self.quantized_dimensions

    @property
    def max_term_frequency(self) -> int:
        """The factor: of a component beside which all others are zero."""
        return self.factor

    @property
    def max_words(self) -> int:
        """The factor · √K: no K components of a unit vector have a larger sum."""
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

    def encode(self, features: ArrayLike) -> TermFrequencies:
        """Quantize the components of descriptors.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first. They need not be normalised.

        Returns:
            Term frequencies (N, V), from 1 to the factor.

        Raises:
            InvalidInput: wrong shape, or a row that is not finite or all zero.
        """
        empty = sparse.csr_array((0, self.vocabulary_size), dtype=np.int32)
        return TermFrequencies(sparse.csr_array(sparse.vstack([empty, *self._mapped(features, self._quantized)])))

    def encode_queries(self, features: ArrayLike) -> TermFrequencies:
        """The same as `encode`: queries and documents are quantized alike."""
        return self.encode(features)

    def threshold_for(self, features: ArrayLike, *, words: float) -> float:
        """The threshold with which documents like these keep so many components on average.

        Its other arguments stay: with a small factor some of what the threshold keeps is of frequency 0.

        Args:
            features: float32 (n, D), a sample of the collection; 8·D bytes each are held at once.
            words: how many, up to D (D′ if rotated).

        Raises:
            InvalidInput: as `encode`, no features, or so many words are not there.
        """

        def sizes(block: NDArray[np.float32]) -> NDArray[np.float64]:
            block = self._rotated(block)
            return (np.abs(block, dtype=np.float64) / _lengths(block)[:, np.newaxis]).ravel()

        values = np.concatenate([np.empty(0), *self._mapped(features, sizes)])
        place = len(values) - round(words * len(values) / self.quantized_dimensions)
        if not 0 <= place < len(values):
            raise InvalidInput(
                f"words is {words}, of {len(values) // self.quantized_dimensions} features; expected more than 0, up "
                f"to {self.quantized_dimensions} components, and a feature or more"
            )
        return float(np.partition(values, place)[place])

    def _mapped(self, features: ArrayLike, function: Callable[[NDArray[np.float32]], T]) -> list[T]:
        """The results of a function of blocks (n, D)."""
        array = check_features(features, dimensions=self.dimensions)
        rows = max(1, BLOCK_BYTES // (8 * self.quantized_dimensions))
        return map_blocks(function, [array[start : start + rows] for start in range(0, len(array), rows)])

    def _quantized(self, block: NDArray[np.float32]) -> sparse.csr_array:
        """Frequencies of a block (n, D), int32 (n, V)."""
        block = self._rotated(block)
        D, K = self.quantized_dimensions, self.top_k or self.quantized_dimensions
        ranks = DeepPermutation(D, top_k=K).encode(block).matrix  # (n, V), K for the largest
        rows = np.repeat(np.arange(len(block)), np.diff(ranks.indptr))
        # Correctly rounded: at most 1, as a length is not below the largest component.
        values = np.abs(block[rows, ranks.indices % D], dtype=np.float64) / _lengths(block)[rows]
        frequencies = np.floor(values * self.factor).astype(np.int32)
        frequencies[values < self.threshold] = 0
        largest = ranks.data == K
        frequencies[largest] = np.maximum(frequencies[largest], 1)
        ranks.data = frequencies
        ranks.eliminate_zeros()
        return ranks

    def _rotated(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """A block (n, D), rotated to (n, D′) if wanted."""
        if self.rotation_seed is None:
            return block
        return rotate(block, draw_signs(f"deepterms scalar quantization {self.rotation_seed}", self.dimensions))


def _lengths(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """The lengths of rows (n, D): correctly rounded steps in a fixed order, so that all machines agree bit for bit."""
    squares = np.square(block, dtype=np.float64)  # exact: float32 has 24 bits
    while squares.shape[1] > 1:
        half = -(-squares.shape[1] // 2)
        squares[:, : squares.shape[1] - half] += squares[:, half:]
        squares = squares[:, :half]
    return np.asarray(np.sqrt(squares[:, 0]))
