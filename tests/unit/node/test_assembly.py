from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepterms.errors import NodeError
from deepterms.node import assemble
from deepterms.node.distribution import MODULES, VERSION
from deepterms.node.jars import hash_file, locate_jar
from deepterms.node.lock import load_lock
from tests.unit.node.mirror import Mirror

# After a failed download, jgo leaves its connections to the garbage collector, which warns at an arbitrary time.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

LOCK = load_lock()
JARS = len(LOCK.jars)
PAINLESS = f"org.opensearch.plugin:lang-painless:{VERSION}"
ASSEMBLE = "from deepterms.node import assemble; print(assemble())"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect garbage now, so that connections left by jgo cause no warning in a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def jars_in(home: Path) -> dict[str, str]:
    return {path.relative_to(home).as_posix(): hash_file(path) for path in home.rglob("*.jar")}


def expected_jars() -> dict[str, str]:
    return {path: LOCK.jars[coordinate] for path, coordinate in LOCK.files.items()}


def properties(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob(".*") if path.name not in (".", "..")]


def test_a_new_folder_is_complete(mirror: Mirror, tmp_path: Path) -> None:
    progress: list[tuple[int, int, str]] = []

    home = assemble(on_progress=lambda *step: progress.append(step))

    assert home == tmp_path / "cache" / f"opensearch-{VERSION}"
    assert jars_in(home) == expected_jars()
    for module in MODULES:
        descriptor = properties(home / "modules" / module.name / "plugin-descriptor.properties")
        assert (descriptor["name"], descriptor["classname"]) == (module.name, module.classname)
        assert descriptor["opensearch.version"] == VERSION
        assert set(filter(None, descriptor["extended.plugins"].split(","))) <= {each.name for each in MODULES}
    assert {path.name for path in (home / "config").iterdir()} == {"opensearch.yml", "jvm.options", "log4j2.properties"}
    assert [done for done, _, _ in progress] == list(range(1, JARS + 1))
    assert {total for _, total, _ in progress} == {JARS}
    assert {name for _, _, name in progress} == {locate_jar(coordinate).name for coordinate in LOCK.jars}
    assert not leftovers(tmp_path / "cache")


def test_a_complete_folder_is_untouched_even_if_moved(mirror: Mirror, tmp_path: Path) -> None:
    home = assemble(tmp_path / "one")
    moved = home.rename(tmp_path / "two")
    texts = [path.read_text(encoding="utf-8") for path in moved.rglob("*") if path.suffix in (".yml", ".properties")]
    assert not any(str(tmp_path) in text for text in texts)
    before = {path: path.stat().st_ino for path in moved.rglob("*")}
    mirror.jars.clear()

    assemble(moved, on_progress=lambda *_: pytest.fail("there was nothing to do"))

    assert {path: path.stat().st_ino for path in moved.rglob("*")} == before
    assert not mirror.jars


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_jar_is_replaced(mirror: Mirror, damage: str) -> None:
    home = assemble()
    mirror.jars.clear()
    jar = home / "modules" / "lang-painless" / locate_jar(PAINLESS).name
    if damage == "removed":
        jar.unlink()
    else:
        # In place: with hard links, this is also the cache's jar.
        jar.write_bytes(jar.read_bytes()[:-1] + b"?")

    assemble()

    assert jars_in(home) == expected_jars()
    assert set(mirror.jars) <= {jar.name}


def test_an_extra_jar_is_removed(mirror: Mirror) -> None:
    home = assemble()
    shutil.copy(home / "lib" / locate_jar(f"org.opensearch:opensearch:{VERSION}").name, home / "lib" / "other.jar")
    assemble()
    assert jars_in(home) == expected_jars()


def test_a_corrupt_download_is_rejected_and_deleted(mirror: Mirror, tmp_path: Path) -> None:
    name = mirror.spoil(PAINLESS, "corrupt")

    with pytest.raises(NodeError, match=f"{PAINLESS} as downloaded does not match the lock file: got sha256"):
        assemble()

    assert not list((tmp_path / "cache").rglob(name))
    assert not (tmp_path / "cache" / f"opensearch-{VERSION}").exists()
    mirror.spoiled.clear()
    assert jars_in(assemble()) == expected_jars()


def test_the_next_run_resumes_after_an_interrupted_download(mirror: Mirror, tmp_path: Path) -> None:
    name = mirror.spoil(PAINLESS, "cut")

    with pytest.raises(NodeError, match=f"{PAINLESS} cannot be downloaded from Maven Central: .*the jars already"):
        assemble()

    assert mirror.jars[name] == 3  # tries
    kept = {path.name for path in (tmp_path / "cache" / "jars").rglob("*.jar")}
    assert name not in kept
    mirror.spoiled.clear()
    mirror.jars.clear()
    assert jars_in(assemble()) == expected_jars()
    assert not kept & set(mirror.jars)


def test_a_jar_that_no_repository_has_is_named(mirror: Mirror) -> None:
    mirror.spoil(PAINLESS, "missing")
    with pytest.raises(NodeError, match=f"{PAINLESS} cannot be downloaded"):
        assemble()


def test_a_missing_network_is_reported(mirror: Mirror) -> None:
    mirror.close()
    with pytest.raises(NodeError, match="Check the network and run it again"):
        assemble()


def test_a_killed_assembly_leaves_no_trace_and_resumes(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers_left = JARS // 2
    child = subprocess.Popen([sys.executable, "-c", ASSEMBLE])
    try:
        assert mirror.hanging.wait(60)
    finally:
        child.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        child.wait(30)
    home = tmp_path / "cache" / f"opensearch-{VERSION}"
    assert not home.exists()
    kept = {path.name for path in (tmp_path / "cache" / "jars").glob("[!.]*/**/*.jar")}
    assert kept
    mirror.answers_left = None
    mirror.jars.clear()

    assert jars_in(assemble()) == expected_jars()

    assert not kept & set(mirror.jars)
    assert not leftovers(tmp_path / "cache")


def test_two_assemblies_at_the_same_time_share_the_work(mirror: Mirror) -> None:
    children = [subprocess.Popen([sys.executable, "-c", ASSEMBLE], stdout=subprocess.PIPE) for _ in range(2)]
    homes = {child.communicate(timeout=120)[0] for child in children}
    assert [child.returncode for child in children] == [0, 0]
    (home,) = homes
    assert jars_in(Path(home.decode().strip())) == expected_jars()
    assert set(mirror.jars.values()) == {1}


def test_without_hard_links_jars_are_copied(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: object, target: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", fail)
    home = assemble(tmp_path / "home")
    assert jars_in(home) == expected_jars()
    assert {path.stat().st_nlink for path in home.rglob("*.jar")} == {1}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_every_user_can_read_it_whatever_the_umask(mirror: Mirror, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        home = assemble(tmp_path / "home")
    finally:
        os.umask(before)
    for path in (home, *home.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_a_folder_with_other_files_is_not_touched(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("1", encoding="utf-8")
    with pytest.raises(NodeError, match="neither empty nor an OpenSearch distribution"):
        assemble(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text(encoding="utf-8") == "1"


def test_a_cache_that_cannot_be_created_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEEPTERMS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(NodeError, match="cannot be assembled"):
        assemble()
