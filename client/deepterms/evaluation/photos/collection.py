"""Turn photographs in Debian, npm and PyPI packages into a small collection in the INRIA Holidays layout.

The larger test collections cannot be downloaded everywhere, but packages can. Their photographs show 28 scenes from
several viewpoints. Further views (crop, rotation, …) are generated from other photographs, and the rest are
distractors. package_photos.json lists every photograph, its package and its role.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from deepterms.cache import cache_folder
from deepterms.errors import InvalidInput, PackageUnavailable
from deepterms.evaluation.collections import COLLECTION_FILE, JudgedCollection, read_holidays
from deepterms.evaluation.photos.cache import PhotoCache
from deepterms.evaluation.photos.manifest import Group, Photograph, read_manifest
from deepterms.evaluation.photos.transforms import TRANSFORMS
from deepterms.optional import require

__all__ = ["OnProgress", "build_photos", "training_photos"]

OnProgress: TypeAlias = Callable[[int, int, str], None]
"""Called with the number of steps done, the total, and what the next step works on; never called if the folder is
already complete."""

SOURCES_FILE = "SOURCES.md"
_LONGER_SIDE = 1024  # pixels
_JPEG_QUALITY = 90
_FORMAT = 2  # of the folder; increase it to rebuild folders that an earlier release made from the same manifest


@dataclass(frozen=True)
class _Picture:
    """A file to write: a photograph, or a view generated from it."""

    name: str
    title: str
    original: Photograph
    transform: str | None = None


def build_photos(folder: str | Path, *, on_progress: OnProgress | None = None) -> JudgedCollection:
    """Build the collection, or return it if it is already complete.

    Packages are downloaded with whichever of apt-get, npm and pip (or uv) are available; nothing is installed.
    Unavailable photographs are skipped, listed in `JudgedCollection.left_out`, and retried by the next call. Originals
    are cached in $DEEPTERMS_CACHE and written with a longer side of at most 1,024 pixels. `SOURCES.md` in the folder
    lists the package and licence of each photograph.

    Args:
        folder: a new or empty folder, or one that this function built before.
        on_progress: see `OnProgress`.

    Raises:
        InvalidInput: the folder contains something else.
        PackageUnavailable: none of the packages is available.
        MissingExtra: Pillow is not installed.
    """
    groups = read_manifest().groups
    pictures = [picture for group in groups for picture in _list_pictures(group)]
    natural = [[view.name for view in _list_pictures(group)] for group in groups if group.kind == "natural"]
    _build(Path(folder), pictures, purpose="collection", natural=natural, on_progress=on_progress)
    return read_holidays(folder)


def training_photos(folder: str | Path, *, on_progress: OnProgress | None = None) -> list[Path]:
    """Build a folder of photographs for training a whitening; they show no scene of `build_photos`.

    They come from the same packages, but few from PyPI: without apt-get and npm, hardly any are available.

    Args:
        folder: a new or empty folder, or one that this function built before.
        on_progress: see `OnProgress`.

    Returns:
        The photographs, in a fixed order.

    Raises:
        InvalidInput: the folder contains something else.
        PackageUnavailable: none of the packages is available.
        MissingExtra: Pillow is not installed.
    """
    folder = Path(folder)
    pictures = [
        _Picture(f"training-{number:04d}", Path(photograph.member).stem, photograph)
        for number, photograph in enumerate(read_manifest().training)
    ]
    _build(folder, pictures, purpose="training", natural=[], on_progress=on_progress)
    return sorted(folder.glob("*.jpg"))


def _list_pictures(group: Group) -> list[_Picture]:
    views = [(photograph, None) for photograph in group.photographs]
    made = [(group.photographs[0], transform) for transform in group.transforms]
    return [
        _Picture(f"{group.number}{view:02d}", group.title, photograph, transform)
        for view, (photograph, transform) in enumerate([*views, *made])
    ]


class _Steps:
    """Counts and reports progress."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total = total
        self.done = 0
        self.on_progress = on_progress

    def begin(self, what: str) -> None:
        if self.on_progress:
            self.on_progress(self.done, self.total, what)
        self.done += 1

    def finish(self) -> None:
        if self.on_progress:
            self.on_progress(self.total, self.total, "done")


def _build(
    folder: Path,
    pictures: Sequence[_Picture],
    *,
    purpose: str,
    natural: Sequence[Sequence[str]],
    on_progress: OnProgress | None,
) -> None:
    folder = folder.resolve()
    with _locked(folder):
        _build_locked(folder, pictures, purpose=purpose, natural=natural, on_progress=on_progress)


def _build_locked(
    folder: Path,
    pictures: Sequence[_Picture],
    *,
    purpose: str,
    natural: Sequence[Sequence[str]],
    on_progress: OnProgress | None,
) -> None:
    made_from = {"purpose": purpose, "manifest": read_manifest().digest, "format": _FORMAT}
    before = _read_notes(folder, purpose)
    current = before is not None and before["made_from"] == made_from
    if before and current and not before["left_out"]:
        return
    originals = PhotoCache()
    steps = _Steps(len({picture.original.package for picture in pictures}) + len(pictures), on_progress)
    left_out = originals.fetch(
        dict.fromkeys(picture.original for picture in pictures),
        listed=read_manifest().photographs,
        on_package=lambda package: steps.begin(f"{package.name} ({package.source})"),
    )
    present = {picture.name: picture for picture in pictures if originals.path(picture.original).exists()}
    if current and present.keys() <= {path.stem for path in folder.glob("*.jpg")}:
        return  # nothing has become available since
    if not present:
        raise PackageUnavailable("no package with photographs is available:\n" + "\n".join(left_out))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for picture in present.values():
            steps.begin(picture.name)
            _write_picture(picture, originals.path(picture.original), made / f"{picture.name}.jpg")
        views = [[name for name in group if name in present] for group in natural]
        notes = {
            "made_from": made_from,
            "natural_queries": [names[0] for names in views if len(names) > 1],
            "titles": {name: picture.title for name, picture in present.items()},
            "left_out": left_out,
        }
        (made / COLLECTION_FILE).write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (made / SOURCES_FILE).write_text(_list_sources(present.values()), encoding="utf-8")
        _replace(folder, made, purpose=purpose)
    steps.finish()


def _read_notes(folder: Path, purpose: str) -> dict[str, Any] | None:
    """Read the notes of a folder built for this purpose; None if the folder is missing or empty.

    Raises:
        InvalidInput: the folder contains something else, which would be lost.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        notes = json.loads((folder / COLLECTION_FILE).read_bytes())
        ours = notes["made_from"]["purpose"] == purpose
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InvalidInput(
            f"{folder} contains something other than the {purpose} photographs; choose a new or empty folder"
        )
    return dict(notes)


def _replace(folder: Path, made: Path, *, purpose: str) -> None:
    # A folder can only be renamed onto a missing or empty one, so move the older one out of the way first.
    if _read_notes(folder, purpose):
        folder.rename(made.parent / "older")
    made.rename(folder)


def _write_picture(picture: _Picture, original: Path, path: Path) -> None:
    from PIL import Image, ImageOps

    with Image.open(original) as opened:
        photograph: Image.Image = ImageOps.exif_transpose(opened).convert("RGB")
    photograph.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    if picture.transform is not None:
        # Seed by name only, so that a view is the same on every machine even if other photographs are missing.
        photograph = TRANSFORMS[picture.transform](photograph, random.Random(picture.name))
    photograph.save(path, "JPEG", quality=_JPEG_QUALITY)


def _list_sources(pictures: Iterable[_Picture]) -> str:
    lines = [
        "# Sources of the photographs",
        "",
        "deepterms extracted these photographs from packages and scaled them down. The licence is the one the package",
        "states for the photograph or, if there is none, for its content as a whole; check the package before you",
        "publish a photograph.",
        "",
        "| picture | shows | package | file | licence | transform |",
        "|---|---|---|---|---|---|",
    ]
    for p in pictures:
        package = f"{p.original.package.name} {p.original.package.version} ({p.original.package.source})"
        made_by = p.transform or ""
        lines.append(f"| {p.name} | {p.title} | {package} | {p.original.member} | {p.original.licence} | {made_by} |")
    return "\n".join(lines) + "\n"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time build a folder; the others then find it complete."""
    with require("pillow", "features"):
        import PIL  # noqa: F401  checked before anything is downloaded
    with require("filelock", "features"):
        from filelock import FileLock
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    lock = cache_folder() / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield
