"""Thumbnails are made of files inside the allowed folders and of no others, whatever path the metadata names."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.web.decoder import SandboxedDecoder
from deepterms.web.limits import Limits
from deepterms.web.thumbnails import Thumbnails
from tests.unit.web.conftest import jpeg, name_of


@pytest.fixture(scope="module")
def decoder() -> Iterator[SandboxedDecoder]:
    decoder = SandboxedDecoder(Limits(), processes=1)
    yield decoder
    decoder.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder, next to a folder that must not be shown."""
    for name in ("shown", "shown-not", "shown/below"):
        (tmp_path / name).mkdir()
    for name in ("shown/a.jpg", "shown/below/b.jpg", "shown-not/secret.jpg"):
        (tmp_path / name).write_bytes(jpeg(1))
    return tmp_path / "shown"


def test_files_inside_the_folder_are_shown(root: Path, decoder: SandboxedDecoder) -> None:
    thumbnails = Thumbnails([root], decoder)
    for id, metadata in (
        ("x", {"path": str(root / "a.jpg")}),
        ("x", {"path": "below/b.jpg"}),
        ("below/b.jpg", {}),
        ("x", {"path": str(root / "below" / ".." / "a.jpg")}),
    ):
        made = thumbnails.thumbnail(id, metadata)
        assert made is not None, (id, metadata)
        assert Image.open(io.BytesIO(made.jpeg)).size == (96, 64)


def test_links_are_followed_only_inside_the_folder(root: Path, decoder: SandboxedDecoder) -> None:
    thumbnails = Thumbnails([root], decoder)
    (root / "inner.jpg").symlink_to(root / "below" / "b.jpg")
    (root / "outer.jpg").symlink_to(root.parent / "shown-not" / "secret.jpg")
    (root / "folder").symlink_to(root.parent / "shown-not")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    assert thumbnails.thumbnail("inner.jpg", {}) is not None
    for name in ("outer.jpg", "folder/secret.jpg", "loop.jpg"):
        assert thumbnails.thumbnail(name, {}) is None, name


@pytest.mark.parametrize(
    "path",
    [
        "../shown-not/secret.jpg",
        "below/../../shown-not/secret.jpg",
        "/etc/passwd",
        "a.jpg/../../shown-not/secret.jpg",
        "..",
        ".",
        "",
        "a.jpg\0",
        "below",
        "\\..\\shown-not\\secret.jpg",
        "file:///etc/passwd",
        "/proc/self/environ",
        "%2e%2e/shown-not/secret.jpg",
        "x" * 5_000,
    ],
)
def test_paths_outside_the_folder_are_never_opened(root: Path, decoder: SandboxedDecoder, path: str) -> None:
    thumbnails = Thumbnails([root], decoder)
    assert thumbnails.thumbnail("x", {"path": path}) is None
    assert thumbnails.thumbnail(path, {}) is None


def test_absolute_paths_outside_are_never_opened(root: Path, decoder: SandboxedDecoder) -> None:
    secret = str(root.parent / "shown-not" / "secret.jpg")
    assert Thumbnails([root], decoder).thumbnail("x", {"path": secret}) is None
    assert Thumbnails([], decoder).thumbnail("x", {"path": secret}) is None


def test_folder_replaced_by_a_link_is_not_followed(
    root: Path, decoder: SandboxedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnails = Thumbnails([root], decoder)
    place = str(root / "below" / "b.jpg")
    (root.parent / "shown-not" / "b.jpg").write_bytes(jpeg(2))
    resolve = os.path.realpath

    def resolve_then_swap(path: str) -> str:
        found = resolve(path)
        if found == place:
            (root / "below").rename(root / "was-below")
            (root / "below").symlink_to(root.parent / "shown-not")
        return found

    monkeypatch.setattr("deepterms.web.thumbnails.os.path.realpath", resolve_then_swap)
    assert thumbnails.thumbnail("below/b.jpg", {}) is None


def test_named_pipe_does_not_block(root: Path, decoder: SandboxedDecoder) -> None:
    os.mkfifo(root / "pipe.jpg")
    assert Thumbnails([root], decoder).thumbnail("pipe.jpg", {}) is None


def test_changed_file_gets_a_new_thumbnail(root: Path, decoder: SandboxedDecoder) -> None:
    thumbnails = Thumbnails([root], decoder)
    first = thumbnails.thumbnail("a.jpg", {})
    assert thumbnails.thumbnail("a.jpg", {}) is first
    (root / "a.jpg").write_bytes(jpeg(2, width=200))
    second = thumbnails.thumbnail("a.jpg", {})
    assert first is not None
    assert second is not None
    assert first.etag != second.etag


def test_root_must_be_a_folder(root: Path, decoder: SandboxedDecoder) -> None:
    with pytest.raises(InvalidInput, match="is not a folder"):
        Thumbnails([root / "a.jpg"], decoder)


def test_thumbnails_over_http(client: TestClient, index: dt.MemoryIndex, features: object) -> None:
    found = client.post("/v1/search/id", json={"id": name_of(1), "k": 2}).json()["hits"][0]
    answer = client.get(found["thumbnail"])
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    again = client.get(found["thumbnail"], headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/thumbnail", params={"id": "nobody"}).status_code == 404
    index.update_metadata([name_of(2)], [{"path": "/etc/passwd"}])
    assert client.get("/v1/thumbnail", params={"id": name_of(2)}).status_code == 404
