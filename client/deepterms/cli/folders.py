"""A folder of photographs into a feature store in sync with it, and a summary of what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from deepterms.cli.photos import report_skipped, report_unreadable
from deepterms.cli.terminal import note, note_each, progress
from deepterms.index import SurrogateIndex

if TYPE_CHECKING:
    from deepterms.features import FeatureStore, RMACExtractor
    from deepterms.features.folder_sync import SyncReport

__all__ = ["forget_photographs", "sync_photographs"]

_MAX_LOOKUPS = 20


def sync_photographs(
    extractor: RMACExtractor, photos: Path, store: Path, *, target: SurrogateIndex | None, delete_missing: bool
) -> SyncReport:
    """Describe what is new or changed in a folder, with progress on stderr, and print the summary.

    Args:
        extractor: what describes photographs.
        photos: the folder.
        store: the feature store, created if it does not exist.
        target: the index, if it exists; its documents tell whether the ids of a first folder are free.
        delete_missing: whether photographs that no longer exist are deleted.
    """
    from deepterms.features.folder_sync import sync_folder

    with progress("Describing photographs") as on_progress:
        report = sync_folder(
            extractor,
            photos,
            store,
            delete_missing=delete_missing,
            may_use_plain_ids=lambda root, found: target is None or _are_plain_ids_free(target, root, found),
            on_progress=on_progress,
        )
    _summarize(report, photos.resolve(), is_deleted=delete_missing)
    return report


def forget_photographs(photos: Path, store: Path) -> FeatureStore:
    """Remove a folder from a feature store, print how many photographs it had, and return the rest."""
    from deepterms.features import FeatureStore
    from deepterms.features.folder_rows import forget_folder

    note(f"{escape(str(photos.resolve()))}: {len(forget_folder(store, photos))} removed")
    return FeatureStore.open(store)


def _are_plain_ids_free(target: SurrogateIndex, root: Path, found: Sequence[Path]) -> bool:
    """Whether a folder may have ids without a prefix in an index, as far as the index can tell.

    It may if a document has such an id and path already, as after the loss of the store, or if the index contains no
    documents from elsewhere.
    """
    from deepterms.features.shard_writer import is_encodable

    if not is_encodable(str(root)):
        return False  # neither engine can be asked for such a path, and none of its photographs can be stored
    for path in [path for path in found[:_MAX_LOOKUPS] if is_encodable(str(path))]:
        document = target.get(path.relative_to(root).as_posix())
        if document is not None and document.metadata.get("path") == str(path):
            return True
    elsewhere = {"bool": {"must_not": {"prefix": {"metadata.path": f"{root}/"}}}}
    return target.count(filter=elsewhere) == 0


def _summarize(report: SyncReport, root: Path, *, is_deleted: bool) -> None:
    from deepterms.features.folder_rows import is_gone

    report_unreadable(report.failures)
    note_each("moved", [f"{old} to {new}" for new, old in report.moved.items() if new != old])
    note_each("replaced", report.replaced)
    note_each("removed", report.removed)
    report_skipped(report.skipped)
    note(
        f"{escape(str(root))}: {len(report.added)} added, {len(report.replaced)} replaced, "
        f"{report.unchanged} unchanged, {len(report.moved)} moved, {len(report.removed)} removed, "
        f"{len(report.failures)} unreadable"
    )
    if report.removed and not is_deleted:
        note("[yellow]removed photographs are still in the index;[/yellow] --delete-missing deletes them")
    folders = () if report.store.header is None else report.store.header.folders
    for folder in folders:
        if folder.prefix and root.is_relative_to(folder.path):
            note(f"ids of {escape(folder.path)} begin with {escape(folder.prefix)}")
        if is_gone(folder.path):
            note(f"[yellow]{escape(folder.path)} no longer exists;[/yellow] --delete-folder deletes its photographs")
