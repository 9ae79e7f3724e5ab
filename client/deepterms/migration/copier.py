"""Copying: copies the documents of an index into another one, in passes, until it has caught up with the writers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from deepterms.cluster.bulk import BulkLine
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.scroll import check_hits, scroll_pages
from deepterms.errors import MigrationFailed
from deepterms.results import Failure
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.rejections import explain_rejection
from deepterms.schema.stored_documents import STORED, build_address, build_rewrite_lines
from deepterms.schema.vectors import VectorType

__all__ = ["STORED", "Copier", "build_copy_lines"]

DOCUMENTS_PER_PAGE = 500  # 2,048-d with K = 400: 8 MB
IDS_PER_PAGE = 2_000
THREADS = 2
MAX_FAILURES = 1_000


def build_copy_lines(
    hits: Sequence[Mapping[str, Any]], *, spec: IndexSpec, keep_terms: bool, stored_type: VectorType | None = None
) -> tuple[list[BulkLine], tuple[Failure, ...]]:
    """Build the lines of a bulk request that write stored documents into another index.

    The sequence number of the old document becomes the version of the new one. So an older copy never replaces a newer
    one, and a resumed migration recognises documents that are already copied.

    Args:
        hits: hits of a search with `STORED`.
        spec: the spec of the other index.
        keep_terms: keep stored terms, since the encoder is the same; otherwise, encode the stored vectors.
        stored_type: the type in which the copied index stores vectors. Default: that of `spec`.

    Returns:
        The lines, and the documents that cannot be copied.
    """
    return build_rewrite_lines(hits, spec=spec, keep_terms=keep_terms, action=_build_action, stored_type=stored_type)


class Copier:
    """Brings one index up to date with another.

    Each pass of `catch_up` copies what was written since the previous one. Each shard numbers its writes: a pass reads
    the current sequence number of every shard, refreshes, and then copies all documents with a higher number than the
    previous pass read. Documents written meanwhile have even higher numbers, so the next pass copies them. Deletes
    leave nothing to copy: `count_extra` counts the surplus documents, and `remove_deleted` deletes them.

    Args:
        cluster: the cluster of both indices.
        source: the concrete index to copy, which may be written to meanwhile.
        target: the concrete index to write; nobody else writes to it.
        spec: the spec of the target.
        keep_terms: as in `build_copy_lines`.
        stored_type: as in `build_copy_lines`.
        resume: the target may contain documents; those that are already copied are not sent again.
        guard: called before each page is written; raises an exception to stop.

    Attributes:
        copied: number of documents written.
        deleted: number of documents removed.
        skipped: number of documents that were already copied.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: str,
        target: str,
        *,
        spec: IndexSpec,
        keep_terms: bool,
        stored_type: VectorType | None = None,
        resume: bool,
        guard: Callable[[], None],
    ) -> None:
        self.cluster = cluster
        self.source = source
        self.target = target
        self.copied = self.deleted = self.skipped = 0
        self._spec = spec
        self._keep_terms = keep_terms
        self._stored_type = stored_type
        self._resume = resume
        self._guard = guard
        self._checkpoints: dict[str, int] = {}  # shard → the sequence number up to which everything is copied
        # With segment replication, which only OpenSearch has, replicas may lag behind.
        self._primary = "_primary" if cluster.engine.name == "opensearch" else None

    def catch_up(self, on_progress: Callable[[int], None] | None = None) -> int:
        """Copy what was written since the last pass; the first pass copies everything.

        Args:
            on_progress: called with the number of documents of each finished page.

        Returns:
            How many documents the pass found.

        Raises:
            MigrationFailed: documents cannot be copied; the message lists the first ones.
        """
        checkpoints = self._read_checkpoints()
        self._refresh(self.source)
        if self._resume and not self._checkpoints:
            self._refresh(self.target)
        found = 0
        failed: list[Failure] = []
        waiting: deque[tuple[int, Future[tuple[int, list[Failure]]]]] = deque()

        def collect() -> None:
            count, sent = waiting.popleft()
            copied, rejected = sent.result()
            self.copied += copied
            self.skipped += count - copied - len(rejected)
            failed.extend(rejected)
            if len(failed) >= MAX_FAILURES:
                raise _build_error(failed, self.target)
            if on_progress is not None:
                on_progress(count)

        with ThreadPoolExecutor(THREADS, thread_name_prefix="deepterms-copy") as pool:
            for shard in checkpoints:
                body = {**STORED, "query": {"range": {"_seq_no": {"gt": self._checkpoints.get(shard, -1)}}}}
                for page in self._scroll(self.source, body, size=DOCUMENTS_PER_PAGE, shard=shard):
                    self._guard()
                    found += len(page)
                    waiting.append((len(page), pool.submit(self._copy, page)))
                    while len(waiting) > THREADS:
                        collect()
            while waiting:
                collect()
        if failed:
            raise _build_error(failed, self.target)
        self._checkpoints = checkpoints
        return found

    def remove_deleted(self) -> None:
        """Delete documents from the target that the source no longer contains."""
        self._refresh(self.source)
        self._refresh(self.target)
        for page in self._scroll(self.target, {"_source": False}, size=IDS_PER_PAGE):
            there = {hit["_id"] for hit in self._find_by_ids(self.source, page)}
            gone = [hit for hit in page if hit["_id"] not in there]
            if gone:
                self._guard()
                lines: list[BulkLine] = [({"delete": build_address(hit)}, None) for hit in gone]
                result = self.cluster.bulk(lines, index=self.target, pipeline=self.target)
                failed = [Failure(*outcome) for outcome in result.failed]
                if failed:
                    raise _build_error(failed, self.target)
                self.deleted += len(gone)

    def count_extra(self) -> int:
        """Count how many more documents the target contains than the source; negative if fewer."""
        for index in (self.source, self.target):
            self._refresh(index)
        return self._count(self.target) - self._count(self.source)

    def _copy(self, page: list[dict[str, Any]]) -> tuple[int, list[Failure]]:
        """Copy a page, unless its documents are already copied.

        Returns:
            How many documents were copied, and those that cannot be copied.
        """
        hits = page
        if self._resume and not self._checkpoints:
            there = {hit["_id"]: hit["_version"] for hit in self._find_by_ids(self.target, page)}
            hits = [hit for hit in page if there.get(hit["_id"]) != hit["_seq_no"]]
        lines, failed = build_copy_lines(
            hits, spec=self._spec, keep_terms=self._keep_terms, stored_type=self._stored_type
        )
        result = self.cluster.bulk(lines, index=self.target, pipeline=self.target)
        rejected = [Failure(identifier, explain_rejection(reason)) for identifier, reason in result.failed]
        return result.succeeded, [*failed, *rejected]

    def _find_by_ids(self, index: str, hits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Find the documents of an index that have the same ids as these hits."""
        body = {
            "query": {"ids": {"values": [hit["_id"] for hit in hits]}},
            "size": len(hits),
            "_source": False,
            "version": True,
        }
        return check_hits(self.cluster.request("POST", f"/{index}/_search", body=body, params=self._build_preference()))

    def _scroll(
        self, index: str, body: Mapping[str, Any], *, size: int, shard: str | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield pages of all hits of a search, or those of one shard."""
        return scroll_pages(self.cluster, index, body, size=size, params=self._build_preference(shard))

    def _build_preference(self, shard: str | None = None) -> dict[str, str]:
        parts = [part for part in (f"_shards:{shard}" if shard else None, self._primary) if part]
        return {"preference": "|".join(parts)} if parts else {}

    def _count(self, index: str) -> int:
        return self.cluster.count(index, params=self._build_preference())

    def _refresh(self, index: str) -> None:
        self.cluster.request("POST", f"/{index}/_refresh")

    def _read_checkpoints(self) -> dict[str, int]:
        """Read for each shard the sequence number up to which all its copies have all writes (global checkpoint)."""
        answer = self.cluster.request("GET", f"/{self.source}/_stats/docs", params={"level": "shards"})
        shards = answer["indices"][self.source]["shards"]
        return {
            shard: next(copy["seq_no"]["global_checkpoint"] for copy in copies if copy["routing"]["primary"])
            for shard, copies in shards.items()
        }


def _build_action(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": {**build_address(hit), "version": hit["_seq_no"], "version_type": "external_gte"}}


def _build_error(failed: Sequence[Failure], target: str) -> MigrationFailed:
    first = "; ".join(f"{failure.id}: {failure.reason}" for failure in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return MigrationFailed(
        f"{len(failed)} documents cannot be copied to {target}: {first}{more}. Fix or delete them in the old index, "
        "then rerun to resume"
    )
