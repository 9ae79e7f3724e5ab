"""Changes to documents that are in an index: each read as a whole, and written only if nobody wrote it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from deepterms.cluster.scroll import hit_pages, hits_of
from deepterms.errors import ClusterError, InvalidInput
from deepterms.index.ingest import Ingest, Target
from deepterms.results import Failure, WriteReport
from deepterms.schema.documents import BulkLine, condition, usable_documents
from deepterms.schema.stored_documents import STORED, address, revision_of, whole_lines

__all__ = ["delete_by_filter", "update_metadata"]

DOCUMENTS_PER_READ = 500  # 2,048 dimensions with K = 400: 8 MB
DELETES_PER_READ = 1_000


def update_metadata(target: Target, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> WriteReport:
    """As `SurrogateIndex.update_metadata`."""
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
    if len(metadata) != len(ids):
        raise InvalidInput(f"ids and metadata are aligned by position; got {len(ids)} ids, {len(metadata)} metadata")
    kept, usable, failed = usable_documents(ids, metadata)
    report = WriteReport(0, failed)
    remaining: Iterator[tuple[str, dict[str, Any]]] = zip([ids[row] for row in kept], usable, strict=True)
    while page := dict(islice(remaining, DOCUMENTS_PER_READ)):
        report += _update(target, page)
    return report


def delete_by_filter(target: Target, filter: Mapping[str, Any]) -> WriteReport:
    """As `SurrogateIndex.delete_by_filter`."""
    report, ingest = WriteReport(0), Ingest(target)
    body = {"query": filter, "_source": False, "seq_no_primary_term": True}
    for page in hit_pages(target.cluster, target.name, body, size=DELETES_PER_READ):
        report += ingest.send([({"delete": {**address(hit), **condition(revision_of(hit))}}, None) for hit in page])
    return report


def _update(target: Target, wanted: Mapping[str, dict[str, Any]]) -> WriteReport:
    """Read some documents and write them with other metadata."""
    encoder, took = target.encoder, set[str]()
    body = {**STORED, "query": {"ids": {"values": list(wanted)}}, "size": len(wanted)}
    try:
        hits = hits_of(target.cluster.request("POST", f"/{quote(target.name, safe='')}/_search", body=body))
    except ClusterError as error:
        return WriteReport(0, tuple(Failure(identifier, str(error)) for identifier in wanted))
    found = {hit["_id"] for hit in hits}
    why = f"no such document in {target.name!r}; if it was added just now, call refresh() first"
    lines: list[BulkLine]
    lines, failed = whole_lines(hits, encoder=encoder, keep_terms=True, action=_unchanged, metadata=wanted)
    report = Ingest(target).send(lines, took)
    if not took <= target.concrete:
        target.reopen()
    if target.encoder.spec() != encoder.spec():
        return _update(target, wanted)  # the name moved between reading and writing
    absent = tuple(Failure(identifier, why) for identifier in wanted if identifier not in found)
    return report + WriteReport(0, failed + absent)


def _unchanged(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": {**address(hit), **condition(revision_of(hit))}}
