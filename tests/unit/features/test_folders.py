from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from deepterms.cli.photos import extract_folder
from deepterms.errors import InvalidInput
from deepterms.features.images import FoundImages, find_images
from tests.unit.features.fake_extractor import FakeExtractor
from tests.unit.features.odd_files import photograph
from tests.unit.features.raw_files import bmp, tiff


def test_images_of_a_folder_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.jpeg", "b/c/3.webp", "note.txt", "jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.jpg").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.jpeg", "b/1.png", "b/2.JPG", "b/c/3.webp"]


def test_links_are_followed_without_endless_loops(tmp_path: Path) -> None:
    for name in ("photos/z/1.jpg", "elsewhere/2.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    photos = tmp_path / "photos"
    (photos / "z" / "up").symlink_to(photos)
    (photos / "a-link-to-z").symlink_to(photos / "z")
    (photos / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    (photos / "lost.jpg").symlink_to(tmp_path / "nowhere")
    (photos / "lost").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(photos).as_posix() for path in find_images(photos)]
    assert found == ["lost.jpg", "other/2.jpg", "z/1.jpg"]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_only_folders_are_searched(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="not a folder"):
        find_images(tmp_path / name)


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(1)).save(buffer, kind)
    return buffer.getvalue()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
PICTURES = {kind: encode(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM", "AVIF")}
PICTURES |= {
    "TIFF-big-endian": tiff(photograph(1), photometric=2, order=">"),
    "BMP-alpha": bmp(photograph(1)[..., [0, 1, 2, 2]]),
    "PGM-comment": b"P5\n# made by hand\n2 1\n255\n\0\xff",
    "HEIC": HEIC,
}


@pytest.mark.parametrize("name", ["IMG_0001", "photo.txt", "photo.jpg.bak", "scan.pdf"])
@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_recognised_by_content(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(PICTURES[kind])
    assert find_images(tmp_path) == [tmp_path / name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"BM is short for bitmap, but this is a note of more than thirty bytes.",
        b"P5 is the fifth point of this note",
        b"P6\n",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2mp41",
        b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
        b"II*\0\x10\0\0\0CR\x02\0",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
)
def test_other_files_are_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert find_images(tmp_path) == []


@pytest.mark.parametrize("name", ["DSC_0001.NEF", "IMG.dng", "MVI_0001.THM"])
def test_raw_files_and_thumbnails_of_videos_are_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PICTURES["TIFF"])
    assert find_images(tmp_path) == []


def test_what_cannot_be_opened_is_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert find_images(tmp_path) == []


def test_hidden_files_and_thumbnail_folders_are_counted(tmp_path: Path) -> None:
    for name in (
        "IMG.jpg",
        "._IMG.jpg",
        ".note",
        "@eaDir/IMG.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "@eaDir/IMG.jpg/SYNOINDEX_MEDIA_INFO",
        "a/.thumbnails/1.jpg",
        "a/.thumbnails/2.png",
        "a/.@__thumb/s100IMG.jpg",
        "a/#recycle/old.jpg",
        "a/$RECYCLE.BIN/old.jpg",
        "__MACOSX/a/._IMG.jpg",
        "eaDir/IMG.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".elsewhere").symlink_to(tmp_path / "eaDir")
    found = find_images(tmp_path)
    assert isinstance(found, FoundImages)
    assert found == [tmp_path / "IMG.jpg", tmp_path / "eaDir/IMG.jpg"]
    assert found.skipped == 8


def test_a_hidden_folder_can_be_searched_itself(tmp_path: Path) -> None:
    (tmp_path / ".photos").mkdir()
    (tmp_path / ".photos" / "1.jpg").touch()
    assert find_images(tmp_path / ".photos") == [tmp_path / ".photos" / "1.jpg"]


def test_the_command_line_prints_how_many_were_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("1.jpg", "2.jpg", ".3.jpg"):
        (photos / name).write_text("fine")
    report = extract_folder(FakeExtractor(), photos, tmp_path / "store")  # type: ignore[arg-type]
    assert report.added == 2
    assert report.store.ids == ["1.jpg", "2.jpg"]
    assert "1 skipped: hidden pictures" in " ".join(capsys.readouterr().err.split())
