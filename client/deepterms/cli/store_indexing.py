"""Feature stores into documents of an index, shard by shard, with a checkpoint of what the cluster acknowledged.

Documents of photos that were replaced, moved or deleted are deleted with the shard that their rows belong to. A shard
is identified by everything that its documents depend on, and rows that were removed never return, so no state of a
shard occurs twice: what the checkpoint lists is never out of date.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.markup import escape

from deepterms.cli.terminal import note, progress
from deepterms.errors import CheckpointMismatch
from deepterms.index import DocumentBatch, SurrogateIndex
from deepterms.index.checkpoint import Checkpoint
from deepterms.index.handle import confirm_state
from deepterms.index.ingest import describe_owner
from deepterms.results import WriteReport

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureBatch, FeatureStore
    from deepterms.features.store import Shard

__all__ = ["DocumentTarget", "add_store", "send_shards"]

# Enough for the threads of `add_batches`; a kill costs sending one group again.
MAX_GROUP = 16_384  # documents

About = Mapping[str, Mapping[str, Any]]


class DocumentTarget(Protocol):
    """The part of `SurrogateIndex` that a store is sent to."""

    def add_batches(
        self, batches: Iterator[DocumentBatch], *, on_progress: Callable[[int], None] | None = None
    ) -> WriteReport:
        """Add documents."""
        ...

    def delete(self, ids: Sequence[str]) -> WriteReport:
        """Delete documents."""
        ...


def add_store(
    target: SurrogateIndex,
    features: FeatureStore | EmbeddingFolder,
    *,
    checkpoint: Path | None = None,
    about: About | None = None,
) -> WriteReport:
    """Index the contents of a feature store, with progress on stderr, and delete the documents of removed photos.

    A checkpoint of an index that has since been deleted or migrated is discarded, and indexing starts over.

    Args:
        target: the index.
        features: the descriptors, with their ids and metadata.
        checkpoint: file that records what was indexed; for a feature store.
        about: id → further metadata of its document.
    """
    from deepterms.features import FeatureStore

    done = 0
    with progress("Indexing") as report:

        def add(count: int) -> None:
            nonlocal done
            done += count
            report(done, len(features))

        if not isinstance(features, FeatureStore):
            return target.add_batches(_to_documents(features.batches(), about or {}), on_progress=add)
        with nullcontext() if checkpoint is None else _open_checkpoint(checkpoint, target) as record:
            return send_shards(target, features, record=record, about=about or {}, on_progress=add)


def send_shards(
    target: DocumentTarget,
    store: FeatureStore,
    *,
    record: Checkpoint | None,
    about: About | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> WriteReport:
    """Send the shards of a store that a checkpoint does not list.

    Args:
        target: the index.
        store: the descriptors.
        record: the checkpoint; None sends everything.
        about: id → further metadata of its document.
        on_progress: called with a number of documents.

    Returns:
        The report of the documents that were added, and the failures of those that were to be deleted.
    """
    report = WriteReport(0)
    group: list[tuple[str, Shard]] = []
    for shard in store.shards:
        key = _make_key(shard)
        if record is not None and record.holds(key):
            report += WriteReport(shard.rows, skipped=shard.rows)
            if on_progress is not None:
                on_progress(shard.rows)
            continue
        group.append((key, shard))
        if sum(shard.rows for _, shard in group) >= MAX_GROUP:
            report += _send_group(target, store, group, record, about or {}, on_progress)
            group = []
    return report + _send_group(target, store, group, record, about or {}, on_progress)


def _send_group(
    target: DocumentTarget,
    store: FeatureStore,
    group: Sequence[tuple[str, Shard]],
    record: Checkpoint | None,
    about: About,
    on_progress: Callable[[int], None] | None,
) -> WriteReport:
    report = WriteReport(0)
    if any(shard.rows for _, shard in group):
        batches = (batch for _, shard in group for batch in store.batches(shard=shard))
        report += target.add_batches(_to_documents(batches, about), on_progress=on_progress)
    withdrawn = {item_id for _, shard in group for item_id in shard.removed_ids()}
    withdrawn = withdrawn.difference(store.ids) if withdrawn else withdrawn
    deleted = target.delete(sorted(withdrawn)) if withdrawn else WriteReport(0)
    failed = {failure.id for failure in (*report.failed, *deleted.failed)}
    if record is not None and not report.lost:
        for key, shard in group:
            if not failed or failed.isdisjoint(shard.all_ids()):
                record.record(key, documents=shard.rows)
    return report + WriteReport(0, deleted.failed)


def _open_checkpoint(path: Path, target: SurrogateIndex) -> Checkpoint:
    owner = describe_owner(confirm_state(target))
    try:
        return Checkpoint(path, owner=owner)
    except CheckpointMismatch as error:
        note(f"[yellow]starting over:[/yellow] {escape(str(error))}")
        path.unlink()
        return Checkpoint(path, owner=owner)


def _make_key(shard: Shard) -> str:
    """Hash what identifies the documents of a shard: its rows, which of them were removed, and moves of its folder.

    Moves are counted, not compared: a folder that returns to an earlier place changes its documents once more.
    """
    items = [[item["id"], item.get("hash"), item.get("size")] for item in shard.all_items()]
    renames = 0 if shard.header is None else sum(shard.number < rename.shards for rename in shard.header.renames)
    content = json.dumps([shard.number, items, sorted(shard.removed), renames])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _to_documents(batches: Iterator[FeatureBatch], about: About) -> Iterator[DocumentBatch]:
    left_out = {"size", "mtime_ns"}  # of the photograph's file
    for batch in batches:
        metadata = [
            {key: item[key] for key in item.keys() - left_out}
            | _folder_metadata(item_id, item)
            | dict(about.get(item_id, {}))
            for item_id, item in zip(batch.ids, batch.items, strict=True)
        ]
        yield batch.ids, batch.features, metadata


def _folder_metadata(id: str, item: Mapping[str, Any]) -> dict[str, str]:
    """Return the folder of a photograph, relative to the folder of all of them, as metadata to filter by."""
    parent = posixpath.dirname(id)
    return {"folder": parent} if parent and not posixpath.isabs(id) and "path" in item else {}
