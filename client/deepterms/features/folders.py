"""A folder into the sorted paths of the pictures below it, recognised by suffix or by content."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from deepterms.errors import InvalidInput
from deepterms.features.formats import HEADER_BYTES, SUFFIXES, is_picture

__all__ = ["FoundImages", "find_images"]

# Copies that are not the user's: thumbnails and previews of Synology and QNAP, recycle bins, resource forks of macOS.
# Compared in lower case. Names that begin with a dot are skipped too: .thumbnails, .@__thumb, ._IMG.jpg.
_SKIPPED_FOLDERS = frozenset({"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "__macosx"})
# Camera raw files, which begin like TIFF but with a small preview; thumbnails that cameras store with videos.
_IGNORED_SUFFIXES = frozenset(
    f".{name}"
    for names in ("3fr arw cr2 dcr dng erf iiq kdc", "mef mos nef nrw pef sr2 srw", "thm")
    for name in names.split()
)


class FoundImages(list[Path]):
    """The paths that `find_images` found, sorted.

    Attributes:
        skipped: number of files with the suffix of a picture that are hidden or in folders of thumbnails and deleted
            files.
    """

    def __init__(self, paths: Iterable[Path] = (), *, skipped: int = 0) -> None:
        super().__init__(paths)
        self.skipped = skipped


def find_images(folder: str | Path) -> FoundImages:
    """List, sorted, the pictures below a folder.

    A file is listed if it has the suffix of a picture, or if it begins like one. Hidden files, and folders that hold
    thumbnails or deleted files (such as ``@eaDir`` or ``#recycle``), are skipped.

    Links to folders are followed. Each folder is visited once, by its own path if it lies below the one given. Broken
    links and unreadable files with the suffix of a picture, and folders that cannot be listed, are included, so that
    decoding reports them.

    Returns:
        The paths, as a list with the attribute `skipped`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    found = FoundImages()
    visited: set[tuple[int, int]] = set()
    starts = [root]

    def include(error: OSError) -> None:
        found.append(Path(error.filename))

    for start in starts:  # grows during the loop
        for directory, folders, files in os.walk(start, onerror=include):
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in visited:
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            found.skipped += sum(_count_pictures(Path(directory, name)) for name in folders if _is_skipped(name))
            found.skipped += sum(_has_suffix(name) for name in files if name.startswith("."))
            folders[:] = sorted(name for name in folders if not _is_skipped(name))
            starts += [link for link in (Path(directory, name) for name in folders) if link.is_symlink()]
            visible = [Path(directory, name) for name in files if not name.startswith(".")]
            found += [path for path in visible if _has_suffix(path.name) or _begins_like_picture(path)]
    found.sort()
    return found


def _is_skipped(folder: str) -> bool:
    return folder.startswith(".") or folder.lower() in _SKIPPED_FOLDERS


def _has_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _count_pictures(folder: Path) -> int:
    """Count files by suffix, without opening them or following links."""
    if folder.is_symlink():
        return 0
    return sum(_has_suffix(name) for _, _, files in os.walk(folder) for name in files)


def _begins_like_picture(path: Path) -> bool:
    if path.suffix.lower() in _IGNORED_SUFFIXES:
        return False
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would block forever
            return False
        with path.open("rb", buffering=0) as file:
            return is_picture(file.read(HEADER_BYTES))
    except OSError:
        return False
