"""Thumbnails: of files below the folders, and of no others, whatever a document says of its path."""

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
from deepterms.web.decoder import Decoder
from deepterms.web.limits import Limits
from deepterms.web.thumbnails import Photographs
from tests.unit.web.conftest import jpeg, name_of


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(Limits(), processes=1)
    yield decoder
    decoder.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a picture, beside one that is not to be shown."""
    for name in ("shown", "shown-not", "shown/below"):
        (tmp_path / name).mkdir()
    for name in ("shown/a.jpg", "shown/below/b.jpg", "shown-not/secret.jpg"):
        (tmp_path / name).write_bytes(jpeg(1))
    return tmp_path / "shown"


def test_what_is_shown(root: Path, decoder: Decoder) -> None:
    photographs = Photographs([root], decoder)
    for id, metadata in (
        ("x", {"path": str(root / "a.jpg")}),
        ("x", {"path": "below/b.jpg"}),
        ("below/b.jpg", {}),
        ("x", {"path": str(root / "below" / ".." / "a.jpg")}),
    ):
        made = photographs.thumbnail(id, metadata)
        assert made is not None, (id, metadata)
        assert Image.open(io.BytesIO(made.jpeg)).size == (96, 64)


def test_links_within_the_folder_are_followed_and_others_not(root: Path, decoder: Decoder) -> None:
    photographs = Photographs([root], decoder)
    (root / "inner.jpg").symlink_to(root / "below" / "b.jpg")
    (root / "outer.jpg").symlink_to(root.parent / "shown-not" / "secret.jpg")
    (root / "folder").symlink_to(root.parent / "shown-not")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    assert photographs.thumbnail("inner.jpg", {}) is not None
    for name in ("outer.jpg", "folder/secret.jpg", "loop.jpg"):
        assert photographs.thumbnail(name, {}) is None, name


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
def test_what_is_never_opened(root: Path, decoder: Decoder, path: str) -> None:
    photographs = Photographs([root], decoder)
    assert photographs.thumbnail("x", {"path": path}) is None
    assert photographs.thumbnail(path, {}) is None


def test_an_absolute_path_outside_is_never_opened(root: Path, decoder: Decoder) -> None:
    secret = str(root.parent / "shown-not" / "secret.jpg")
    assert Photographs([root], decoder).thumbnail("x", {"path": secret}) is None
    assert Photographs([], decoder).thumbnail("x", {"path": secret}) is None


def test_a_folder_that_became_a_link_since_it_was_looked_at(
    root: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = Photographs([root], decoder)
    place = str(root / "below" / "b.jpg")
    (root.parent / "shown-not" / "b.jpg").write_bytes(jpeg(2))
    resolve = os.path.realpath

    def looked(path: str) -> str:
        found = resolve(path)
        if found == place:
            (root / "below").rename(root / "was-below")
            (root / "below").symlink_to(root.parent / "shown-not")
        return found

    monkeypatch.setattr("deepterms.web.thumbnails.os.path.realpath", looked)
    assert photographs.thumbnail("below/b.jpg", {}) is None


def test_a_named_pipe_does_not_hold_the_server_up(root: Path, decoder: Decoder) -> None:
    os.mkfifo(root / "pipe.jpg")
    assert Photographs([root], decoder).thumbnail("pipe.jpg", {}) is None


def test_a_file_that_changed_is_shown_anew(root: Path, decoder: Decoder) -> None:
    photographs = Photographs([root], decoder)
    first = photographs.thumbnail("a.jpg", {})
    assert photographs.thumbnail("a.jpg", {}) is first
    (root / "a.jpg").write_bytes(jpeg(2, width=200))
    second = photographs.thumbnail("a.jpg", {})
    assert first is not None
    assert second is not None
    assert first.etag != second.etag


def test_a_root_is_a_folder(root: Path, decoder: Decoder) -> None:
    with pytest.raises(InvalidInput, match="is not a folder"):
        Photographs([root / "a.jpg"], decoder)


def test_over_http(client: TestClient, index: dt.MemoryIndex, features: object) -> None:
    found = client.post("/v1/search/id", json={"id": name_of(1), "k": 2}).json()["hits"][0]
    answer = client.get(found["thumbnail"])
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    again = client.get(found["thumbnail"], headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/thumbnail", params={"id": "nobody"}).status_code == 404
    index.update_metadata([name_of(2)], [{"path": "/etc/passwd"}])
    assert client.get("/v1/thumbnail", params={"id": name_of(2)}).status_code == 404
