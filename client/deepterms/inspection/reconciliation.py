"""Reconciliation: a stream of expected ids compared with an index, giving missing and extra ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import extract_reason
from deepterms.cluster.scroll import scroll_pages
from deepterms.errors import ClusterError
from deepterms.schema.aligned import Ids, read_id, read_id_pieces

__all__ = ["MAX_NAMED", "Reconciliation", "hash_ids", "reconcile", "reconcile_with"]

MAX_NAMED = 100_000
IDS_PER_REQUEST = 2_000


@dataclass(frozen=True)
class Reconciliation:
    """The difference between an index and the ids that it should hold.

    Attributes:
        expected: number of distinct expected ids.
        missing: expected ids that the index does not hold, at most 100,000 of them.
        extra: ids that the index holds but were not expected, at most 100,000 of them.
        missing_count: number of all missing ids.
        extra_count: number of all extra ids.
    """

    expected: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    missing_count: int = 0
    extra_count: int = 0

    @property
    def equal(self) -> bool:
        """Whether the index holds exactly the expected ids."""
        return not self.missing_count and not self.extra_count


def reconcile(cluster: Cluster, name: str, ids: Ids) -> Reconciliation:
    """Compare an index with the ids that it should hold.

    Expected ids are looked up in real time, refreshed or not. Then the index is refreshed, and all its ids are read
    once, unless it holds no more documents than were found. Documents that others write or delete during the call may
    be reported either way.

    Args:
        cluster: the cluster that holds the index.
        name: the index or alias.
        ids: expected ids; read once, in pieces, keeping 8 bytes per id.

    Returns:
        Both counts, and at most 100,000 ids of each kind.

    Raises:
        InvalidInput: ids is a single string, or has something that is not an id.
        ClusterError: a shard did not answer, so the result would be uncertain.
    """
    path = build_index_path(name)

    def find_present(piece: list[str]) -> set[str]:
        answer = cluster.request("POST", f"{path}/_mget", body={"ids": piece}, params={"_source": "false"})
        for document in answer["docs"]:
            if "error" in document:
                raise ClusterError(
                    f"the cluster cannot say whether {document['_id']!r} is in {name!r}: "
                    f"{extract_reason(document['error'])}"
                )
        return {document["_id"] for document in answer["docs"] if document["found"]}

    def read_ids() -> Iterator[list[str]]:
        cluster.request("POST", f"{path}/_refresh")
        # With segment replication, an OpenSearch feature, a replica may lag behind.
        params = {"preference": "_primary"} if cluster.engine.name == "opensearch" else {}
        for page in scroll_pages(cluster, name, {"_source": False}, size=IDS_PER_REQUEST, params=params):
            yield [hit["_id"] for hit in page]

    def count() -> int:
        cluster.request("POST", f"{path}/_refresh")
        return cluster.count(name)

    return reconcile_with(ids, find_present=find_present, read_ids=read_ids, count=count)


def reconcile_with(
    ids: Ids,
    *,
    find_present: Callable[[list[str]], set[str]],
    read_ids: Callable[[], Iterable[list[str]]],
    count: Callable[[], int],
) -> Reconciliation:
    """Compare expected ids with any store of documents.

    Args:
        ids: expected ids.
        find_present: returns those of a piece of ids that the store holds.
        read_ids: returns all ids that the store holds, in pieces; called only if there are extra documents.
        count: returns the number of documents that the store holds.

    Returns:
        Both counts, and at most 100,000 ids of each kind.

    Raises:
        InvalidInput: ids is a single string, or has something that is not an id.
    """
    hashes: list[NDArray[np.uint64]] = []
    missing: dict[str, None] = {}
    absent: list[NDArray[np.uint64]] = []
    for given in read_id_pieces(ids, IDS_PER_REQUEST):
        piece = [read_id(identifier) for identifier in given]
        there = find_present(list(dict.fromkeys(piece)))
        gone = [identifier for identifier in piece if identifier not in there]
        missing.update(dict.fromkeys(gone[: max(0, MAX_NAMED - len(missing))]))
        hashes.append(hash_ids(piece))
        absent.append(hash_ids(gone))
    expected = _deduplicate(hashes)
    missing_count = len(_deduplicate(absent))
    extra: list[str] = []
    extra_count = 0
    if count() != len(expected) - missing_count:
        for page in read_ids():
            found = hash_ids(page)
            places = np.searchsorted(expected, found)
            places[places == len(expected)] = 0
            unknown = expected[places] != found if len(expected) else np.ones(len(found), dtype=np.bool_)
            beyond = [page[position] for position in np.nonzero(unknown)[0].tolist()]
            extra_count += len(beyond)
            extra += beyond[: max(0, MAX_NAMED - len(extra))]
    return Reconciliation(len(expected), tuple(missing), tuple(extra), missing_count, extra_count)


def hash_ids(ids: list[str]) -> NDArray[np.uint64]:
    """Hash each id to 64 bits; any two of ten million ids collide with a probability of 3 in a million."""
    digests = b"".join(
        hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8).digest() for identifier in ids
    )
    return np.frombuffer(digests, dtype=np.uint64)


def _deduplicate(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.unique(np.concatenate(hashes)) if hashes else np.empty(0, dtype=np.uint64)
