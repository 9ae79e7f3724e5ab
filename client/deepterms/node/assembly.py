"""Verified jars to a complete OpenSearch distribution in a folder, ready for `java` or for a container image."""

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
from deepterms.node.jars import Progress, fetch_jars, locate_jar, hash_file
from deepterms.node.lock import Lock, load_lock

__all__ = ["assemble"]

# Another process may be downloading 90 MB over a slow line.
_PATIENCE = 1800.0  # seconds

# The server makes the folders that it misses, and may not write here.
_EMPTY = ("bin", "plugins")


def assemble(
    home: Path | None = None,
    *,
    lock: Lock | None = None,
    modules: Sequence[Module] = MODULES,
    on_progress: Progress | None = None,
) -> Path:
    """Makes the folder of a complete minimal OpenSearch distribution: lib/, agent/, modules/ and config/.

    Everything in it is a real file and no path in it is absolute, so it may be moved or copied into an image; start it
    with `java` and `java_arguments(home)`. Every jar is verified by SHA-256 at each call. A folder that is complete is
    left as it is; one with a jar missing or damaged is assembled again. It appears whole or not at all, and two
    processes may call this at once.

    Args:
        home: the folder to make; by default one in `cache_dir()`.
        lock: what to assemble; by default the version that ships with deepterms.
        modules: those that the lock has a folder for.
        on_progress: called after each jar with (done, total, name); not called where nothing is to be done.

    Returns:
        The folder.

    Raises:
        NodeError: a jar cannot be downloaded or is not the one that the lock file names, or the folder cannot be
            written.
        MissingExtra: the extra `node` is not installed.
    """
    lock = lock or load_lock()
    cache = cache_dir()
    home = (home or cache / f"opensearch-{lock.version}").absolute()
    try:
        make_folder(cache)
        with locked(cache / "assembly.lock", patience=_PATIENCE, doing="assembles OpenSearch"):
            if _is_complete(home, lock):
                return home
            if home.is_dir() and any(home.iterdir()) and not (home / "lib").is_dir():
                raise NodeError(f"{home} is neither empty nor an OpenSearch; give a folder that does not exist yet")
            jars = cache / "jars"
            fetch_jars(lock.jars, jars, on_progress=on_progress)
            _build(home, lock, modules, jars)
            return home
    except OSError as error:
        raise NodeError(f"OpenSearch cannot be assembled in {home}, with the cache in {cache}: {error}") from error


def _is_complete(home: Path, lock: Lock) -> bool:
    """Whether the folder holds exactly the lock's jars, intact, and the configuration files."""
    tops = {path.partition("/")[0] for path in lock.files}
    jars = {jar.relative_to(home).as_posix() for top in tops for jar in home.glob(f"{top}/**/*.jar")}
    return (
        jars == set(lock.files)
        and all((home / "config" / name).is_file() for name in CONFIG)
        and all((home / name).is_dir() for name in _EMPTY)
        and all(hash_file(home / path) == lock.jars[coordinate] for path, coordinate in lock.files.items())
    )


def _build(home: Path, lock: Lock, modules: Sequence[Module], jars: Path) -> None:
    """Assembles beside the place wanted, then renames: another process sees all of it or nothing."""
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
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(jar, target)
