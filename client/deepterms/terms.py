"""Term frequencies: a batch of documents or queries as a sparse matrix of positive integers, and its renderings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.errors import InvalidInput

__all__ = ["MAX_TERM_FREQUENCY", "TermFrequencies", "codeword"]

# What both pipelines accept, and what a uint16 posting of MemoryIndex holds.
MAX_TERM_FREQUENCY = 65_535

# The names of all codewords are kept for vocabularies up to this: 2^17 are about ten megabytes.
MAX_TABLE = 2**17


def codeword(component: int) -> str:
    """The name of one component: ``t17``. It holds no dot, which the engines would read as a path."""
    return f"t{component}"


@lru_cache(maxsize=4)
def _all_json_keys(vocabulary_size: int) -> NDArray[np.object_]:
    return np.array([f'"{codeword(component)}":' for component in range(vocabulary_size)], dtype=object)


def _json_keys(components: NDArray[np.int32], vocabulary_size: int) -> NDArray[np.object_]:
    """``"t17":`` of each component."""
    if vocabulary_size > MAX_TABLE:
        return np.array([f'"{codeword(component)}":' for component in components.tolist()], dtype=object)
    named: NDArray[np.object_] = _all_json_keys(vocabulary_size)[components]
    return named


@lru_cache(maxsize=4)
def _decimals(largest: int) -> NDArray[np.object_]:
    return np.array([str(frequency) for frequency in range(largest + 1)], dtype=object)


@dataclass(frozen=True, eq=False)
class TermFrequencies:
    """Term frequencies of N documents or queries over a vocabulary of V codewords.

    Attributes:
        matrix: int32 CSR (N, V), indices sorted within each row, every stored value in 1…65,535. Row n, column i is how
            often codeword ``t{i}`` occurs in the surrogate text of document n.

    Raises:
        InvalidInput: a stored value is not in 1…65,535, or the matrix is not two-dimensional.
    """

    matrix: sparse.csr_array

    def __post_init__(self) -> None:
        matrix = self.matrix if isinstance(self.matrix, sparse.csr_array) else sparse.csr_array(self.matrix)
        if matrix.ndim != 2:
            raise InvalidInput(f"term frequencies are a matrix (N, V); got {matrix.ndim} dimension(s)")
        with np.errstate(invalid="ignore"):  # infinity has no remainder
            whole = matrix.dtype.kind in "iu" or not np.any(matrix.data % 1 != 0)
        if matrix.nnz and not (whole and matrix.data.min() >= 1 and matrix.data.max() <= MAX_TERM_FREQUENCY):
            raise InvalidInput(
                f"term frequencies are whole numbers from 1 to {MAX_TERM_FREQUENCY}; "
                f"got values from {matrix.data.min()} to {matrix.data.max()}"
            )
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if matrix.dtype != np.int32:
            matrix = matrix.astype(np.int32)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def from_terms(cls, documents: Sequence[Mapping[str, int]], *, vocabulary_size: int) -> TermFrequencies:
        """Read back what `to_terms` wrote.

        Args:
            documents: one mapping of codeword to term frequency a document.
            vocabulary_size: V.

        Raises:
            InvalidInput: a name is not a codeword of this vocabulary, or a frequency is not in 1…65,535.
        """
        if not isinstance(documents, Sequence) or not all(isinstance(terms, Mapping) for terms in documents):
            raise InvalidInput("expected a sequence of documents, each a mapping of codeword to term frequency")
        indptr = np.zeros(len(documents) + 1, dtype=np.int32)
        indices: list[int] = []
        data: list[int] = []
        for row, terms in enumerate(documents):
            for name, frequency in terms.items():
                # No codeword is longer than the last one: int() itself refuses thousands of digits.
                short = isinstance(name, str) and len(name) <= len(codeword(vocabulary_size))
                component = int(name[1:]) if short and name[:1] == "t" and name[1:].isdecimal() else -1
                if not 0 <= component < vocabulary_size or name != codeword(component):
                    raise InvalidInput(
                        f"{name!r} is not a codeword of this vocabulary; expected t0 to {codeword(vocabulary_size - 1)}"
                    )
                indices.append(component)
                data.append(frequency)
            indptr[row + 1] = len(indices)
        frequencies = _whole_numbers(data)
        arrays = (frequencies, np.array(indices, dtype=np.int32), indptr)
        return cls(sparse.csr_array(arrays, shape=(len(documents), vocabulary_size)))

    def __len__(self) -> int:
        """N, the number of documents or queries."""
        return int(self.matrix.shape[0])

    def __getitem__(self, rows: slice) -> TermFrequencies:
        """A slice of the documents."""
        return TermFrequencies(self.matrix[rows])

    def __repr__(self) -> str:
        return f"TermFrequencies({len(self)} × {self.vocabulary_size}, {self.matrix.nnz} postings)"

    @property
    def vocabulary_size(self) -> int:
        """V, the number of codewords."""
        return int(self.matrix.shape[1])

    def rows(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """(components, frequencies) of each document: int32 (k,) each, components ascending."""
        matrix = self.matrix
        for start, stop in pairwise(matrix.indptr):
            yield matrix.indices[start:stop], matrix.data[start:stop]

    def to_terms(self) -> list[dict[str, int]]:
        """The compact form: one ``{"t17": 42, …}`` a document."""
        return [
            {codeword(component): frequency for component, frequency in zip(*map(np.ndarray.tolist, row), strict=True)}
            for row in self.rows()
        ]

    def to_json(self) -> list[str]:
        """`to_terms` as JSON text without spaces, several times faster than serialising the dictionaries."""
        if not self.matrix.nnz:
            return ["{}"] * len(self)
        decimals = _decimals(int(self.matrix.data.max()))
        pairs: Any = _json_keys(self.matrix.indices, self.vocabulary_size) + decimals[self.matrix.data]
        bounds = self.matrix.indptr.tolist()
        return ["{" + ",".join(pairs[start:stop]) + "}" for start, stop in pairwise(bounds)]

    def to_text(self) -> list[str]:
        """The surrogate text of the paper (Section 3): each codeword repeated as often as its term frequency says."""
        return [
            " ".join(
                codeword(component)
                for component, frequency in zip(*map(np.ndarray.tolist, row), strict=True)
                for _ in range(frequency)
            )
            for row in self.rows()
        ]


def _whole_numbers(frequencies: list[Any]) -> NDArray[np.integer[Any]]:
    """The frequencies of all documents as one array (postings,)."""
    try:
        array = np.array(frequencies) if frequencies else np.zeros(0, dtype=np.int32)
    except (ValueError, OverflowError):  # nested, or of more than 64 bits
        array = np.array(frequencies, dtype=object)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array
    wrong = next((value for value in frequencies if not isinstance(value, int | np.integer)), max(frequencies, key=str))
    raise InvalidInput(f"term frequencies are whole numbers from 1 to {MAX_TERM_FREQUENCY}; got {wrong!r}")
