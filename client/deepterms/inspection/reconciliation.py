"""Reconciliation: which of the documents that should be in an index are not, and which are there beyond them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import is_incomplete
from deepterms.cluster.scroll import scroll_pages
from deepterms.errors import ClusterError, InvalidInput

__all__ = ["MAX_NAMED", "Reconciliation", "reconcile", "reconcile_with"]

MAX_NAMED = 100_000
IDS_PER_REQUEST = 2_000


@dataclass(frozen=True)
class Reconciliation:
    """An index against the ids that it should hold.

    Attributes:
        expected: how many different ids were given.
        missing: of those, the ones that the index does not hold; the first 100,000 of them.
        extra: ids that it holds beyond them; the first 100,000.
        missing_count: how many are missing in all.
        extra_count: how many are extra in all.
    """

    expected: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    missing_count: int = 0
    extra_count: int = 0

    @property
    def equal(self) -> bool:
        """Whether the index holds exactly what it should."""
        return not self.missing_count and not self.extra_count


def reconcile(cluster: Cluster, name: str, ids: Iterable[str]) -> Reconciliation:
    """Compare an index with the ids that it should hold.

    Each id is asked for as written last, refreshed or not; then the index, as visible to search, is read through once,
    unless it holds no more documents than were found. What is written meanwhile may be reported either way.

    Args:
        cluster: where the index is.
        name: the index or alias.
        ids: read once, in pieces; 8 bytes an id are kept, and at most 100,000 ids of each kind are named.

    Raises:
        InvalidInput: ids is one text.
        ClusterError: a shard did not answer, so that nothing certain can be said.
    """
    path = build_index_path(name)

    def present(piece: list[str]) -> set[str]:
        answer = cluster.request("POST", f"{path}/_mget", body={"ids": piece}, params={"_source": "false"})
        for document in answer["docs"]:
            if "error" in document:
                raise ClusterError(f"the cluster cannot say whether {document['_id']!r} is in {name!r}; run this again")
        return {document["_id"] for document in answer["docs"] if document["found"]}

    def held() -> Iterator[list[str]]:
        cluster.request("POST", f"{path}/_refresh")
        # A replica may lag behind where segments are replicated, which only OpenSearch does.
        params = {"preference": "_primary"} if cluster.engine.name == "opensearch" else {}
        for page in scroll_pages(cluster, name, {"_source": False}, size=IDS_PER_REQUEST, params=params):
            yield [hit["_id"] for hit in page]

    def count() -> int:
        cluster.request("POST", f"{path}/_refresh")
        answer = cluster.request("POST", f"{path}/_count")
        if is_incomplete(answer):
            raise ClusterError(f"a shard of {name!r} did not answer while documents were counted; run this again")
        return int(answer["count"])

    return reconcile_with(ids, present=present, held=held, count=count)


def reconcile_with(
    ids: Iterable[str],
    *,
    present: Callable[[list[str]], set[str]],
    held: Callable[[], Iterable[list[str]]],
    count: Callable[[], int],
) -> Reconciliation:
    """The comparison itself, without knowing what holds the documents.

    Args:
        ids: that should be there.
        present: which of a piece of ids are.
        held: all ids that are there, in pieces.
        count: how many there are.
    """
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one text, {ids!r}; expected a stream of ids")
    hashes: list[NDArray[np.uint64]] = []
    missing: dict[str, None] = {}
    absent: list[NDArray[np.uint64]] = []
    remaining = iter(ids)
    while piece := list(islice(remaining, IDS_PER_REQUEST)):
        there = present(list(dict.fromkeys(piece)))
        gone = [identifier for identifier in piece if identifier not in there]
        missing.update(dict.fromkeys(gone[: max(0, MAX_NAMED - len(missing))]))
        hashes.append(_hashes(piece))
        absent.append(_hashes(gone))
    expected = _distinct(hashes)
    missing_count = len(_distinct(absent))
    extra: list[str] = []
    extra_count = 0
    if count() != len(expected) - missing_count:
        for page in held():
            found = _hashes(page)
            places = np.searchsorted(expected, found)
            places[places == len(expected)] = 0
            unknown = expected[places] != found if len(expected) else np.ones(len(found), dtype=np.bool_)
            beyond = [page[position] for position in np.nonzero(unknown)[0].tolist()]
            extra_count += len(beyond)
            extra += beyond[: max(0, MAX_NAMED - len(extra))]
    return Reconciliation(len(expected), tuple(missing), tuple(extra), missing_count, extra_count)


def _hashes(ids: list[str]) -> NDArray[np.uint64]:
    """64 bits an id: two of ten million ids share theirs with a chance of 3 in a million."""
    digests = b"".join(
        hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8).digest() for identifier in ids
    )
    return np.frombuffer(digests, dtype=np.uint64)


def _distinct(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.unique(np.concatenate(hashes)) if hashes else np.empty(0, dtype=np.uint64)
