from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from deepterms.cache import cache_folder
from deepterms.encoders.pivots.pivots import Metric, Pivots
from deepterms.storage.pivot_cache import PivotCache


class Source:
    """A source of pivots that creates equal ones on each call, and counts the calls."""

    def __init__(self, seed: int, metric: Metric = "cosine") -> None:
        self.seed = seed
        self.metric = metric
        self.loaded = 0

    def make(self) -> Pivots:
        return Pivots(np.random.default_rng(self.seed).standard_normal((40, 6)), metric=self.metric)

    def __call__(self) -> Pivots:
        self.loaded += 1
        return self.make()


@pytest.fixture
def cache(tmp_path: Path) -> PivotCache:
    return PivotCache(tmp_path / "new" / "pivots")


def test_pivots_are_read_from_the_file(cache: PivotCache) -> None:
    source = Source(1, metric="l2")
    spec = source.make().spec()
    first = cache.get(spec, source)
    assert (source.loaded, first.metric) == (1, "l2")
    assert cache.get(spec, source) is first  # from memory
    del first
    gc.collect()
    again = cache.get(spec, source)  # from the file
    assert (again, again.metric, source.loaded) == (source.make(), "l2", 1)
    assert list(cache.folder.iterdir()) == [cache.build_path(str(spec["checksum"]))]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _text(path: Path) -> None:
    path.write_text("nothing of the kind")


def _nan(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _text, _nan], ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_replaced(
    cache: PivotCache, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(2)
    spec = source.make().spec()
    cache.get(spec, source)
    gc.collect()
    path = cache.build_path(str(spec["checksum"]))
    good = path.read_bytes()
    damage(path)
    with caplog.at_level(logging.WARNING, "deepterms"):
        assert cache.get(spec, source) == source.make()
    assert source.loaded == 2
    assert "which is replaced if possible" in caplog.text
    assert path.read_bytes() == good


def test_a_file_that_cannot_be_replaced_is_ignored(cache: PivotCache) -> None:
    source = Source(3)
    spec = source.make().spec()
    cache.get(spec, source)
    gc.collect()
    _folder(cache.build_path(str(spec["checksum"])))
    assert cache.get(spec, source) == source.make()
    assert source.loaded == 2
    assert list(cache.folder.iterdir()) == [cache.build_path(str(spec["checksum"]))]  # no temporary file is left


def test_a_read_only_folder_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    cache, source = PivotCache(tmp_path / "file" / "pivots"), Source(4)
    with caplog.at_level(logging.WARNING, "deepterms"):
        assert cache.get(source.make().spec(), source) == source.make()
    assert "could not cache pivots in" in caplog.text


def test_two_threads_load_once(cache: PivotCache) -> None:
    source, barrier = Source(5), Barrier(4)
    spec, got = source.make().spec(), []

    def get() -> None:
        barrier.wait()
        got.append(cache.get(spec, source))

    threads = [Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(pivots) for pivots in got}) == 1
    assert source.loaded == 1


def test_a_failing_load_leaves_nothing_behind(cache: PivotCache) -> None:
    source = Source(6)

    def fail() -> Pivots:
        raise OSError("the cluster is gone")

    with pytest.raises(OSError, match="gone"):
        cache.get(source.make().spec(), fail)
    assert cache.get(source.make().spec(), source) == source.make()


def test_unused_pivots_are_freed(cache: PivotCache) -> None:
    source = Source(7)
    spec = source.make().spec()
    PivotCache.hold(source.make())
    gc.collect()
    cache.get(spec, source)
    assert source.loaded == 1


def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPTERMS_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    assert PivotCache().folder == tmp_path / "here" / "pivots"
    monkeypatch.delenv("DEEPTERMS_CACHE")
    assert "deepterms" in cache_folder().parts
    assert cache_folder().is_absolute()
