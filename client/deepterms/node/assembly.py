"""Verified jars into a folder with a complete OpenSearch distribution, ready for `java` or for a container image."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deepterms.errors import NodeError
from deepterms.node.distribution import CONFIG, MODULES, Module
from deepterms.node.file_lock import locked
from deepterms.node.folders import cache_dir, make_folder, make_readable
from deepterms.node.jars import Progress, fetch_jars, hash_file, locate_jar
from deepterms.node.lock import Lock, load_lock

__all__ = ["assemble"]

_LOCK_TIMEOUT = 1800.0  # seconds; another process may be downloading 90 MB over a slow connection

# The server creates these if they are missing, but may lack the permission to write here.
_EMPTY = ("bin", "plugins")


def assemble(
    home: Path | None = None,
    *,
    lock: Lock | None = None,
    modules: Sequence[Module] = MODULES,
    on_progress: Progress | None = None,
) -> Path:
    """Assemble a complete minimal OpenSearch distribution: lib/, agent/, modules/ and config/.

    It contains only regular files and no absolute paths, so it can be moved or copied into an image; start it with
    `java` and `java_arguments(home)`. Every call verifies every jar by SHA-256. A complete folder is left untouched; a
    folder with a missing or damaged jar is assembled again. The folder appears complete or not at all, and two
    processes can call this at the same time.

    Args:
        home: the folder to create; by default one in `cache_dir()`.
        lock: the jars to assemble; by default those of the version that ships with deepterms.
        modules: the modules to describe; the lock must have a folder for each.
        on_progress: called after each jar with (done, total, name); not called if there is nothing to do.

    Returns:
        The folder.

    Raises:
        NodeError: a jar cannot be downloaded or does not match the lock file, or the folder cannot be written.
        MissingExtra: the extra `node` is not installed.
    """
    lock = lock or load_lock()
    cache = cache_dir()
    home = (home or cache / f"opensearch-{lock.version}").absolute()
    try:
        make_folder(cache)
        with locked(cache / "assembly.lock", timeout=_LOCK_TIMEOUT, activity="assembling OpenSearch"):
            if _is_complete(home, lock):
                return home
            if home.is_dir() and any(home.iterdir()) and not (home / "lib").is_dir():
                raise NodeError(f"{home} is neither empty nor an OpenSearch distribution; pass a new folder")
            jars = cache / "jars"
            fetch_jars(lock.jars, jars, on_progress=on_progress)
            _build(home, lock, modules, jars)
            return home
    except OSError as error:
        raise NodeError(f"OpenSearch cannot be assembled in {home}, with the cache in {cache}: {error}") from error


def _is_complete(home: Path, lock: Lock) -> bool:
    """Whether the folder contains exactly the lock's jars, intact, and the configuration files."""
    tops = {path.partition("/")[0] for path in lock.files}
    jars = {jar.relative_to(home).as_posix() for top in tops for jar in home.glob(f"{top}/**/*.jar")}
    return (
        jars == set(lock.files)
        and all((home / "config" / name).is_file() for name in CONFIG)
        and all((home / name).is_dir() for name in _EMPTY)
        and all(hash_file(home / path) == lock.jars[coordinate] for path, coordinate in lock.files.items())
    )


def _build(home: Path, lock: Lock, modules: Sequence[Module], jars: Path) -> None:
    """Assemble in a temporary sibling folder, then rename, so that other processes see all of it or nothing."""
    home.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{home.name}-"
    for stale in home.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=home.parent))
    building = work / "new"
    try:
        for path, coordinate in lock.files.items():
            _place(jars / locate_jar(coordinate), building / path)
        for module in modules:
            descriptor = building / "modules" / module.name / "plugin-descriptor.properties"
            descriptor.write_text(module.descriptor(lock.version), encoding="utf-8")
        for folder in ("config", *_EMPTY):
            (building / folder).mkdir()
        for name, text in CONFIG.items():
            (building / "config" / name).write_text(text, encoding="utf-8")
        make_readable(building)
        if home.exists():
            home.rename(work / "replaced")
        building.rename(home)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _place(jar: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(jar, target)
    except OSError:  # the cache is on another file system, or this one has no hard links
        shutil.copyfile(jar, target)
