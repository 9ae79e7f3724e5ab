"""Migration operations: move a name from an index to one with another layout, version or encoder, and back.

No write is lost, although writers only know the name (the alias) and need no changes:

1. The new index is created and filled while the old one continues to accept all writes (`copier`). Further passes, each
   shorter than the last, copy what was written meanwhile. During this time, documents that passed the old index's
   pipeline can only be written to the old index (`pinning`).
2. Writes to the old index are blocked; the engine finishes those in progress. One last pass copies the rest.
3. Document counts, and a sample of documents and scores, are compared (`copy_verification`).
4. The alias moves in one request. The old index is kept, and stays blocked, so a writer that resolved the alias just
   before the move is rejected, and does not write to an index that nobody reads any more.

Between steps 2 and 4, for about a second, writes fail with status 403 (cluster_block_exception). `SurrogateIndex.add`
and `delete` retry them; other clients must retry themselves. Searches work throughout.

All state is in the cluster: the new index records in its mapping what it is copied from, and each copy has the sequence
number of its original as its version. Rerun a migration to resume it after an interruption.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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
    require_open,
    unblock,
    write_origin,
)
from deepterms.migration.lease import LEASE_SECONDS, Lease
from deepterms.migration.pinning import await_requests, pinned, unpin
from deepterms.migration.plan import MigrationPlan, plan_migration
from deepterms.schema.layouts import Layout
from deepterms.schema.native_vectors import Compare

__all__ = ["MigrationReport", "drop_old", "migrate", "roll_back"]

# Passes before writes are blocked. Without a limit, a migration would never catch up with writers faster than copying.
MAX_PASSES = 10


@dataclass(frozen=True)
class MigrationReport:
    """What a migration did.

    Attributes:
        name: the alias.
        old: the concrete index it pointed to; empty if nothing had to be migrated.
        new: the concrete index it points to now.
        documents: how many documents the new index contains.
        copied: how many documents were written, including those written again because they changed.
        skipped: how many documents an earlier, interrupted run had already copied.
        deleted: how many copied documents were removed, because they were deleted meanwhile.
        scores: how many scores were compared.
        blocked_seconds: for how long writes were blocked.
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
    compare: Compare | None = None,
    sketch: bool | None = None,
    schema: Mapping[str, Any] | None = None,
    drop: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> MigrationReport:
    """Move a name to a new index; the old one is kept until `drop_old`. Does nothing if the options change nothing.

    Settings other than the numbers of shards and replicas, the limit of fields and the refresh interval are reset to
    the template's.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        to: the layout and its version; None keeps the current one. Its template and pipelines must be deployed.
        encoder: a new encoder, which encodes the stored vectors again (normalised float32, or int8 with its loss of
            precision); None keeps the current one and copies the terms.
        shards: number of shards of the new index; None keeps the current number.
        compare: what compares vectors, as for `SurrogateIndex.create`; None keeps the current choice if the new layout
            and encoder allow it. ``native`` rounds vectors to int8, and ``script`` then keeps those.
        sketch: whether the new index has sketches of the vectors; None keeps the current choice.
        schema: metadata fields whose types change, as for `SurrogateIndex.create`; a field mapped to None is no longer
            declared, and has the type of its first value. None keeps the declared fields.
        drop: delete the old index at the end.
        on_progress: called with the number of documents done and in total.
        lease_seconds: how long after its last sign of life a migration is considered to be running.

    Raises:
        InvalidInput: the layout cannot store the encoder's terms; there are no vectors to encode again or to sketch; or
            they cannot be compared natively; or the engine cannot create the schema.
        IndexNotFound: there is no such name.
        MigrationFailed: another migration of the name is running, documents cannot be copied, or the copy differs from
            the original. The name still points to the old index.
        ClusterError, UnsupportedEngine, ClusterUnreachable, RequestRejected: as `SurrogateIndex.create`.
    """
    cluster = Cluster(client)
    require_open(cluster, Generations.of(cluster, name).live)
    planned = plan_migration(cluster, name, to=to, encoder=encoder, compare=compare, sketch=sketch, schema=schema)
    with Lease(cluster, name, seconds=lease_seconds) as lease:
        state = Generations.of(cluster, name)  # read again: it may have changed while waiting for the lease
        if state.meta.describes(planned.spec) and shards in (None, count_shards(cluster, state.live)):
            dropped = state.drop_others(cluster) if drop else ()
            return MigrationReport(name, "", state.live, count_documents(cluster, state.live), dropped=dropped)
        if state.live != planned.live:
            raise MigrationFailed(f"another process has just migrated {name!r} to {state.live}; run this again")
        target, resume = state.prepare(cluster, planned.spec, shards=shards)
        copier = Copier(
            cluster,
            state.live,
            target,
            spec=planned.spec,
            keep_terms=planned.keep_terms,
            stored_type=planned.stored_type,
            resume=resume,
            guard=lease.check,
        )
        with pinned(cluster, state.live) as unpinned:
            _copy(cluster, copier, on_progress)
            await_requests(cluster, unpinned)
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
            cluster,
            state.live,
            target,
            spec=planned.spec,
            layout=planned.layout,
            keep_terms=planned.keep_terms,
            stored_type=planned.stored_type,
        )
        lease.check()
        write_origin(cluster, target, {**state.origin, "operations": _count_writes(cluster, target)})
        state.point_to(cluster, target)
    return scores, time.monotonic() - started


def roll_back(
    client: Any, name: str, *, discard_writes: bool = False, lease_seconds: float = LEASE_SECONDS
) -> MigrationReport:
    """Point a name to the index it was migrated from, in the state it had at that time.

    To keep what was written since, migrate to the former layout or encoder instead.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        discard_writes: roll back even if the new index was written to since; those writes are lost.
        lease_seconds: as in `migrate`.

    Raises:
        IndexNotFound: there is no such name.
        MigrationFailed: it was not migrated, the old index was deleted, or writes would be lost.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    cluster = Cluster(client)
    with Lease(cluster, name, seconds=lease_seconds):
        state = Generations.of(cluster, name)
        origin = state.meta.migration
        old = str(origin.get("from", ""))
        if old not in state.metas:
            raise MigrationFailed(
                f"{name!r} points to {state.live}, "
                + (f"which was migrated from {old}, but {old} was deleted" if old else "which was not migrated")
            )
        for concrete in (state.live, old):
            require_open(cluster, concrete)
        with pinned(cluster, state.live) as unpinned:
            await_requests(cluster, unpinned)
            with _blocked(cluster, state.live):
                since = _count_writes(cluster, state.live) - origin["operations"]
                if since and not discard_writes:
                    raise MigrationFailed(
                        f"{state.live} received {since} writes after the migration, which {old} does not have; to keep "
                        f"them, migrate to the layout of {old}; to lose them, pass discard_writes=True "
                        "(--discard-writes)"
                    )
                # So that a later migration does not mistake it for an unfinished copy.
                write_origin(cluster, state.live, {**origin, "left": True})
                unblock(cluster, old)
                unpin(cluster, old)
                state.point_to(cluster, old)
        return MigrationReport(name, state.live, old, count_documents(cluster, old))


def drop_old(client: Any, name: str, *, lease_seconds: float = LEASE_SECONDS) -> tuple[str, ...]:
    """Delete every index of a name that the name does not point to, including an unfinished copy.

    Returns:
        The concrete indices that were deleted.

    Raises:
        IndexNotFound: there is no such name.
        MigrationFailed: a migration of the name is running.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    cluster = Cluster(client)
    with Lease(cluster, name, seconds=lease_seconds):
        return Generations.of(cluster, name).drop_others(cluster)


def _copy(cluster: Cluster, copier: Copier, on_progress: Callable[[int, int], None] | None) -> None:
    """Copy everything, then what was written meanwhile, until at most one page of documents is left."""
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
    """Block writes to an index; unblock them only if an exception is raised before the alias has moved."""
    # Unlike a change of the setting, this request returns after writes in progress have finished.
    cluster.request("PUT", f"/{concrete}/_block/write")
    try:
        yield
    except BaseException:
        # The alias may have moved although the response was lost; the index must then stay blocked.
        if cluster.request("GET", f"/{concrete}/_alias")[concrete]["aliases"]:
            unblock(cluster, concrete)
        raise


def _count_writes(cluster: Cluster, concrete: str) -> int:
    """Count the writes that an index has received, including deletes."""
    shards = cluster.request("GET", f"/{concrete}/_stats/docs", params={"level": "shards"})["indices"][concrete]
    return sum(1 + max(copy["seq_no"]["max_seq_no"] for copy in copies) for copies in shards["shards"].values())
