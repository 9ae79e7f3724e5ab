"""Aligned arguments: ids, metadata and revisions in any container to plain lists, by position and never by label.

An id is a text; an integer is taken as its decimal digits. Containers are recognised by what they offer, not by their
type, so that none of their libraries is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features, as_array
from deepterms.errors import InvalidInput
from deepterms.results import Failure, Revision
from deepterms.schema.json_values import is_missing, read_name, to_json_object
from deepterms.terms import TermFrequencies

__all__ = [
    "AlignedDocuments",
    "Ids",
    "MetadataRows",
    "Table",
    "align_documents",
    "align_metadata",
    "check_terms",
    "find_id_fault",
    "list_values",
    "read_id",
    "read_id_pieces",
    "select_ids",
]

MAX_ID_BYTES = 512  # the limit of both engines


class Table(Protocol):
    """A table of pandas, polars or Arrow."""

    @property
    def columns(self) -> Any:
        """Names or contents of the columns."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...


Ids = Iterable[str] | Iterable[int]
MetadataRows = Iterable[Mapping[str, Any] | None] | Table


class AlignedDocuments(NamedTuple):
    """The parts of N documents, aligned by position.

    Attributes:
        ids: N ids; texts, except for those that no document can have.
        content: numbers (N, D) as the caller has them, or terms (N, V).
        metadata: N rows, or None.
        revisions: N expected revisions, or None.
    """

    ids: list[Any]
    content: NDArray[Any] | TermFrequencies
    metadata: list[Any] | None
    revisions: list[Revision | None] | None

    def select(self, rows: slice) -> AlignedDocuments:
        """Select a slice of the documents; of a memory-mapped array, a view."""
        about, expected = self.metadata, self.revisions
        return AlignedDocuments(
            self.ids[rows],
            self.content[rows],
            None if about is None else about[rows],
            None if expected is None else expected[rows],
        )


def align_documents(
    ids: Ids,
    content: Features | TermFrequencies,
    metadata: MetadataRows | None,
    revisions: Iterable[Revision | None] | None = None,
) -> AlignedDocuments:
    """Align the parts of documents by position.

    Args:
        ids: N ids.
        content: features (N, D), (D,) for one document, or terms (N, V).
        metadata: N mappings, or a table of N rows; None for a row, or a missing cell of a table, is no metadata.
        revisions: N expected revisions, or None.

    Raises:
        InvalidInput: the lengths differ, or an argument is not a container with an order.
    """
    what = "terms" if isinstance(content, TermFrequencies) else "features"
    listed = _list_ids(ids, ordered=True)
    rows = content if isinstance(content, TermFrequencies) else _as_rows(content)
    about = None if metadata is None else _list_metadata(metadata)
    expected = None if revisions is None else _list_revisions(revisions)
    given = {what: rows, "metadata": about, "revisions": expected}
    lengths = {name: len(values) for name, values in given.items() if values is not None}
    if set(lengths.values()) != {len(listed)}:
        got = ", ".join(f"{count} {name}" for name, count in lengths.items())
        names = " and ".join([", ".join(["ids", *lengths][:-1]), list(lengths)[-1]])
        raise InvalidInput(f"{names} are aligned by position; got {len(listed)} ids, {got}")
    return AlignedDocuments(listed, rows, about, expected)


def align_metadata(ids: Ids, metadata: MetadataRows) -> tuple[list[Any], list[Any]]:
    """Align ids with metadata by position; see `align_documents`."""
    listed, about = _list_ids(ids, ordered=True), _list_metadata(metadata)
    if len(listed) != len(about):
        raise InvalidInput(f"ids and metadata are aligned by position; got {len(listed)} ids, {len(about)} metadata")
    return listed, about


def check_terms(terms: TermFrequencies) -> TermFrequencies:
    """Return term frequencies.

    Raises:
        InvalidInput: they are something else, such as a matrix or mappings.
    """
    if not isinstance(terms, TermFrequencies):
        raise InvalidInput(
            f"terms is a {type(terms).__name__}; expected TermFrequencies: make them with index.encoder.encode, "
            "TermFrequencies(matrix) or TermFrequencies.from_terms"
        )
    return terms


def read_id(identifier: object) -> str:
    """Return the id of one document as text.

    Raises:
        InvalidInput: no document can have this id.
    """
    text = _to_text(identifier)
    if fault := find_id_fault(text):
        raise InvalidInput(f"the id of a document cannot be {identifier!r:.80}: {fault}")
    return str(text)


def read_id_pieces(ids: Ids, size: int) -> Iterator[list[Any]]:
    """Read ids in pieces, once; their order has no meaning, so a set is fine. Integers become texts.

    Raises:
        InvalidInput: ids is a single text or a table, or none of the first piece can be an id.
    """
    remaining = iter(_list_container(ids, "ids", ordered=False))
    piece = [_to_text(identifier) for identifier in islice(remaining, size)]
    _check_id_types(piece)
    while piece:
        yield piece
        piece = [_to_text(identifier) for identifier in islice(remaining, size)]


def select_ids(ids: Iterable[Any]) -> tuple[list[str], tuple[Failure, ...]]:
    """Separate ids that a document can have from the others."""
    faults = [(identifier, find_id_fault(identifier)) for identifier in ids]
    failed = (Failure(str(identifier), fault) for identifier, fault in faults if fault)
    return [identifier for identifier, fault in faults if not fault], tuple(failed)


def find_id_fault(identifier: object) -> str:
    """Explain why no document can have an id; empty if one can."""
    if not isinstance(identifier, str):
        return f"an id is a text or an integer; got {type(identifier).__name__}"
    try:
        size = len(identifier if identifier.isascii() else identifier.encode())
    except UnicodeEncodeError:
        return "the id contains a lone surrogate, half of a character, which cannot be sent"
    return "" if 1 <= size <= MAX_ID_BYTES else f"an id has 1 to {MAX_ID_BYTES} bytes; got {size}"


def list_values(values: Any, name: str, *, ordered: bool = True) -> list[Any]:
    """List the values of any container of one dimension, by position.

    Args:
        values: a sequence, array, series, view or one-shot iterator.
        name: name of the argument, for the message.
        ordered: whether the order has a meaning; if so, sets and mappings are rejected.

    Raises:
        InvalidInput: it is no such container.
    """
    found = _list_container(values, name, ordered=ordered)
    return found if isinstance(found, list) else list(found)


def _list_container(values: Any, name: str, *, ordered: bool) -> Iterable[Any]:
    """Return the values by position: a list, or whatever else is iterated by position."""
    if type(values) is list:
        return values
    kind = type(values).__name__
    if isinstance(values, str | bytes | bytearray):
        raise InvalidInput(f"{name} is one text, {values!r:.80}; expected a sequence of {name}")
    if hasattr(type(values), "columns"):
        raise InvalidInput(f"{name} is a {kind}; expected one column of it")
    if ordered and isinstance(values, Mapping):
        raise InvalidInput(f"{name} is a {kind}; expected a sequence of {name}, aligned by position")
    if ordered and isinstance(values, Set) and not isinstance(values, KeysView):
        raise InvalidInput(f"{name} is a {kind}, which has no order; expected a sequence, aligned by position")
    if isinstance(values, np.ma.MaskedArray):
        raise InvalidInput(f"{name} is a masked array; expected an array without a mask")
    if getattr(values, "ndim", 1) != 1:
        raise InvalidInput(f"{name} has shape {getattr(values, 'shape', '?')}; expected one dimension")
    for method in ("to_pylist", "tolist", "to_list"):  # of Arrow, numpy, pandas and torch, and polars
        if hasattr(values, method):
            return list(getattr(values, method)())
    try:
        remaining: Iterator[Any] = iter(values)
    except TypeError:
        raise InvalidInput(f"{name} is {values!r:.80}; expected a sequence of {name}") from None
    return remaining


def _list_ids(ids: Any, *, ordered: bool) -> list[Any]:
    listed = list_values(ids, "ids", ordered=ordered)
    if set(map(type, listed)) <= {str}:
        return listed
    listed = [_to_text(identifier) for identifier in listed]
    _check_id_types(listed)
    return listed


def _check_id_types(ids: Sequence[Any]) -> None:
    """Raise InvalidInput if several ids are given and none is a text; a single or missing one is reported later."""
    wrong = [identifier for identifier in ids if not is_missing(identifier)]
    if len(ids) > 1 and wrong and not any(isinstance(identifier, str) for identifier in ids):
        raise InvalidInput(
            f"ids are of type {type(wrong[0]).__name__}, such as {wrong[0]!r:.80}; expected texts or integers: convert "
            "them"
        )


def _to_text(identifier: Any) -> Any:
    """Return a text or an integer as plain text; anything else unchanged."""
    if isinstance(identifier, str):
        return str.__str__(identifier)
    if isinstance(identifier, int | np.integer) and not isinstance(identifier, bool):
        number = int(identifier)
        if number.bit_length() > 8 * MAX_ID_BYTES:  # Python converts no more than some thousands of digits
            raise InvalidInput(f"an id has 1 to {MAX_ID_BYTES} bytes; got {number.bit_length()} bits of an integer")
        return str(number)
    return identifier


def _as_rows(content: Features) -> NDArray[Any]:
    """View features as rows (N, D); one feature (D,) is one row, and nothing is no row."""
    array = as_array(content)
    if array.ndim == 1:
        return array[np.newaxis] if array.size else np.empty((0, 0), dtype=np.float32)
    return array if array.ndim else array[np.newaxis, np.newaxis]


def _list_metadata(metadata: Any) -> list[Any]:
    if isinstance(metadata, Mapping):
        raise InvalidInput(
            f"metadata is one {type(metadata).__name__}; expected one mapping per id, aligned by position: a list"
        )
    if hasattr(type(metadata), "columns"):
        return _read_table(metadata)
    rows = list_values(metadata, "metadata")
    if len(rows) > 1 and not any(isinstance(row, Mapping) or is_missing(row) for row in rows):
        raise InvalidInput(
            f"metadata has rows of type {type(rows[0]).__name__}, such as {rows[0]!r:.80}; expected mappings"
        )
    return rows


def _read_table(table: Any) -> list[dict[str, Any]]:
    """Read the rows of a table by position, without the cells that are missing: None, NaN, NA and NaT."""
    kind = type(table).__name__
    options: dict[str, Any] = {}
    if hasattr(table, "iloc"):  # pandas
        columns, read, options = table.columns, "to_dict", {"orient": "records"}
    elif hasattr(table, "iter_rows"):  # polars
        columns, read, options = table.columns, "iter_rows", {"named": True}
    elif hasattr(table, "to_pylist"):  # Arrow
        columns, read = table.schema.names, "to_pylist"
    else:
        raise InvalidInput(f"metadata is a {kind}, which is no table in memory; pass a list of dicts")
    names = [read_name(column, f"metadata, a {kind},") for column in columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"metadata, a {kind}, has several columns {twice!r}; expected different names")
    to_json_object(dict.fromkeys(names), "metadata")  # rejects a name once, not in every row
    rows = getattr(table, read)(**options)
    return [{name: value for name, value in row.items() if not is_missing(value)} for row in rows]


def _list_revisions(revisions: Any) -> list[Revision | None]:
    listed = [None if is_missing(revision) else revision for revision in list_values(revisions, "revisions")]
    for place, revision in enumerate(listed):
        if revision is not None and not isinstance(revision, Revision):
            raise InvalidInput(
                f"revisions[{place}] is {revision!r:.80}; expected a Revision, as `get` returns it, or None"
            )
    return listed
