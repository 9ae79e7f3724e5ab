"""Migration: an index into a new one of another layout, version or encoder, behind the same name.

How no write is lost, with writers that know only the name (the alias) and no change on their side:

1. The new index is made beside the old one and filled, while the old one takes all writes (`copying`).
   What was written meanwhile is copied by further passes, each shorter than the last. From now on documents that passed
   the old index's pipeline can be written to the old index only (`pinning`).
2. Writes to the old index are blocked, and the engine has finished those under way. One last pass copies the rest.
3. Counts, and a sample of documents and scores, are compared (`verification`).
4. The alias moves in one request. The old index stays, and stays blocked, so a writer that had looked up the alias just
   before the move is refused instead of writing where nobody reads any more.

Between 2 and 4, a second or so, a write is answered with the status 403 (cluster_block_exception). `SurrogateIndex.add`
and `delete` wait and send it again; other clients must do that themselves. Searches are answered all the time.

Nothing is remembered outside the cluster. The new index says in its mapping what it is copied from, and each copy has
the sequence number of its original as its version; a migration that was killed is run again and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.encoders.encoder import Encoder
from deepterms.errors import MigrationFailed
from deepterms.migration.copier import DOCUMENTS_PER_PAGE, Copier
from deepterms.migration.copy_verification import verify_copy
from deepterms.migration.generations import (
    Generations,
    count_documents,
    count_shards,
    read_settings,
    unblock,
    write_origin,
)
from deepterms.migration.lease import LEASE_SECONDS, Lease
from deepterms.migration.pinning import await_requests, pinned, unpin
from deepterms.migration.plan import MigrationPlan, plan_migration
from deepterms.schema.layouts import Layout

__all__ = ["MigrationReport", "drop_old", "migrate", "roll_back"]

# Passes before writes are blocked. Writers that are faster than copying would otherwise be followed for ever.
MAX_PASSES = 10


@dataclass(frozen=True)
class MigrationReport:
    """What a migration did.

    Attributes:
        name: the alias.
        old: the concrete index it pointed to; empty if it was as wanted already.
        new: the concrete index it points to.
        documents: how many the new index holds.
        copied: documents written, those written again because they had changed included.
        skipped: documents that an earlier, unfinished run had copied.
        deleted: documents removed again, since they were deleted meanwhile.
        scores: how many scores were compared.
        blocked_seconds: for how long writes were refused.
        dropped: concrete indices that were deleted.
    """

    name: str
    old: str
    new: str
    documents: int
    copied: int = 0
    skipped: int = 0
    deleted: int = 0
    scores: int = 0
    blocked_seconds: float = 0.0
    dropped: tuple[str, ...] = ()


def migrate(
    client: Any,
    name: str,
    *,
    to: Layout | None = None,
    encoder: Encoder | None = None,
    shards: int | None = None,
    dense_vector: bool | None = None,
    sketch: bool | None = None,
    drop: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> MigrationReport:
    """Move a name to a new index; the old one stays until `drop_old`. If it is as wanted already, nothing is done.

    Settings other than the numbers of shards and replicas and the refresh interval are the template's again.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        to: the layout, and its version; default: as now. Its template and pipelines must be deployed.
        encoder: for a new one, terms are made anew from the stored vectors (normalised float32, or int8 with its
            loss); default: as now, and terms are copied.
        shards: of the new index; default: as now.
        dense_vector: with or without Elasticsearch's own field for vectors, as `SurrogateIndex.create` says; default:
            as now.
        sketch: with or without the signs of the vectors, likewise.
        drop: delete the old index at the end.
        on_progress: called with the documents done, and the documents in all.
        lease_seconds: how long a migration that does not show signs of life counts as living.

    Raises:
        InvalidInput: the layout cannot hold what the encoder makes, there are no vectors to encode anew or to sketch,
            or none that a dense_vector holds.
        IndexNotFound: no such name.
        MigrationFailed: another migration of the name runs, documents cannot be copied, or the copy is not equal. The
            name then still points to the old index.
        ClusterError, UnsupportedEngine, ClusterUnreachable, RequestRejected: as `SurrogateIndex.create`.
    """
    cluster = Cluster(client)
    planned = plan_migration(cluster, name, to=to, encoder=encoder, dense_vector=dense_vector, sketch=sketch)
    with Lease(cluster, name, seconds=lease_seconds) as lease:
        state = Generations.of(cluster, name)  # it may have changed while the lease was waited for
        if state.meta.describes(planned.spec) and shards in (None, count_shards(cluster, state.live)):
            dropped = state.drop_others(cluster) if drop else ()
            return MigrationReport(name, "", state.live, count_documents(cluster, state.live), dropped=dropped)
        if state.live != planned.live:
            raise MigrationFailed(f"{name!r} was migrated to {state.live} by another process just now; run this again")
        target, resume = state.prepare(cluster, planned.spec, shards=shards)
        copier = Copier(
            cluster,
            state.live,
            target,
            spec=planned.spec,
            keep_terms=planned.keep_terms,
            resume=resume,
            guard=lease.check,
        )
        with pinned(cluster, state.live) as made_before:
            _copy(cluster, copier, on_progress)
            await_requests(cluster, made_before)
            scores, blocked = _switch(cluster, state, copier, planned, lease)
        after = Generations.of(cluster, name)
        return MigrationReport(
            name,
            state.live,
            target,
            count_documents(cluster, target),
            copied=copier.copied,
            skipped=copier.skipped,
            deleted=copier.deleted,
            scores=scores,
            blocked_seconds=blocked,
            dropped=after.drop_others(cluster) if drop else (),
        )


def _switch(
    cluster: Cluster, state: Generations, copier: Copier, planned: MigrationPlan, lease: Lease
) -> tuple[int, float]:
    """Block writes, copy the rest, verify, and move the name.

    Returns:
        How many scores were compared, and for how many seconds writes were blocked.
    """
    target = copier.target
    settings = {"refresh_interval": read_settings(cluster, state.live).get("refresh_interval")}
    cluster.request("PUT", f"/{target}/_settings", body={"index": settings})
    started = time.monotonic()
    with _blocked(cluster, state.live):
        copier.catch_up()
        if copier.count_extra() > 0:
            copier.remove_deleted()
        if extra := copier.count_extra():
            raise MigrationFailed(
                f"{target} has {abs(extra)} documents {'more' if extra > 0 else 'fewer'} than {state.live}; "
                f"delete the new index (deepterms migrate {state.name} --drop-old) and run this again"
            )
        scores = verify_copy(
            cluster, state.live, target, spec=planned.spec, layout=planned.layout, keep_terms=planned.keep_terms
        )
        lease.check()
        write_origin(cluster, target, {"from": state.live, "operations": _operations(cluster, target)})
        state.point_to(cluster, target)
    return scores, time.monotonic() - started


def roll_back(
    client: Any, name: str, *, discard_writes: bool = False, lease_seconds: float = LEASE_SECONDS
) -> MigrationReport:
    """Point a name to the index it was migrated from, as that was then.

    To go back with what was written since, migrate to the former layout or encoder instead.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        discard_writes: roll back even if the new index was written to since; those writes are lost.
        lease_seconds: as in `migrate`.

    Raises:
        IndexNotFound: no such name.
        MigrationFailed: it was not migrated, the old index is gone, or writes would be lost.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    cluster = Cluster(client)
    with Lease(cluster, name, seconds=lease_seconds):
        state = Generations.of(cluster, name)
        origin = state.meta.migration
        old = str(origin.get("from", ""))
        if old not in state.metas:
            raise MigrationFailed(
                f"{name!r} points to {state.live}, "
                + (f"which was migrated from {old}, but that is gone" if old else "which was not migrated")
            )
        with pinned(cluster, state.live) as made_before:
            await_requests(cluster, made_before)
            with _blocked(cluster, state.live):
                since = _operations(cluster, state.live) - origin["operations"]
                if since and not discard_writes:
                    raise MigrationFailed(
                        f"{state.live} took {since} writes since the migration, which {old} does not have; migrate to "
                        f"the layout of {old} to keep them, or discard them: discard_writes=True (--discard-writes)"
                    )
                # So that a later migration does not take it for its own unfinished work.
                write_origin(cluster, state.live, {**origin, "left": True})
                unblock(cluster, old)
                unpin(cluster, old)
                state.point_to(cluster, old)
        return MigrationReport(name, state.live, old, count_documents(cluster, old))


def drop_old(client: Any, name: str, *, lease_seconds: float = LEASE_SECONDS) -> tuple[str, ...]:
    """Delete every index of a name that the name does not point to, an unfinished copy too.

    Returns:
        The concrete indices that were deleted.

    Raises:
        IndexNotFound: no such name.
        MigrationFailed: a migration of the name runs.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    cluster = Cluster(client)
    with Lease(cluster, name, seconds=lease_seconds):
        return Generations.of(cluster, name).drop_others(cluster)


def _copy(cluster: Cluster, copier: Copier, on_progress: Callable[[int, int], None] | None) -> None:
    """Copy everything, then what was written meanwhile, until little is left."""
    done = 0
    total = count_documents(cluster, copier.source)

    def report(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, max(done, total))

    for _ in range(MAX_PASSES):
        if copier.catch_up(report) <= DOCUMENTS_PER_PAGE:
            break
    if copier.count_extra() > 0:
        copier.remove_deleted()


@contextmanager
def _blocked(cluster: Cluster, concrete: str) -> Iterator[None]:
    """Refuse writes to an index; they are allowed again only if something goes wrong before the alias moved."""
    # This request, unlike the bare setting, returns after the writes under way have finished.
    cluster.request("PUT", f"/{concrete}/_block/write")
    try:
        yield
    except BaseException:
        # The alias may have moved although the answer was lost: then nothing may be written here any more.
        if cluster.request("GET", f"/{concrete}/_alias")[concrete]["aliases"]:
            unblock(cluster, concrete)
        raise


def _operations(cluster: Cluster, concrete: str) -> int:
    """How many writes an index has taken, deletes too."""
    shards = cluster.request("GET", f"/{concrete}/_stats/docs", params={"level": "shards"})["indices"][concrete]
    return sum(1 + max(copy["seq_no"]["max_seq_no"] for copy in copies) for copies in shards["shards"].values())
