from __future__ import annotations

import re
from pathlib import Path

import pytest

from deepterms.errors import NodeError
from deepterms.node import cache_dir
from deepterms.node.distribution import MODULES, VERSION
from deepterms.node.jars import create_maven_context, locate_jar
from deepterms.node.lock import Lock, load_lock, locate_lock
from deepterms.node.resolve_lock import resolve_folders


@pytest.fixture(scope="module")
def lock() -> Lock:
    return load_lock()


def test_the_file_is_what_the_resolution_writes(lock: Lock) -> None:
    assert locate_lock(VERSION).read_text(encoding="utf-8") == lock.to_json()
    assert lock.version == VERSION


def test_every_folder_has_jars_with_a_sha256(lock: Lock) -> None:
    assert set(lock.folders) == {"lib", "agent", "locale", *(f"modules/{module.name}" for module in MODULES)}
    assert all(lock.folders.values())
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in lock.jars.values())


def test_every_module_holds_its_own_artifact(lock: Lock) -> None:
    for module in MODULES:
        assert module.root(VERSION) in lock.folders[f"modules/{module.name}"]


def test_modules_repeat_no_jar_of_lib(lock: Lock) -> None:
    def projects(folder: str) -> set[str]:
        return {coordinate.rsplit(":", 1)[0] for coordinate in lock.folders[folder]}

    for folder in lock.folders:
        if folder.startswith("modules/"):
            assert not projects(folder) & projects("lib")


def test_the_logger_matches_its_api(lock: Lock) -> None:
    versions = {
        coordinate.split(":")[2]
        for coordinate in lock.folders["lib"]
        if coordinate.startswith("org.apache.logging.log4j:log4j-")
    }
    assert len(versions) == 1


def test_a_version_without_a_lock_is_rejected() -> None:
    with pytest.raises(NodeError, match=rf"OpenSearch 1\.0\.0 has no lock file; expected one of: {VERSION}"):
        load_lock("1.0.0")


def test_jar_path_follows_mavens_layout() -> None:
    assert locate_jar("io.netty:netty-codec:4.2:linux-x86_64") == Path(
        "io/netty/netty-codec/4.2/netty-codec-4.2-linux-x86_64.jar"
    )
    assert locate_jar("a.b:c:1") == Path("a/b/c/1/c-1.jar")


@pytest.mark.slow
def test_resolving_again_gives_the_same_jars(lock: Lock) -> None:
    # POMs are cached, so only the first run on a machine downloads them from Maven Central.
    context = create_maven_context(cache_dir() / "poms")
    assert resolve_folders(VERSION, context) == {folder: sorted(jars) for folder, jars in lock.folders.items()}
