from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deepterms.errors import PackageUnavailable
from deepterms.evaluation.photos.packages import Package, download, read_members
from tests.unit.evaluation.conftest import Registry
from tests.unit.evaluation.photos.archives import Files, qt_resources, write_deb, write_folder, write_tgz, write_wheel

FILES = {
    "package/img/house.jpg": b"house",
    "package/img/boat.png": b"boat",
    "package/photos.rcc": qt_resources({"zoo/bear.webp": b"bear", "zoo/lion.webp": b"lion"}),
}
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        pytest.param("tiny_1_all.deb", write_deb, marks=needs_dpkg),
        pytest.param("tiny-1.tgz", write_tgz),
        pytest.param("tiny-1-py3-none-any.whl", write_wheel),
        pytest.param("unpacked", write_folder),
    ],
)
def test_members_are_read_from_every_kind_of_archive(
    name: str, write: Callable[[Path, Files], Path], tmp_path: Path
) -> None:
    archive = write(tmp_path / name, FILES)
    wanted = [
        "package/img/house.jpg",
        "package/photos.rcc!zoo/lion.webp",
        "package/photos.rcc!zoo/unicorn.webp",
        "package/img/unicorn.jpg",
    ]
    assert read_members(archive, wanted) == {
        "package/img/house.jpg": b"house",
        "package/photos.rcc!zoo/lion.webp": b"lion",
    }


def test_a_resource_file_can_itself_be_a_member(tmp_path: Path) -> None:
    archive = write_wheel(tmp_path / "tiny.whl", FILES)
    both = ["package/photos.rcc", "package/photos.rcc!zoo/bear.webp"]
    assert read_members(archive, both) == {both[0]: FILES["package/photos.rcc"], both[1]: b"bear"}


@pytest.mark.parametrize("name", [pytest.param("tiny.deb", marks=needs_dpkg), "tiny.tgz", "tiny.whl"])
def test_a_damaged_archive_is_reported(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(PackageUnavailable, match=f"cannot unpack {name}"):
        read_members(tmp_path / name, ["house.jpg"])


def test_a_damaged_resource_file_is_reported(tmp_path: Path) -> None:
    archive = write_tgz(tmp_path / "tiny.tgz", {"photos.rcc": FILES["package/photos.rcc"][:40]})
    with pytest.raises(PackageUnavailable, match="damaged"):
        read_members(archive, ["photos.rcc!zoo/bear.webp"])


def test_the_known_version_is_preferred(registry: Registry, tmp_path: Path) -> None:
    calls = registry({"zoo@1.0": {"a": b"old"}, "zoo": {"a": b"new"}})
    archive = download(Package("zoo", "npm", "1.0", "MIT"), _empty(tmp_path))
    assert read_members(archive, ["a"]) == {"a": b"old"}
    assert calls.read_text().split() == ["zoo@1.0"]


def test_any_version_is_used_if_the_known_one_is_gone(registry: Registry, tmp_path: Path) -> None:
    calls = registry({"zoo": {"a": b"new"}})
    archive = download(Package("zoo", "npm", "1.0", "MIT"), _empty(tmp_path))
    assert read_members(archive, ["a"]) == {"a": b"new"}
    assert calls.read_text().split() == ["zoo@1.0", "zoo"]


def test_an_error_quotes_the_client(registry: Registry, tmp_path: Path) -> None:
    registry({})
    with pytest.raises(PackageUnavailable, match=r"^npm: npm error 404 zoo@1\.0$"):
        download(Package("zoo", "npm", "1.0", "MIT"), _empty(tmp_path))


def test_a_missing_client_is_reported(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry({})
    with pytest.raises(PackageUnavailable, match="apt-get is not installed"):
        download(Package("zoo", "apt", "1.0", "MIT"), _empty(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackageUnavailable, match="neither pip nor uv is installed"):
        download(Package("zoo", "pypi", "1.0", "MIT"), _empty(tmp_path))


def test_uv_replaces_a_missing_pip(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry({})
    uv = tmp_path / "programs" / "uv"
    uv.write_text('#!/bin/sh\nwhile [ "$1" != --target ]; do shift; done\nmkdir -p "$2"\necho "$3" >"$2/asked"\n')
    uv.chmod(0o755)
    (tmp_path / "programs" / "mkdir").symlink_to("/bin/mkdir")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    unpacked = download(Package("zoo", "pypi", "1.0", "MIT"), _empty(tmp_path))
    assert read_members(unpacked, ["asked"]) == {"asked": b"zoo==1.0\n"}


def test_pip_of_this_interpreter_is_used(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry({})
    python = tmp_path / "programs" / "python"
    python.write_text('#!/bin/sh\nfor spec; do :; done\necho "$*" >"$spec.whl"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    wheel = download(Package("zoo", "pypi", "1.0", "MIT"), _empty(tmp_path))
    assert wheel.name == "zoo==1.0.whl"
    assert wheel.read_text().startswith("-m pip download ")
    assert "--no-deps --only-binary :all: zoo==1.0" in wheel.read_text()


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir(exist_ok=True)
    return folder
