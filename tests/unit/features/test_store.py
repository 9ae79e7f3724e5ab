from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput, MissingExtra
from deepterms.features.folder_sync import sync_folder
from deepterms.features.plain_array import read_npy
from deepterms.features.store import FeatureStore
from deepterms.features.store_writer import extract_to_store, write_store
from tests.unit.features.fake_extractor import FakeExtractor, expected_feature


def write_photos(folder: Path, count: int = 25, *, bad: Sequence[int] = ()) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"set-{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("bad" if number in bad else "good")
        paths.append(path)
    return paths


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path / "photos", bad=(3, 11))


def contents(store: FeatureStore) -> dict[str, list[float]]:
    rows = {}
    for batch in store.batches(rows=4):
        for item_id, feature in zip(batch.ids, batch.features, strict=True):
            assert item_id not in rows
            rows[item_id] = feature.tolist()
    return rows


def all_expected(folder: Path, photos: Sequence[Path], *, bad: Sequence[int] = (3, 11)) -> dict[str, list[float]]:
    return {
        path.relative_to(folder).as_posix(): expected_feature(path).tolist()
        for path in photos
        if int(path.stem) not in bad
    }


def test_a_folder_is_stored_in_shards_and_read_back(tmp_path: Path, photos: list[Path]) -> None:
    progress: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        progress.append((done, total))

    report = extract_to_store(FakeExtractor(), tmp_path / "photos", tmp_path / "store", shard_size=10, on_progress=note)
    assert (report.added, report.skipped, report.changed) == (23, 0, ())
    assert [(failure.path, failure.reason) for failure in report.failures] == [
        (photos[3], "it is bad"),
        (photos[11], "it is bad"),
    ]
    assert progress == [(done, 25) for done in range(26)]
    store = FeatureStore.open(tmp_path / "store")
    assert len(store) == 23 == len(store.ids)
    assert [shard.rows for shard in store.shards] == [10, 10, 3]
    assert store.dimensions == 5
    assert store.spec == FakeExtractor().spec()
    assert contents(store) == all_expected(tmp_path / "photos", photos)
    assert list(contents(store)) == store.ids == sorted(store.ids)
    assert {failure["id"]: failure["reason"] for failure in store.failures()} == {
        "set-1/003.jpg": "it is bad",
        "set-1/011.jpg": "it is bad",
    }
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        *("failures.jsonl", "features-00000.npy", "features-00001.npy", "features-00002.npy"),
        *("items-00000.parquet", "items-00001.parquet", "items-00002.parquet", "store.json", "writer.lock"),
    ]


def test_batches_are_views_and_never_span_two_shards(tmp_path: Path, photos: list[Path]) -> None:
    store = extract_to_store(FakeExtractor(), tmp_path / "photos", tmp_path / "store", shard_size=10).store
    batches = list(store.batches(rows=4))
    assert [len(batch.ids) for batch in batches] == [4, 4, 2, 4, 4, 2, 3]
    for batch in batches:
        assert batch.features.dtype == np.float32
        assert batch.features.shape == (len(batch.ids), 5)
        assert isinstance(batch.features, np.memmap)
        assert not batch.features.flags.writeable
        for item_id, item in zip(batch.ids, batch.items, strict=True):
            path = tmp_path / "photos" / item_id
            assert item == {"path": str(path), "size": 4, "mtime_ns": path.stat().st_mtime_ns}
    with pytest.raises(InvalidInput, match="rows is 0"):
        next(store.batches(rows=0))


def test_descriptors_are_looked_up_by_id(tmp_path: Path, photos: list[Path]) -> None:
    store = extract_to_store(FakeExtractor(), tmp_path / "photos", tmp_path / "store", shard_size=10).store
    wanted = [store.ids[22], store.ids[0], store.ids[10], store.ids[0]]
    expected = [expected_feature(Path(item_id)) for item_id in wanted]
    np.testing.assert_array_equal(store.features_of(wanted), expected)
    assert store.features_of([]).shape == (0, 5)
    for given in (
        iter(wanted),
        np.array(wanted),
        pd.Series(wanted, index=[3, 1, 0, 2]),
        dict(enumerate(wanted)).values(),
    ):
        np.testing.assert_array_equal(store.features_of(given), expected)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="ids is one text"):
        store.features_of(wanted[0])
    with pytest.raises(InvalidInput, match=r"1 ids are not in .* 'nobody'"):
        store.features_of([wanted[0], "nobody"])


def test_a_store_is_written_by_position(tmp_path: Path) -> None:
    rows, ids = np.arange(9, dtype=np.float32).reshape(3, 3), ["a", "b", "c"]
    labels = [2, 0, 1]
    batch = (pd.Series(ids, index=labels), pd.DataFrame(rows, index=labels), pd.Series(ids, index=labels))
    store = write_store([batch], tmp_path / "store", dimensions=3, spec={})
    assert store.ids == ids
    np.testing.assert_array_equal(store.features_of(ids), rows)


def test_a_second_run_adds_new_photos_and_retries_failures(tmp_path: Path, photos: list[Path]) -> None:
    folder, store = tmp_path / "photos", tmp_path / "store"
    extract_to_store(FakeExtractor(), folder, store, shard_size=10)
    photos[3].write_text("good now")
    photos[4].write_text("replaced by another picture")
    new = write_photos(folder / "more", 30)[25:]
    for path in (folder / "more").rglob("*.jpg"):
        if path not in new:
            path.unlink()
    extractor = FakeExtractor()
    report = extract_to_store(extractor, folder, store, shard_size=10)
    assert sorted(extractor.asked) == sorted(["003.jpg", "011.jpg", *(path.name for path in new)])
    assert (report.added, report.skipped) == (6, 23)
    assert [failure.path.name for failure in report.failures] == ["011.jpg"]
    assert report.changed == ("set-0/004.jpg",)
    assert [failure["id"] for failure in report.store.failures()] == ["set-1/011.jpg"]
    assert len(report.store) == 29
    idle = FakeExtractor()
    assert extract_to_store(idle, [photos[0]], store, root=folder).added == 0
    assert idle.asked == []
    # photos that are not part of this run keep their record
    assert [failure["id"] for failure in report.store.failures()] == ["set-1/011.jpg"]


@pytest.mark.parametrize("given", ["relative", "absolute"])
def test_ids_of_listed_files_are_their_paths(
    tmp_path: Path, photos: list[Path], given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = [path.relative_to(tmp_path) if given == "relative" else path for path in photos]
    store = extract_to_store(FakeExtractor(), listed, tmp_path / "store").store
    assert store.ids == [path.as_posix() for path in listed if int(path.stem) not in (3, 11)]
    rooted = extract_to_store(FakeExtractor(), photos, tmp_path / "rooted", root=tmp_path / "photos").store
    assert rooted.ids[0] == "set-0/000.jpg"


def test_ids_are_unique_and_files_lie_below_the_root(tmp_path: Path, photos: list[Path]) -> None:
    with pytest.raises(InvalidInput, match="both have the id"):
        extract_to_store(FakeExtractor(), [photos[0], photos[0]], tmp_path / "store")
    with pytest.raises(InvalidInput, match="not below root"):
        extract_to_store(FakeExtractor(), photos, tmp_path / "store", root=tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="shard_size is 0"):
        extract_to_store(FakeExtractor(), photos, tmp_path / "store", shard_size=0)


def test_names_that_are_not_utf8_are_reported(tmp_path: Path, photos: list[Path]) -> None:
    strange = tmp_path / "photos" / os.fsdecode(b"caf\xe9.jpg")
    strange.write_text("good")
    report = extract_to_store(FakeExtractor(), tmp_path / "photos", tmp_path / "store")
    assert (strange, "its name is not valid UTF-8; rename it") in [(f.path, f.reason) for f in report.failures]
    assert report.added == 23
    assert strange.name in [failure["id"] for failure in FeatureStore.open(tmp_path / "store").failures()]


def test_a_different_extractor_is_rejected(tmp_path: Path, photos: list[Path]) -> None:
    extract_to_store(FakeExtractor(), photos, tmp_path / "store")
    for open_it in (
        lambda: extract_to_store(FakeExtractor("other"), photos, tmp_path / "store"),
        lambda: FeatureStore.open(tmp_path / "store", extractor_spec=FakeExtractor("other").spec()),
    ):
        with pytest.raises(FeatureStoreError, match=r"different extractor.*extractor is 'fake', not 'other'"):
            open_it()
    spec = {**FakeExtractor().spec(), "sizes": (224,)}  # a tuple equals the list that it was stored as
    assert len(FeatureStore.open(tmp_path / "store", extractor_spec=spec)) == 23


def test_files_of_another_folder_are_not_taken_as_stored(tmp_path: Path) -> None:
    for name in ("camA", "camB"):
        write_photos(tmp_path / name, 3)
    extract_to_store(FakeExtractor(), tmp_path / "camA", tmp_path / "store")
    report = extract_to_store(FakeExtractor(), tmp_path / "camB", tmp_path / "store")
    assert (report.added, report.skipped, len(report.failures)) == (0, 0, 3)
    assert f"is that of {tmp_path / 'camA' / 'set-0' / '000.jpg'}" in report.failures[0].reason
    shutil.move(tmp_path / "camA", tmp_path / "moved")
    assert extract_to_store(FakeExtractor(), tmp_path / "moved", tmp_path / "store").skipped == 3


def test_a_synced_store_has_the_ids_of_its_folders(tmp_path: Path) -> None:
    for name in ("camA", "camB"):
        write_photos(tmp_path / name, 2)
        sync_folder(FakeExtractor(), tmp_path / name, tmp_path / "store")
    write_photos(tmp_path / "camB", 3)
    report = extract_to_store(FakeExtractor(), tmp_path / "camB", tmp_path / "store")
    assert (report.added, report.skipped) == (1, 2)
    assert report.store.ids[-1].startswith("camB-")
    with pytest.raises(FeatureStoreError, match=r"is in sync with .*camA and others, not with .*camC"):
        extract_to_store(
            FakeExtractor(), write_photos(tmp_path / "camC", 1), tmp_path / "store", root=tmp_path / "camC"
        )


@pytest.fixture
def version_one(tmp_path: Path) -> tuple[Path, Path]:
    """A folder, and its store as written before stores had hashes and folders."""
    photos, store = tmp_path / "photos", tmp_path / "store"
    write_photos(photos, 12)
    extract_to_store(FakeExtractor(), photos, store, shard_size=5)
    for path in store.glob("items-*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["hash"]).replace_schema_metadata(None), path)
    header = json.loads((store / "store.json").read_text())
    del header["crc32"], header["checksums_from"]
    assert header.keys() == {"format", "version", "dimensions", "extractor"}
    (store / "store.json").write_text(json.dumps(header))
    return photos, store


def test_a_store_of_version_1_is_read_and_synced(version_one: tuple[Path, Path]) -> None:
    photos, store = version_one
    ids = FeatureStore.open(store).ids
    assert len(ids) == 12
    (photos / "set-0" / "000.jpg").unlink()
    (photos / "set-1" / "001.jpg").write_text("edited")
    extractor = FakeExtractor()
    report = sync_folder(extractor, photos, store, delete_missing=True)
    assert (report.unchanged, report.replaced, report.removed) == (10, ("set-1/001.jpg",), ("set-0/000.jpg",))
    assert extractor.asked == ["001.jpg"]
    assert sorted(report.store.ids) == sorted(set(ids) - {"set-0/000.jpg"})
    assert contents(report.store) == all_expected(photos, sorted(photos.rglob("*.jpg")), bad=())
    np.testing.assert_array_equal(report.store.features_of(["set-1/001.jpg"]), [expected_feature(Path("001.jpg"))])


def test_a_moved_folder_of_version_1_keeps_its_ids(version_one: tuple[Path, Path]) -> None:
    photos, store = version_one
    ids = FeatureStore.open(store).ids
    extractor = FakeExtractor()
    moved = photos.rename(photos.with_name("pictures"))
    report = sync_folder(extractor, moved, store)
    assert (len(report.moved), extractor.asked, report.store.ids) == (12, [], ids)
    for batch in report.store.batches():
        assert [item["path"] for item in batch.items] == [str(moved / item_id) for item_id in batch.ids]


def test_an_interrupted_sync_resumes(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 12)
    sync_folder(FakeExtractor(), photos, tmp_path / "store", shard_size=5)
    for path in photos.rglob("*.jpg"):
        path.write_text("edited")

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync_folder(FakeExtractor(), photos, tmp_path / "store", shard_size=5, on_progress=interrupt)
    extractor = FakeExtractor()
    report = sync_folder(extractor, photos, tmp_path / "store", shard_size=5)
    assert (report.unchanged, len(report.added), len(extractor.asked)) == (7, 5, 5)
    assert contents(report.store) == all_expected(photos, sorted(photos.rglob("*.jpg")), bad=())


def test_an_interrupted_run_keeps_its_results(tmp_path: Path, photos: list[Path]) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_to_store(FakeExtractor(), photos, tmp_path / "store", shard_size=10, on_progress=interrupt)
    assert [shard.rows for shard in FeatureStore.open(tmp_path / "store").shards] == [10, 5]
    extractor = FakeExtractor()
    report = extract_to_store(extractor, photos, tmp_path / "store", shard_size=10)
    assert extractor.asked == ["003.jpg", "011.jpg", *(f"{number:03d}.jpg" for number in range(17, 25))]
    assert len(report.store) == 23


# The child is killed before or after its `number`-th rename.
CHILD = """
import os, signal, sys
from pathlib import Path
from deepterms.features.store_writer import extract_to_store
from tests.unit.features.fake_extractor import FakeExtractor
photos, store, number, when = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
replace, calls = Path.replace, 0
def replace_and_die(self, target):
    global calls
    calls += 1
    if calls == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, target)
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = replace_and_die
extract_to_store(FakeExtractor(), photos, store, shard_size=10)
"""
# Renames: 1 is store.json; 2 to 4 are failures, features and items of the first shard; 5 to 7 and 8 to 10 the others.
SHARD_FILES = ("features-{:05d}.npy", "items-{:05d}.parquet")
KILLS = [(1, "before"), (1, "after"), (3, "before"), (3, "after"), (4, "after"), (6, "after"), (7, "after")]
KILLS += [(10, "before")]


def test_a_killed_run_resumes_with_every_complete_shard(tmp_path: Path, photos: list[Path]) -> None:
    folder = tmp_path / "photos"

    def killed(kill: tuple[int, str]) -> tuple[tuple[int, str], Path]:
        store = tmp_path / f"store-{kill[0]}-{kill[1]}"
        command = [sys.executable, "-c", CHILD, str(folder), str(store), str(kill[0]), kill[1]]
        child = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()
        return kill, store

    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(killed, KILLS))
    for (number, when), store in stores:
        renamed = number - (when == "before")
        finished = (renamed >= 4) + (renamed >= 7)
        partly = contents(FeatureStore.open(store)) if renamed else {}
        assert len(partly) == 10 * finished
        shards = [store / name.format(shard) for shard in range(finished) for name in SHARD_FILES]
        before = {path: path.read_bytes() for path in shards}
        extractor = FakeExtractor()
        report = extract_to_store(extractor, folder, store, shard_size=10)
        assert len(extractor.asked) == 25 - len(partly), (number, when)
        assert contents(report.store) == all_expected(folder, photos), (number, when)
        assert [shard.rows for shard in report.store.shards] == [10, 10, 3]
        assert len(report.failures) == len(report.store.failures()) == 2
        assert {path: path.read_bytes() for path in shards} == before
        assert not list(store.glob("*.partial"))


def test_a_writer_killed_anytime_leaves_a_readable_store(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 400)
    store = tmp_path / "store"
    slow = "import time\nstream = FakeExtractor.stream\n" + (
        "def slowly(self, paths):\n"
        "    for outcome in stream(self, paths):\n"
        "        time.sleep(0.002)\n"
        "        yield outcome\n"
        "FakeExtractor.stream = slowly\n"
    )
    script = CHILD.replace("Path.replace = replace_and_die", slow).replace("shard_size=10", "shard_size=3")
    for round_number in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "photos"), str(store), "0", ""],
            cwd=Path(__file__).parents[3],
        )
        deadline = time.monotonic() + 60
        had = len(list(store.glob("items-*.parquet")))
        while len(list(store.glob("items-*.parquet"))) < had + 2 + round_number and time.monotonic() < deadline:
            time.sleep(0.003)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert len(FeatureStore.open(store)) == 3 * len(list(store.glob("items-*.parquet"))) > 3 * had
    kept = len(FeatureStore.open(store))
    report = extract_to_store(FakeExtractor(), tmp_path / "photos", store)
    assert (report.skipped, report.added) == (kept, 400 - kept)
    assert contents(report.store) == all_expected(tmp_path / "photos", photos, bad=())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock on Windows")
def test_a_second_writer_is_locked_out(tmp_path: Path, photos: list[Path]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait(done: int, total: int) -> None:
        inside.set()
        assert leave.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(extract_to_store, FakeExtractor(), photos, tmp_path / "store", on_progress=wait)
        assert inside.wait(30)
        try:
            with pytest.raises(FeatureStoreError, match="another process is writing"):
                extract_to_store(FakeExtractor(), photos, tmp_path / "store")
        finally:
            leave.set()
        assert first.result().added == 23


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, photos: list[Path]) -> None:
    with pytest.raises(FeatureStoreError, match="is not a feature store, but contains 'set-0'"):
        extract_to_store(FakeExtractor(), photos, tmp_path / "photos")
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["set-0", "set-1", "writer.lock"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda store: (store / "store.json").unlink(), "has no store.json"),
        (lambda store: (store / "store.json").write_text("{"), "cannot be read"),
        (lambda store: (store / "store.json").write_text('{"format": "other"}'), "does not describe a feature store"),
        (lambda store: rewrite_header(store, version=3), "has format version 3"),
        (
            lambda store: rewrite_header(store, version=2, folders=[{"path": 1}]),
            "folders, renames or removed is not valid",
        ),
        (lambda store: rewrite_header(store, version=2, folders=5), "folders, renames or removed is not valid"),
        (lambda store: rewrite_header(store, version=2, renames=[{}]), "folders, renames or removed is not valid"),
        (
            lambda store: rewrite_header(store, version=2, removed={"0": [-1]}),
            "folders, renames or removed is not valid",
        ),
        (lambda store: rewrite_header(store, version=2, removed={"0": [10]}), "items-00000.parquet has no row 10"),
        (lambda store: (store / "features-00001.npy").unlink(), "features-00001.npy is not a readable"),
        (lambda store: truncate(store / "features-00001.npy"), "features-00001.npy is not a readable"),
        (
            lambda store: np.save(store / "features-00001.npy", np.zeros((10, 4), np.float32)),
            r"expected float32 \(10, 5\)",
        ),
        (lambda store: np.save(store / "features-00001.npy", np.zeros((10, 5))), r"expected float32 \(10, 5\)"),
        (lambda store: truncate(store / "items-00001.parquet"), "items-00001.parquet is damaged"),
        (lambda store: (store / "items-00001.parquet").unlink(), r"lacks shards: found only \[0, 2\]"),
    ],
)
def test_damaged_stores_are_rejected(
    tmp_path: Path, photos: list[Path], damage: Callable[[Path], object], message: str
) -> None:
    store = tmp_path / "store"
    extract_to_store(FakeExtractor(), photos, store, shard_size=10)
    damage(store)
    with pytest.raises(FeatureStoreError, match=message):
        FeatureStore.open(store)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def rewrite_header(store: Path, **changes: object) -> None:
    header = json.loads((store / "store.json").read_text())
    del header["crc32"]
    (store / "store.json").write_text(json.dumps({**header, **changes}))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("listed", ["text", "text without a last newline", "windows text", "json"])
def test_plain_arrays_are_read_as_a_store(tmp_path: Path, dtype: type[np.floating[Any]], listed: str) -> None:
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    ids = ["a", "b c", "d/e.jpg", "ü\u2028x", "5"]
    np.save(tmp_path / "features.npy", features)
    name, text = {
        "text": ("ids.txt", "\n".join(ids) + "\n"),
        "text without a last newline": ("ids.txt", "\n".join(ids)),
        "windows text": ("ids.txt", "\r\n".join(ids) + "\r\n"),
        "json": ("ids.json", json.dumps(ids)),
    }[listed]
    (tmp_path / name).write_bytes(text.encode())
    store = read_npy(tmp_path / "features.npy", tmp_path / name)
    assert (len(store), store.dimensions, store.ids, store.spec) == (5, 3, ids, None)
    batches = list(store.batches(rows=2))
    assert [batch.ids for batch in batches] == [ids[:2], ids[2:4], ids[4:]]
    assert {batch.features.dtype for batch in batches} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate([batch.features for batch in batches]), features.astype(np.float32))
    np.testing.assert_array_equal(store.features_of(["5", "a"]), features[[4, 0]].astype(np.float32))
    assert [batch.items for batch in batches] == [[{}, {}], [{}, {}], [{}]]
    assert store.failures() == []


@pytest.mark.parametrize(
    ("array", "ids", "message"),
    [
        (np.zeros((2, 3)), '["a"]', r"expected floats \(1, D\)"),
        (np.zeros(2), '["a", "b"]', r"expected floats \(2, D\)"),
        (np.zeros((2, 3), int), '["a", "b"]', "contains int64"),
        (np.zeros((2, 3)), '["a", "a"]', "duplicate ids"),
        (np.zeros((2, 3)), '["a", ""]', "not a list of ids"),
        (np.zeros((2, 3)), '["a", 1]', "not a list of ids"),
        (np.zeros((2, 3)), '{"a": 1}', "not a list of ids"),
        (np.zeros((2, 3)), "[", "cannot be read"),
    ],
)
def test_arrays_that_do_not_match_their_ids_are_rejected(
    tmp_path: Path, array: NDArray[np.float64], ids: str, message: str
) -> None:
    np.save(tmp_path / "features.npy", array)
    (tmp_path / "ids.json").write_text(ids)
    with pytest.raises(FeatureStoreError, match=message):
        read_npy(tmp_path / "features.npy", tmp_path / "ids.json")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa\nb c\nd\n",
        b"\xef\xbb\xbfa\r\nb c\r\nd\r\n",
        b"a\rb c\rd",
        b"a\nb c\nd\n\n\r\n  \n",
    ],
    ids=["byte order mark", "windows", "old mac", "empty lines at the end"],
)
@pytest.mark.parametrize("name", ["ids.txt", "ids.json"])
def test_ids_of_other_systems_are_read(tmp_path: Path, content: bytes, name: str) -> None:
    np.save(tmp_path / "features.npy", np.zeros((3, 2)))
    if name == "ids.json":
        content = content[: 3 * content.startswith(b"\xef")] + b'["a",\r\n"b c", "d"]\r\n\r\n'
    (tmp_path / name).write_bytes(content)
    assert read_npy(tmp_path / "features.npy", tmp_path / name).ids == ["a", "b c", "d"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2 of .* is empty"),
        (b"a\r\n \t\r\nb\r\n", "line 2 of .* is empty"),
        (b"", "line 1 of .* is empty"),
        (b"a\nb \nc\n", "line 2 of .* is 'b '; expected no blanks"),
        (b"a\nb\n\tc", r"line 3 of .* is '\\tc'; expected no blanks"),
        (b"a\n\xef\xbb\xbfb\n", r"line 2 of .* is '\\ufeffb'; expected no blanks or byte order marks"),
        (b"a\nb\nc\nb\n", "line 4 repeats 'b' of line 2"),
        (b"a\nb\nc\xff\n", "line 3 is not UTF-8"),
        ("a\nb\n".encode("utf-16"), "the file is UTF-16"),
    ],
)
def test_wrong_lines_are_rejected_by_number(tmp_path: Path, content: bytes, message: str) -> None:
    np.save(tmp_path / "features.npy", np.zeros((3, 2)))
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(FeatureStoreError, match=message):
        read_npy(tmp_path / "features.npy", tmp_path / "ids.txt")


def test_wrong_elements_are_rejected_by_number(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.zeros((3, 2)))
    for listed, message in ((["a", 5], "element 2 is 5"), (["a", "b", "a"], "element 3 repeats 'a' of element 1")):
        (tmp_path / "ids.json").write_text(json.dumps(listed))
        with pytest.raises(FeatureStoreError, match=message):
            read_npy(tmp_path / "features.npy", tmp_path / "ids.json")
    (tmp_path / "ids.json").write_text('["a ", " b", "c"]')  # a list is taken literally
    assert read_npy(tmp_path / "features.npy", tmp_path / "ids.json").ids == ["a ", " b", "c"]


def test_archives_and_missing_files_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\n")
    np.savez(tmp_path / "features.npz", np.zeros((1, 3)))
    for name, message in (("features.npz", "archive of arrays"), ("missing.npy", "not a readable .npy")):
        with pytest.raises(FeatureStoreError, match=message):
            read_npy(tmp_path / name, tmp_path / "ids.txt")
    with pytest.raises(FeatureStoreError, match="cannot be read"):
        read_npy(tmp_path / "features.npz", tmp_path / "missing.txt")


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_to_store(FakeExtractor(), photos, tmp_path / "store")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for use in (
        lambda: FeatureStore.open(tmp_path / "store"),
        lambda: extract_to_store(FakeExtractor(), photos, tmp_path / "other"),
    ):
        with pytest.raises(MissingExtra, match=r'pip install "deepterms\[features\]"'):
            use()
