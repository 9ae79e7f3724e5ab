"""Coordinates to verified jars: downloads from Maven Central into a local cache, by way of jgo."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepterms.errors import MissingExtra, NodeError

__all__ = ["Progress", "download_jar", "fetch_jars", "locate_jar", "create_maven_context", "hash_file"]

# Called with jars done, jars in all, and the name of the one just done.
Progress = Callable[[int, int, str], None]

_PARALLEL_DOWNLOADS = 8
_TRIES = 3
_TIMEOUT = 30  # seconds without a byte
_PARTIAL = ".partial-"


def locate_jar(coordinate: str) -> Path:
    """Where Maven's layout puts the jar of `group:artifact:version[:classifier]`, relative to a repository."""
    group, artifact, version, *classifier = coordinate.split(":")
    return Path(*group.split("."), artifact, version, "-".join([artifact, version, *classifier]) + ".jar")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def create_maven_context(cache: Path) -> Any:
    """A jgo context that keeps POMs and jars in the folder given.

    Repositories of jgo's own configuration file are used too; one named `central` (a company's mirror) replaces
    Maven Central.
    """
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise MissingExtra("jgo", "node") from error
    context = MavenContext(repo_cache=cache, timeout=_TIMEOUT)
    context.remote_repos.update(GlobalSettings.load().repositories)
    return context


def download_jar(coordinate: str, context: Any) -> None:
    """Puts one jar into the context's cache, unless it is there. A few tries, for networks that drop connections.

    Raises:
        NodeError: no repository has it, or none answers.
    """
    group, artifact, version, *classifier = coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact(*classifier)
    for tries_left in reversed(range(_TRIES)):
        try:
            wanted.resolve()
            return
        # requests' exceptions are OSErrors; jgo raises RuntimeError where every repository answered no.
        except (OSError, RuntimeError) as error:
            # jgo writes in place, and would take what a cut download left for the whole jar.
            (context.repo_cache / locate_jar(coordinate)).unlink(missing_ok=True)
            if not tries_left:
                raise NodeError(
                    f"{coordinate} cannot be downloaded from Maven Central: {error}. "
                    "Check the network and run it again: the jars that arrived are kept."
                ) from error


def fetch_jars(digests: Mapping[str, str], cache: Path, *, on_progress: Progress | None = None) -> None:
    """Makes the cache hold every jar, with the content it should have.

    A jar that is there and intact is not downloaded again; a damaged one is. A jar enters the cache only once its hash
    was found right, so a run that was cut leaves nothing to clean up and the next one goes on from there.
    The caller holds a lock on the cache.

    Args:
        digests: coordinate → SHA-256 in hexadecimal.
        cache: folder in Maven's layout.
        on_progress: called in this thread after each jar.

    Raises:
        NodeError: a jar cannot be downloaded, or what was downloaded is not what the lock file says.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with _partial_folder(cache) as partial, _thread_pool() as pool:
        context = create_maven_context(partial)
        jars = {pool.submit(_fetch, each, digest, cache, context): each for each, digest in digests.items()}
        for done, future in enumerate(as_completed(jars), start=1):
            future.result()
            if on_progress:
                on_progress(done, len(jars), locate_jar(jars[future]).name)


def _fetch(coordinate: str, digest: str, cache: Path, context: Any) -> None:
    jar = cache / locate_jar(coordinate)
    if jar.is_file() and hash_file(jar) == digest:
        return
    download_jar(coordinate, context)
    fresh = context.repo_cache / locate_jar(coordinate)
    got = hash_file(fresh)
    if got != digest:
        fresh.unlink()
        raise NodeError(
            f"{coordinate} as downloaded is not the jar of the lock file: sha256 {got}, expected {digest}. "
            "It was deleted; run it again, and check the network for a proxy that rewrites files."
        )
    jar.parent.mkdir(parents=True, exist_ok=True)
    fresh.replace(jar)


@contextmanager
def _partial_folder(cache: Path) -> Iterator[Path]:
    """A folder for what is not verified yet; those of runs that were killed are removed."""
    for stale in cache.glob(f"{_PARTIAL}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _thread_pool() -> Iterator[ThreadPoolExecutor]:
    """A pool that, on an error or Ctrl-C, drops what has not begun instead of downloading it all first."""
    pool = ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="deepterms-jar")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
