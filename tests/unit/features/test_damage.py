"""Damage to the files of a store is noticed, named, and confined to one shard, and can be repaired."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepterms.errors import FeatureStoreError
from deepterms.features import discard_damaged, write_store
from deepterms.features.folder_sync import sync_folder
from deepterms.features.store import FeatureStore, Shard
from deepterms.features.store_writer import extract_to_store
from tests.unit.features.fake_extractor import FakeExtractor
from tests.unit.features.test_store import all_expected, contents, write_photos

SHARDS = 3


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path / "photos", 25)


@pytest.fixture
def store(tmp_path: Path, photos: list[Path]) -> Path:
    extract_to_store(FakeExtractor(), tmp_path / "photos", tmp_path / "store", shard_size=10)
    return tmp_path / "store"


def read(shard: Shard, opened: FeatureStore) -> list[object]:
    return [(batch.ids, batch.features.tolist(), batch.items) for batch in opened.batches(shard=shard)]


def test_no_flipped_bit_and_no_lost_tail_is_silent(store: Path, tmp_path: Path) -> None:
    """What a reader gets is what was written, or an error that names the file; other shards are read as before."""
    rng = np.random.default_rng(7)
    sound = FeatureStore.open(store)
    expected = [read(shard, sound) for shard in sound.shards]
    files = sorted(path.name for path in store.iterdir() if path.suffix in (".npy", ".parquet"))
    assert len(files) == 2 * SHARDS
    noticed, changed = dict.fromkeys(files, 0), dict.fromkeys(files, 0)
    for trial in range(240):
        name = files[trial % len(files)]
        damaged = tmp_path / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(store, damaged)
        content = bytearray((damaged / name).read_bytes())
        place = int(rng.integers(len(content)))
        if trial % 4 == 3:
            content[place:] = bytes(len(content) - place)  # a tail that never reached the disk
        else:
            content[place] ^= 1 << int(rng.integers(8))
        changed[name] += content != (damaged / name).read_bytes()
        (damaged / name).write_bytes(content)
        opened = FeatureStore.open(damaged, skip_damaged=True)
        for shard in opened.shards:
            assert read(shard, opened) == expected[shard.number], (name, place)
        assert set(opened.damaged) <= {int(name[-13:-8] if name.endswith("parquet") else name[-9:-4])}
        assert all(str(damaged) in reason and "discard_damaged" in reason for reason in opened.damaged.values())
        noticed[name] += bool(opened.damaged)
    arrays = [name for name in files if name.endswith("npy")]
    assert {name: noticed[name] for name in arrays} == {name: changed[name] for name in arrays}  # each single one
    assert min(changed.values()) > 20


def test_a_damaged_array_is_named_when_it_is_read(store: Path) -> None:
    path = store / "features-00001.npy"
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    opened = FeatureStore.open(store)  # costs no more than reading the footers
    assert [len(read(shard, opened)) for shard in (opened.shards[0], opened.shards[2])] == [1, 1]
    assert opened.features_of(opened.shards[2].ids()).shape == (5, 5)
    for attempt in (
        lambda: list(opened.batches()),
        lambda: opened.shards[1].array(),
        lambda: opened.features_of(opened.shards[1].ids()),
    ):
        with pytest.raises(
            FeatureStoreError, match=r"features-00001\.npy is damaged: its checksum is .* Copy the file"
        ):
            attempt()


@pytest.mark.parametrize("suffix", ["features-0000{}.npy", "items-0000{}.parquet", "both"])
def test_exchanged_files_are_noticed(store: Path, suffix: str) -> None:
    for name in ("features-0000{}.npy", "items-0000{}.parquet") if suffix == "both" else (suffix,):
        first, second = store / name.format(0), store / name.format(1)
        first.rename(store / "aside")
        second.rename(first)
        (store / "aside").rename(second)
    with pytest.raises(FeatureStoreError, match="exchanged" if "npy" not in suffix else "is damaged"):
        list(FeatureStore.open(store).batches())


def test_a_damaged_header_is_noticed(store: Path) -> None:
    text = (store / "store.json").read_text()
    (store / "store.json").write_text(text.replace('"checksums_from": 0', '"checksums_from": 9'))
    with pytest.raises(FeatureStoreError, match=r"store\.json is damaged: its checksum is wrong"):
        FeatureStore.open(store)


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: (store / "features-00001.npy").write_bytes(b"x"),
        lambda store: (store / "items-00001.parquet").write_bytes(b"x"),
        lambda store: (store / "items-00001.parquet").unlink(),
        lambda store: (store / "features-00001.npy").write_bytes(
            (store / "features-00001.npy").read_bytes()[:-4] + b"\0\0\0\0"
        ),
    ],
)
def test_a_damaged_shard_is_discarded_and_its_photos_described_again(
    store: Path, photos: list[Path], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    assert discard_damaged(store) == {}
    damage(store)
    assert list(discard_damaged(store)) == [1]
    assert [shard.rows for shard in FeatureStore.open(store).shards] == [10, 0, 5]
    extractor = FakeExtractor()
    report = extract_to_store(extractor, tmp_path / "photos", store)
    assert len(extractor.asked) == 10
    assert contents(report.store) == all_expected(tmp_path / "photos", photos, bad=())
    assert discard_damaged(store) == {}


def test_a_synced_store_keeps_its_checksums(store: Path, photos: list[Path], tmp_path: Path) -> None:
    photos[0].touch()  # its new time is written into the items
    photos[1].unlink()
    report = sync_folder(FakeExtractor(), tmp_path / "photos", store, delete_missing=True)
    assert len(report.removed) == 1
    assert len(contents(FeatureStore.open(store, skip_damaged=True))) == 24
    assert FeatureStore.open(store, skip_damaged=True).damaged == {}


def test_a_store_of_an_earlier_release_is_read_with_a_note(
    store: Path, photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = contents(FeatureStore.open(store))
    header = json.loads((store / "store.json").read_text())
    del header["crc32"], header["checksums_from"]
    (store / "store.json").write_text(json.dumps(header))
    for path in store.glob("items-*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    caplog.set_level(logging.WARNING, "deepterms.features")
    assert contents(FeatureStore.open(store)) == expected
    assert "3 of 3 shards were written by an earlier release, without checksums" in caplog.text
    write_photos(tmp_path / "photos", 30)
    extract_to_store(FakeExtractor(), tmp_path / "photos", store)
    found = FeatureStore.open(store)
    assert [shard.checksums is None for shard in found.shards] == [True, True, True, False]
    pq.write_table(
        pq.read_table(store / "items-00003.parquet").replace_schema_metadata(None), store / "items-00003.parquet"
    )
    with pytest.raises(FeatureStoreError, match=r"items-00003\.parquet is damaged: it has no checksums"):
        FeatureStore.open(store)


def test_given_descriptors_are_checked_too(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    batches = [([f"d{number}" for number in range(6)], rows, [f"/p/{number}" for number in range(6)])]
    stored = write_store(batches, tmp_path / "store", dimensions=4, spec={}, shard_size=4)
    np.testing.assert_array_equal(stored.features_of(["d5", "d0"]), rows[[5, 0]])
    path = tmp_path / "store" / "features-00001.npy"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    fresh = FeatureStore.open(tmp_path / "store")
    np.testing.assert_array_equal(fresh.features_of(["d0"]), rows[[0]])
    with pytest.raises(FeatureStoreError, match=r"features-00001\.npy is damaged"):
        fresh.features_of(["d5"])
