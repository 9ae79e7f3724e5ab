"""Term frequencies: from a sparse matrix, one row per document or query, to the JSON or text that an engine indexes."""

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

# The maximum of both ingest pipelines and of MemoryIndex, whose postings are uint16.
MAX_TERM_FREQUENCY = 65_535

# Vocabularies up to this size have their JSON keys cached: 2^17 keys take about ten megabytes.
MAX_CACHED_VOCABULARY = 2**17


def codeword(component: int) -> str:
    """Name a component: ``t17``. Names contain no dot, which engines would read as a path."""
    return f"t{component}"


@lru_cache(maxsize=4)
def _build_json_keys(vocabulary_size: int) -> NDArray[np.object_]:
    return np.array([f'"{codeword(component)}":' for component in range(vocabulary_size)], dtype=object)


def _name_json_keys(components: NDArray[np.int32], vocabulary_size: int) -> NDArray[np.object_]:
    """Return the JSON key of each component: ``"t17":``."""
    if vocabulary_size > MAX_CACHED_VOCABULARY:
        return np.array([f'"{codeword(component)}":' for component in components.tolist()], dtype=object)
    keys: NDArray[np.object_] = _build_json_keys(vocabulary_size)[components]
    return keys


@lru_cache(maxsize=4)
def _build_decimals(largest: int) -> NDArray[np.object_]:
    return np.array([str(frequency) for frequency in range(largest + 1)], dtype=object)


@dataclass(frozen=True, eq=False)
class TermFrequencies:
    """Term frequencies of N documents or queries over a vocabulary of V codewords.

    Attributes:
        matrix: int32 CSR (N, V), indices sorted within each row, every stored value in 1…65,535. Row n, column i holds
            the number of times that codeword ``t{i}`` occurs in the surrogate text of document n.

    Raises:
        InvalidInput: a stored value is not in 1…65,535, or the matrix is not two-dimensional.
    """

    matrix: sparse.csr_array

    def __post_init__(self) -> None:
        matrix = self.matrix if isinstance(self.matrix, sparse.csr_array) else sparse.csr_array(self.matrix)
        if matrix.ndim != 2:
            raise InvalidInput(f"term frequencies must be a matrix (N, V); got {matrix.ndim} dimension(s)")
        with np.errstate(invalid="ignore"):  # infinity has no remainder
            whole = matrix.dtype.kind in "iu" or not np.any(matrix.data % 1 != 0)
        if matrix.nnz and not (whole and matrix.data.min() >= 1 and matrix.data.max() <= MAX_TERM_FREQUENCY):
            raise InvalidInput(
                f"term frequencies must be whole numbers from 1 to {MAX_TERM_FREQUENCY}; "
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
        """Build term frequencies from the output of `to_terms`.

        Args:
            documents: one mapping of codeword to term frequency per document.
            vocabulary_size: V.

        Raises:
            InvalidInput: a name is not a codeword of this vocabulary, or a frequency is not in 1…65,535.
        """
        if not isinstance(documents, Sequence) or not all(isinstance(terms, Mapping) for terms in documents):
            raise InvalidInput("documents must be a sequence of mappings from codeword to term frequency")
        indptr = np.zeros(len(documents) + 1, dtype=np.int32)
        indices: list[int] = []
        data: list[int] = []
        for row, terms in enumerate(documents):
            for name, frequency in terms.items():
                # No codeword is longer than the last one; int() raises for thousands of digits.
                short = isinstance(name, str) and len(name) <= len(codeword(vocabulary_size))
                component = int(name[1:]) if short and name[:1] == "t" and name[1:].isdecimal() else -1
                if not 0 <= component < vocabulary_size or name != codeword(component):
                    raise InvalidInput(
                        f"{name!r} is not a codeword of this vocabulary; expected t0 to {codeword(vocabulary_size - 1)}"
                    )
                indices.append(component)
                data.append(frequency)
            indptr[row + 1] = len(indices)
        frequencies = _as_whole_numbers(data)
        arrays = (frequencies, np.array(indices, dtype=np.int32), indptr)
        return cls(sparse.csr_array(arrays, shape=(len(documents), vocabulary_size)))

    def __len__(self) -> int:
        """N, the number of documents or queries."""
        return int(self.matrix.shape[0])

    def __getitem__(self, rows: slice) -> TermFrequencies:
        """Select a slice of the documents."""
        return TermFrequencies(self.matrix[rows])

    def __repr__(self) -> str:
        return f"TermFrequencies({len(self)} × {self.vocabulary_size}, {self.matrix.nnz} postings)"

    @property
    def vocabulary_size(self) -> int:
        """V, the number of codewords."""
        return int(self.matrix.shape[1])

    def rows(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Iterate over documents as (components, frequencies), int32 (k,) each, components ascending."""
        matrix = self.matrix
        for start, stop in pairwise(matrix.indptr):
            yield matrix.indices[start:stop], matrix.data[start:stop]

    def to_terms(self) -> list[dict[str, int]]:
        """Convert to the compact form: one ``{"t17": 42, …}`` per document."""
        return [
            {codeword(component): frequency for component, frequency in zip(*map(np.ndarray.tolist, row), strict=True)}
            for row in self.rows()
        ]

    def to_json(self) -> list[str]:
        """Convert to the JSON of `to_terms` without spaces, several times faster than serialising the dictionaries."""
        if not self.matrix.nnz:
            return ["{}"] * len(self)
        decimals = _build_decimals(int(self.matrix.data.max()))
        pairs: Any = _name_json_keys(self.matrix.indices, self.vocabulary_size) + decimals[self.matrix.data]
        bounds = self.matrix.indptr.tolist()
        return ["{" + ",".join(pairs[start:stop]) + "}" for start, stop in pairwise(bounds)]

    def to_text(self) -> list[str]:
        """Convert to the surrogate text of the paper (Section 3): each codeword repeated by its term frequency."""
        return [
            " ".join(
                codeword(component)
                for component, frequency in zip(*map(np.ndarray.tolist, row), strict=True)
                for _ in range(frequency)
            )
            for row in self.rows()
        ]


def _as_whole_numbers(frequencies: list[Any]) -> NDArray[np.integer[Any]]:
    """Convert the frequencies of all documents to one integer array (postings,)."""
    try:
        array = np.array(frequencies) if frequencies else np.zeros(0, dtype=np.int32)
    except (ValueError, OverflowError):  # nested, or of more than 64 bits
        array = np.array(frequencies, dtype=object)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return array
    wrong = next((value for value in frequencies if not isinstance(value, int | np.integer)), max(frequencies, key=str))
    raise InvalidInput(f"term frequencies must be whole numbers from 1 to {MAX_TERM_FREQUENCY}; got {wrong!r}")
