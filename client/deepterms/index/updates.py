"""Updates: documents read whole and written back, or deleted, only if nobody changed them in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from deepterms.cluster.bulk import BulkLine, BulkResult
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.patience import Patience
from deepterms.cluster.scroll import check_hits, scroll_pages
from deepterms.errors import ClusterError
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.index.sending import build_report, find_stale, send
from deepterms.results import Failure, WriteReport
from deepterms.schema.aligned import Ids, MetadataRows, align_metadata
from deepterms.schema.documents import build_condition, select_usable_documents
from deepterms.schema.stored_documents import STORED, build_address, build_rewrite_lines, read_revision
from deepterms.search.date_filters import check_date_filter
from deepterms.search.filters import Filter, normalise_filter

__all__ = ["delete_by_filter", "update_metadata"]

DOCUMENTS_PER_READ = 500  # 2,048 dimensions with K = 400: 8 MB
DELETES_PER_READ = 1_000


def update_metadata(handle: IndexHandle, ids: Ids, metadata: MetadataRows) -> WriteReport:
    """Implement `SurrogateIndex.update_metadata`."""
    listed, about = align_metadata(ids, metadata)
    kept, usable, failed = select_usable_documents(listed, about)
    report = WriteReport(0, failed)
    patience = Patience(handle.cluster.backpressure)
    remaining: Iterator[tuple[str, dict[str, Any]]] = zip([listed[row] for row in kept], usable, strict=True)
    while page := dict(islice(remaining, DOCUMENTS_PER_READ)):
        report += _update(handle, page, patience)
    return report


def delete_by_filter(handle: IndexHandle, filter: Filter) -> WriteReport:
    """Implement `SurrogateIndex.delete_by_filter`."""
    query = normalise_filter(filter)
    report, state = WriteReport(0), confirm_state(handle)
    check_date_filter(handle.cluster, handle.name, query)
    patience = Patience(handle.cluster.backpressure)
    body = {"query": query, "_source": False, "seq_no_primary_term": True}
    for page in scroll_pages(handle.cluster, handle.name, body, size=DELETES_PER_READ):
        # Sequence numbers are those of one index: in another, the condition may hold for some other write.
        if not confirm_state(handle).is_same_index(state):
            raise ClusterError(
                f"{handle.name!r} now points to another index; {report.succeeded} documents were deleted from the one "
                "before. Call this again"
            )
        lines: list[BulkLine] = [
            ({"delete": {**build_address(hit), **build_condition(read_revision(hit))}}, None) for hit in page
        ]
        report += build_report(send(handle, lines, state, patience=patience))
    return report


def _update(handle: IndexHandle, wanted: Mapping[str, dict[str, Any]], patience: Patience) -> WriteReport:
    """Read documents and write them back with new metadata; repeat those that moved to another index."""
    body = {**STORED, "query": {"ids": {"values": list(wanted)}}, "size": len(wanted)}
    now = confirm_state(handle)
    for _ in range(MAX_REOPENINGS):
        state = now
        try:
            hits = check_hits(handle.cluster.request("POST", build_index_path(handle.name, "/_search"), body=body))
        except ClusterError as error:
            return WriteReport(0, tuple(Failure(identifier, str(error)) for identifier in wanted))
        now = confirm_state(handle)
        if now.is_same_index(state):  # the name pointed to one index before and after reading
            break
    else:
        moved = f"{handle.name!r} was replaced {MAX_REOPENINGS} times while documents were read; update them again"
        return WriteReport(0, tuple(Failure(identifier, moved) for identifier in wanted))
    found = {hit["_id"] for hit in hits}
    why = f"no such document in {handle.name!r}; if it was just added, call refresh() first"
    lines, failed = build_rewrite_lines(
        hits,
        spec=state.spec,
        keep_terms=True,
        action=_write_if_unchanged,
        metadata=wanted,
        fingerprint=state.fingerprint,
    )
    result = send(handle, lines, state, patience=patience)
    stale = find_stale(result, state)
    if stale and not read_again(handle).is_same_index(state):
        # The name moved to another index between reading and writing.
        fine = tuple(answer for answer in result.answers if answer.id not in stale)
        again = _update(
            handle, {identifier: wanted[identifier] for identifier in wanted if identifier in stale}, patience
        )
        report = build_report(BulkResult(fine)) + again
    else:
        report = build_report(result)
    absent = tuple(Failure(identifier, why) for identifier in wanted if identifier not in found)
    return report + WriteReport(0, failed + absent)


def _write_if_unchanged(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": {**build_address(hit), **build_condition(read_revision(hit))}}
