"""Folders of photographs and what an index contains after `deepterms index`: random changes in two folders."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cli.folders import sync_photographs
from deepterms.cli.store_indexing import send_shards
from deepterms.errors import InvalidInput, UnreadableImage
from deepterms.features.folder_rows import forget_folder
from deepterms.features.folder_sync import SyncReport, sync_folder
from deepterms.index.checkpoint import Checkpoint
from tests.unit.features.fake_extractor import Outcome

NAMES = ("IMG_0.jpg", "IMG_1.jpg", "IMG_2.jpg", "trip/IMG_0.jpg", "trip/IMG_1.jpg")


def describe(content: bytes) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(8).astype(np.float32)
    unit: NDArray[np.float32] = vector / np.float32(np.linalg.norm(vector))
    return unit


@dataclass
class ContentExtractor:
    """Describes a file by its content, rejects files that contain "bad", and records the files it was given."""

    asked: list[Path] = field(default_factory=list)
    dimensions: int = 8

    def spec(self) -> dict[str, Any]:
        return {"extractor": "content"}

    def stream(self, paths: Iterable[str | Path]) -> Iterator[Outcome]:
        for path in map(Path, paths):
            self.asked.append(path)
            content = path.read_bytes()
            if b"bad" in content:
                yield Outcome(path, None, UnreadableImage(path, "it is bad"))
            else:
                yield Outcome(path, describe(content), None)


class Target:
    """A `MemoryIndex` with the methods of a `SurrogateIndex`."""

    def __init__(self) -> None:
        self.index = dt.MemoryIndex(dt.DeepPermutation(8, top_k=8))
        self.sent = 0

    def add_batches(
        self, batches: Iterable[Any], *, on_progress: Callable[[int], None] | None = None
    ) -> dt.WriteReport:
        report = dt.WriteReport(0)
        for ids, features, metadata in batches:
            self.sent += len(ids)
            report += self.index.add(ids, features, metadata)
        return report

    def delete(self, ids: Sequence[str]) -> dt.WriteReport:
        return self.index.delete(ids)

    def contents(self, ids: Iterable[str]) -> dict[str, Any]:
        found = {}
        for item_id in ids:
            document = self.index.get(item_id)
            if document is not None:
                found[item_id] = (document.metadata["path"], document.vector)
        return found


class Setting:
    """Two folders, a store and an index."""

    def __init__(self, top: Path) -> None:
        self.top = top.resolve()
        self.roots = [self.top / "camA", self.top / "camB"]
        for root in self.roots:
            root.mkdir()
        self.target = Target()
        self.extractor = ContentExtractor()
        self.clock = 10**18

    def write(self, root: Path, name: str, content: str, *, keep_time: bool = False) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if not keep_time:
            self.clock += 1_000_000  # contents may be equally long, and clocks are coarse
            os.utime(path, ns=(self.clock, self.clock))

    def sync(self, root: Path, *, delete_missing: bool = True) -> SyncReport:
        self.extractor.asked.clear()
        report = sync_folder(self.extractor, root, self.top / "store", delete_missing=delete_missing, shard_size=2)
        with Checkpoint(self.top / "store" / "cams.checkpoint", owner={"index": "memory"}) as record:
            assert not send_shards(self.target, report.store, record=record).failed
        return report

    def files(self) -> dict[str, tuple[str, bytes]]:
        """Id → path and content of each readable file, by the rule in the documentation."""
        found = {}
        for root in self.roots:
            prefix = self.prefix(root)
            for path in root.rglob("*.jpg"):
                if b"bad" not in (content := path.read_bytes()):
                    found[prefix + path.relative_to(root).as_posix()] = (str(path), content)
        return found

    def prefix(self, root: Path) -> str:
        from deepterms.features import FeatureStore

        header = FeatureStore.open(self.top / "store").header
        assert header is not None
        return next(folder.prefix for folder in header.folders if folder.path == str(root))

    def check(self) -> None:
        expected = self.files()
        assert self.target.index.count() == len(expected)
        found = self.target.contents(expected)
        assert {item_id: path for item_id, (path, _) in found.items()} == {
            item_id: path for item_id, (path, _) in expected.items()
        }
        for item_id, (_, content) in expected.items():
            np.testing.assert_allclose(found[item_id][1], describe(content), atol=1e-6)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    cams = Setting(tmp_path)
    for root in cams.roots:
        for name in NAMES[:3]:
            cams.write(root, name, f"{root.name} {name}")
    cams.sync(cams.roots[0])
    cams.sync(cams.roots[1])
    return cams


def test_equal_names_in_two_folders_do_not_collide(setting: Setting) -> None:
    setting.check()
    assert setting.prefix(setting.roots[0]) == ""
    assert setting.prefix(setting.roots[1]).startswith("camB-")
    assert len(setting.files()) == 6
    report = setting.sync(setting.roots[1])
    assert (report.unchanged, report.added, setting.extractor.asked) == (3, (), [])


def test_a_replaced_photo_is_described_again(setting: Setting) -> None:
    first = setting.roots[0]
    setting.write(first, "IMG_1.jpg", "another picture")
    report = setting.sync(first)
    assert (report.replaced, report.unchanged, report.added) == (("IMG_1.jpg",), 2, ())
    setting.check()
    # Back and forth: a checkpoint that listed contents would take the third as sent already.
    for content in ("camA IMG_1.jpg", "another picture", "camA IMG_1.jpg"):
        setting.write(first, "IMG_1.jpg", content)
        assert setting.sync(first).replaced == ("IMG_1.jpg",)
        setting.check()


def test_a_photo_that_became_unreadable_is_deleted(setting: Setting) -> None:
    setting.write(setting.roots[0], "IMG_1.jpg", "bad")
    report = setting.sync(setting.roots[0], delete_missing=False)
    assert [failure.path.name for failure in report.failures] == ["IMG_1.jpg"]
    assert (report.replaced, report.unchanged) == ((), 2)
    setting.check()


def test_a_photo_that_cannot_be_opened_is_kept(setting: Setting) -> None:
    path = setting.roots[0] / "IMG_1.jpg"
    path.unlink()
    path.symlink_to(setting.top / "network-drive" / "IMG_1.jpg")
    report = setting.sync(setting.roots[0])
    assert [failure.reason for failure in report.failures] == ["it cannot be opened; its earlier descriptor is kept"]
    assert (report.unchanged, report.removed) == (2, ())
    assert setting.target.index.count() == 6


def test_a_touched_photo_is_unchanged(setting: Setting) -> None:
    first = setting.roots[0]
    sent = setting.target.sent
    setting.write(first, "IMG_1.jpg", "camA IMG_1.jpg")
    report = setting.sync(first)
    assert (report.unchanged, report.replaced, setting.extractor.asked) == (3, (), [])
    assert setting.target.sent == sent
    (item,) = [item for shard in report.store.shards for item in shard.items() if item["id"] == "IMG_1.jpg"]
    assert item["mtime_ns"] == setting.clock


def test_missing_photos_are_deleted_on_request_only(setting: Setting) -> None:
    first = setting.roots[0]
    (first / "IMG_1.jpg").unlink()
    for _ in range(2):
        assert setting.sync(first, delete_missing=False).removed == ("IMG_1.jpg",)
        assert setting.target.index.count() == 6
    assert setting.sync(first, delete_missing=True).removed == ("IMG_1.jpg",)
    setting.check()
    assert setting.sync(first, delete_missing=True).removed == ()
    setting.write(first, "IMG_1.jpg", "camA IMG_1.jpg")
    assert setting.sync(first).added == ("IMG_1.jpg",)
    setting.check()


def test_a_moved_photo_keeps_its_descriptor(setting: Setting) -> None:
    first, second = setting.roots
    (first / "new").mkdir()
    (first / "IMG_1.jpg").rename(first / "new" / "renamed.jpg")
    report = setting.sync(first, delete_missing=False)
    assert (report.moved, report.removed, setting.extractor.asked) == ({"new/renamed.jpg": "IMG_1.jpg"}, (), [])
    setting.check()
    (first / "new" / "renamed.jpg").rename(second / "renamed.jpg")
    report = setting.sync(second, delete_missing=False)
    assert report.moved == {f"{setting.prefix(second)}renamed.jpg": "new/renamed.jpg"}
    assert setting.extractor.asked == []
    setting.check()


def test_a_copy_is_added(setting: Setting) -> None:
    first = setting.roots[0]
    shutil.copy2(first / "IMG_1.jpg", first / "copy.jpg")
    report = setting.sync(first)
    assert (report.added, report.moved) == (("copy.jpg",), {})
    shutil.copy2(first / "IMG_1.jpg", setting.roots[1] / "copy.jpg")
    report = setting.sync(setting.roots[1])
    assert (len(report.added), report.moved) == (1, {})
    setting.check()


@pytest.mark.parametrize("number", [0, 1])
def test_a_moved_folder_keeps_its_ids(setting: Setting, number: int) -> None:
    before, ids = setting.roots[number], set(setting.files())
    setting.roots[number] = before.rename(setting.top / "elsewhere")
    report = setting.sync(setting.roots[number])
    assert (len(report.moved), report.added, report.removed, setting.extractor.asked) == (3, (), (), [])
    assert set(setting.files()) == ids
    setting.check()
    setting.roots[number] = setting.roots[number].rename(before)  # and back
    setting.sync(before)
    setting.check()


def test_a_subfolder_is_part_of_its_folder(setting: Setting) -> None:
    first = setting.roots[0]
    setting.write(first, "trip/IMG_7.jpg", "camA IMG_7")
    assert setting.sync(first).added == ("trip/IMG_7.jpg",)
    setting.write(first, "trip/IMG_8.jpg", "camA IMG_8")
    (first / "IMG_0.jpg").unlink()
    report = setting.sync(first / "trip")
    assert (report.added, report.unchanged, report.removed) == (("trip/IMG_8.jpg",), 1, ())
    assert setting.sync(first).removed == ("IMG_0.jpg",)
    setting.check()


def test_a_parent_folder_keeps_the_ids_of_its_parts(setting: Setting) -> None:
    setting.write(setting.top / "camC", "IMG_0.jpg", "camC IMG_0")
    report = setting.sync(setting.top)
    assert report.unchanged == 6
    (added,) = report.added
    assert added == f"{setting.prefix(setting.top)}camC/IMG_0.jpg"


def test_a_collision_with_a_prefix_is_rejected(setting: Setting) -> None:
    first, second = setting.roots
    name = f"{setting.prefix(second)}IMG_0.jpg"
    setting.write(first, name, "in the way")
    report = setting.sync(first)
    (failure,) = report.failures
    assert failure.path == first / name
    assert f"is that of {second / 'IMG_0.jpg'}" in failure.reason
    (first / name).unlink()
    setting.check()


def test_an_empty_folder_is_not_emptied_in_the_index(setting: Setting) -> None:
    first = setting.roots[0]
    for name in NAMES[:3]:
        (first / name).unlink()
    with pytest.raises(InvalidInput, match="is the drive mounted"):
        setting.sync(first)
    assert len(setting.sync(first, delete_missing=False).removed) == 3
    assert setting.target.index.count() == 6


@pytest.mark.parametrize("number", [0, 1])
def test_a_folder_is_forgotten_on_request(setting: Setting, number: int) -> None:
    gone, kept = setting.roots[number], setting.roots[1 - number]
    shutil.rmtree(gone)
    setting.sync(kept)
    assert setting.target.index.count() == 6  # a drive that is not mounted looks the same
    assert len(forget_folder(setting.top / "store", gone)) == 3
    with pytest.raises(InvalidInput, match=f"contains no photos of {gone}; its folders are: {kept}"):
        forget_folder(setting.top / "store", gone)
    setting.roots = [kept]
    setting.sync(kept)
    setting.check()
    setting.roots.append(gone)
    setting.write(gone, "IMG_0.jpg", "again")
    setting.sync(gone)
    setting.check()


def test_a_folder_that_cannot_be_listed_counts_as_there(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepterms.features import folder_rows

    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        if path.name == "IMG_0.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (setting.roots[0] / "IMG_0.jpg").unlink()
    monkeypatch.setattr(Path, "lstat", lstat)
    assert not folder_rows.is_gone(setting.roots[0] / "IMG_0.jpg")
    assert setting.sync(setting.roots[0]).removed == ()


def test_the_ids_of_a_first_folder_may_be_in_use(tmp_path: Path) -> None:
    cams = Setting(tmp_path)
    cams.write(cams.roots[0], "IMG_0.jpg", "x")
    asked = []

    def is_free(root: Path, found: Sequence[Path]) -> bool:
        asked.append((root, list(found)))
        return False

    for _ in range(2):
        sync_folder(cams.extractor, cams.roots[0], tmp_path / "store", may_use_plain_ids=is_free)
    assert asked == [(cams.roots[0], [cams.roots[0] / "IMG_0.jpg"])]
    assert cams.prefix(cams.roots[0]).startswith("camA-")


def test_another_index_of_the_store_is_brought_up_to_date(setting: Setting) -> None:
    other = Target()
    store = setting.sync(setting.roots[0]).store
    assert send_shards(other, store, record=None).succeeded == 6
    (setting.roots[0] / "IMG_0.jpg").unlink()
    store = setting.sync(setting.roots[0]).store
    send_shards(other, store, record=None)
    assert other.index.count() == setting.target.index.count() == 5


# Few names and contents, and a sync after most changes, so that photos often return to an earlier place or content.
NAMES_CHANGED = ("IMG_0.jpg", "trip/IMG_0.jpg")
names = st.sampled_from(NAMES_CHANGED)
folders = st.sampled_from([0, 1])
operations = st.one_of(
    st.tuples(st.just("write"), folders, names, st.sampled_from(["0", "1", "2", "bad"])),
    st.tuples(st.just("write"), folders, names, st.sampled_from(["0", "1", "2"])),
    st.tuples(st.just("touch"), folders, names, st.none()),
    st.tuples(st.just("move"), folders, names, st.tuples(folders, names)),
    st.tuples(st.just("remove"), folders, names, st.none()),
    st.tuples(st.just("rename"), folders, names, st.none()),
)
syncs = st.sampled_from([(), (0,), (1,), (0, 1), (1, 0)])  # which folders, in which order


def apply_operation(cams: Setting, kind: str, number: int, name: str, extra: Any) -> None:
    path = cams.roots[number] / name
    if kind == "write":
        cams.write(cams.roots[number], name, extra)
    elif kind == "rename":
        # As a person does it: the folder is synced before and after.
        cams.sync(cams.roots[number])
        cams.roots[number] = cams.roots[number].rename(cams.top / f"moved-{cams.clock}-{number}")
        cams.clock += 1
        cams.sync(cams.roots[number])
    elif path.exists():
        if kind == "touch":
            cams.write(cams.roots[number], name, path.read_text())
        elif kind == "remove":
            path.unlink()
        else:
            target = cams.roots[extra[0]] / extra[1]
            target.parent.mkdir(exist_ok=True)
            path.replace(target)


@settings(max_examples=40)
@given(st.lists(st.tuples(operations, syncs, st.booleans()), min_size=2, max_size=10))
def test_the_index_equals_the_folders(steps: list[tuple[tuple[str, int, str, Any], tuple[int, ...], bool]]) -> None:
    with TemporaryDirectory() as top:
        cams = Setting(Path(top))
        for number, root in enumerate(cams.roots):
            for name in ("always.jpg", *NAMES_CHANGED):  # an emptied folder is not synced
                cams.write(root, name, f"{name} {number}")
            cams.sync(root)
        for operation, synced, delete_missing in steps:
            apply_operation(cams, *operation)
            for number in synced:
                cams.sync(cams.roots[number], delete_missing=delete_missing)
        for root in cams.roots:
            cams.sync(root)
        cams.check()
        for root in cams.roots:
            before = cams.target.sent
            report = cams.sync(root)
            assert (report.added, report.replaced, report.moved, report.removed) == ((), (), {}, ())
            assert cams.target.sent == before


def test_skipped_pictures_are_counted_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = Setting(tmp_path)
    setting.write(setting.roots[0], "a.jpg", "a")
    setting.write(setting.roots[0], "@eaDir/a.jpg", "thumbnail")
    setting.write(setting.roots[0], "._a.jpg", "fork")
    extractor: Any = setting.extractor
    report = sync_photographs(extractor, setting.roots[0], tmp_path / "store", target=None, delete_missing=False)
    assert (report.added, report.skipped) == (("a.jpg",), 2)
    assert "2 skipped: hidden pictures" in capsys.readouterr().err
