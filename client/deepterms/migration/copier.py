"""Copying: every document of one index into another, again and again until the other has caught up with its writers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from deepterms.cluster.bulk import BulkLine
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import is_incomplete
from deepterms.cluster.scroll import check_hits, scroll_pages
from deepterms.errors import ClusterError, MigrationFailed
from deepterms.results import Failure
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.stored_documents import STORED, build_address, build_rewrite_lines

__all__ = ["STORED", "Copier", "copy_lines"]

DOCUMENTS_PER_PAGE = 500  # 2,048-d with K = 400: 8 MB
IDS_PER_PAGE = 2_000
THREADS = 2
MAX_FAILURES = 1_000


def copy_lines(
    hits: Sequence[Mapping[str, Any]], *, spec: IndexSpec, keep_terms: bool
) -> tuple[list[BulkLine], tuple[Failure, ...]]:
    """The lines of a bulk request that write stored documents into another index.

    The sequence number of the old document becomes the version of the new one, so an older copy never replaces a
    newer, and what is there already can be told from what is not.

    Args:
        hits: of a search with `STORED`.
        spec: of the other index; both store vectors in its type, and their bytes are copied as they are.
        keep_terms: take stored terms as they are, since the encoder is the same; else encode the stored vectors.

    Returns:
        The lines, and the documents that cannot be copied.
    """
    return build_rewrite_lines(hits, spec=spec, keep_terms=keep_terms, action=_action)


class Copier:
    """Brings one index up to date with another.

    A pass of `catch_up` copies what was written since the last. Each shard numbers its writes; a pass first notes how
    far every shard has got, then refreshes, then copies all beyond the number noted by the pass before. What is written
    meanwhile has a larger number than was noted, so the next pass sees it. A delete leaves nothing to copy: `extra`
    says how many documents too many there are, and `remove_deleted` looks for them.

    Args:
        cluster: where both are.
        source: the concrete index to copy, which may be written to.
        target: the concrete index to write, in which nobody else writes.
        spec: of the target.
        keep_terms: as in `copy_lines`.
        resume: the target holds something already; documents that are there as they should be are not sent again.
        guard: called before each page is written; raises to stop.

    Attributes:
        copied: documents written.
        deleted: documents removed.
        skipped: documents that were there already.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: str,
        target: str,
        *,
        spec: IndexSpec,
        keep_terms: bool,
        resume: bool,
        guard: Callable[[], None],
    ) -> None:
        self.cluster = cluster
        self.source = source
        self.target = target
        self.copied = self.deleted = self.skipped = 0
        self._spec = spec
        self._keep_terms = keep_terms
        self._resume = resume
        self._guard = guard
        self._marks: dict[str, int] = {}  # shard → the sequence number up to which all is copied
        # A replica may lag behind where segments are replicated, which only OpenSearch does.
        self._primary = "_primary" if cluster.engine.name == "opensearch" else None

    def catch_up(self, on_progress: Callable[[int], None] | None = None) -> int:
        """Copy what was written since the last pass; the first pass copies everything.

        Args:
            on_progress: called with the number of documents of each page that is done.

        Returns:
            How many documents the pass found.

        Raises:
            MigrationFailed: documents cannot be copied; names the first.
        """
        marks = self._written_up_to()
        self._refresh(self.source)
        if self._resume and not self._marks:
            self._refresh(self.target)
        found = 0
        failed: list[Failure] = []
        waiting: deque[tuple[int, Future[tuple[int, list[Failure]]]]] = deque()

        def collect() -> None:
            count, sent = waiting.popleft()
            copied, refused = sent.result()
            self.copied += copied
            self.skipped += count - copied - len(refused)
            failed.extend(refused)
            if len(failed) >= MAX_FAILURES:
                raise _not_copied(failed, self.target)
            if on_progress is not None:
                on_progress(count)

        with ThreadPoolExecutor(THREADS, thread_name_prefix="deepterms-copy") as pool:
            for shard in marks:
                body = {**STORED, "query": {"range": {"_seq_no": {"gt": self._marks.get(shard, -1)}}}}
                for page in self._pages(self.source, body, size=DOCUMENTS_PER_PAGE, shard=shard):
                    self._guard()
                    found += len(page)
                    waiting.append((len(page), pool.submit(self._copy, page)))
                    while len(waiting) > THREADS:
                        collect()
            while waiting:
                collect()
        if failed:
            raise _not_copied(failed, self.target)
        self._marks = marks
        return found

    def remove_deleted(self) -> None:
        """Delete from the target what the source no longer holds."""
        self._refresh(self.source)
        self._refresh(self.target)
        for page in self._pages(self.target, {"_source": False}, size=IDS_PER_PAGE):
            there = {hit["_id"] for hit in self._with_ids(self.source, page)}
            gone = [hit for hit in page if hit["_id"] not in there]
            if gone:
                self._guard()
                lines: list[BulkLine] = [({"delete": build_address(hit)}, None) for hit in gone]
                failed = [Failure(*outcome) for outcome in self.cluster.bulk(lines, index=self.target).failed]
                if failed:
                    raise _not_copied(failed, self.target)
                self.deleted += len(gone)

    def extra(self) -> int:
        """How many documents more the target has than the source; negative if fewer."""
        for index in (self.source, self.target):
            self._refresh(index)
        return self._count(self.target) - self._count(self.source)

    def _copy(self, page: list[dict[str, Any]]) -> tuple[int, list[Failure]]:
        """How many documents of a page were copied, and which cannot be; the rest was there already."""
        hits = page
        if self._resume and not self._marks:
            there = {hit["_id"]: hit["_version"] for hit in self._with_ids(self.target, page)}
            hits = [hit for hit in page if there.get(hit["_id"]) != hit["_seq_no"]]
        lines, failed = copy_lines(hits, spec=self._spec, keep_terms=self._keep_terms)
        result = self.cluster.bulk(lines, index=self.target)
        rejected = [Failure(identifier, why) for identifier, why in result.failed]
        return result.succeeded, [*failed, *rejected]

    def _with_ids(self, index: str, hits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The documents of another index that have the ids of these."""
        body = {
            "query": {"ids": {"values": [hit["_id"] for hit in hits]}},
            "size": len(hits),
            "_source": False,
            "version": True,
        }
        return check_hits(self.cluster.request("POST", f"/{index}/_search", body=body, params=self._prefer()))

    def _pages(
        self, index: str, body: Mapping[str, Any], *, size: int, shard: str | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """All hits of a search as of now, or those of one shard."""
        return scroll_pages(self.cluster, index, body, size=size, params=self._prefer(shard))

    def _prefer(self, shard: str | None = None) -> dict[str, str]:
        parts = [part for part in (f"_shards:{shard}" if shard else None, self._primary) if part]
        return {"preference": "|".join(parts)} if parts else {}

    def _count(self, index: str) -> int:
        answer = self.cluster.request("POST", f"/{index}/_count", params=self._prefer())
        if is_incomplete(answer):
            raise ClusterError(f"a shard of {index} failed while its documents were counted; run this again")
        return int(answer["count"])

    def _refresh(self, index: str) -> None:
        self.cluster.request("POST", f"/{index}/_refresh")

    def _written_up_to(self) -> dict[str, int]:
        """Shard → the sequence number up to which every copy of it has all writes."""
        answer = self.cluster.request("GET", f"/{self.source}/_stats/docs", params={"level": "shards"})
        shards = answer["indices"][self.source]["shards"]
        return {
            shard: next(copy["seq_no"]["global_checkpoint"] for copy in copies if copy["routing"]["primary"])
            for shard, copies in shards.items()
        }


def _action(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": {**build_address(hit), "version": hit["_seq_no"], "version_type": "external_gte"}}


def _not_copied(failed: Sequence[Failure], target: str) -> MigrationFailed:
    first = "; ".join(f"{failure.id}: {failure.reason}" for failure in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return MigrationFailed(
        f"{len(failed)} documents cannot be copied to {target}: {first}{more}. Mend or delete them in the old index "
        "and run this again; it goes on where it was"
    )
