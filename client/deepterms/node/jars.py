"""Maven coordinates into verified jars in a local cache, downloaded from Maven Central with jgo."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepterms.errors import NodeError
from deepterms.optional import require

__all__ = ["Progress", "create_maven_context", "download_jar", "fetch_jars", "hash_file", "locate_jar"]

# Called with the number of jars done, their total, and the name of the last one.
Progress = Callable[[int, int, str], None]

_PARALLEL_DOWNLOADS = 8
_TRIES = 3
_TIMEOUT = 30  # seconds without a byte
_PARTIAL = ".partial-"


def locate_jar(coordinate: str) -> Path:
    """Return the path of the jar `group:artifact:version[:classifier]` in a repository with Maven's layout."""
    group, artifact, version, *classifier = coordinate.split(":")
    return Path(*group.split("."), artifact, version, "-".join([artifact, version, *classifier]) + ".jar")


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def create_maven_context(cache: Path) -> Any:
    """Create a jgo context that stores POMs and jars in `cache`.

    It also uses the repositories in jgo's configuration file; one named `central`, such as a company's mirror, replaces
    Maven Central.
    """
    with require("jgo", "node"):
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    context = MavenContext(repo_cache=cache, timeout=_TIMEOUT)
    context.remote_repos.update(GlobalSettings.load().repositories)
    return context


def download_jar(coordinate: str, context: Any) -> None:
    """Download one jar into the context's cache, unless it is there; retry if the connection drops.

    Raises:
        NodeError: no repository has the jar, or none responds.
    """
    group, artifact, version, *classifier = coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact(*classifier)
    for tries_left in reversed(range(_TRIES)):
        try:
            wanted.resolve()
            return
        # The exceptions of requests are OSErrors; jgo raises RuntimeError if no repository has the jar.
        except (OSError, RuntimeError) as error:
            # jgo writes in place, and would accept the rest of an interrupted download as the complete jar.
            (context.repo_cache / locate_jar(coordinate)).unlink(missing_ok=True)
            if not tries_left:
                raise NodeError(
                    f"{coordinate} cannot be downloaded from Maven Central: {error}. "
                    "Check the network and run it again; the jars already downloaded are kept."
                ) from error


def fetch_jars(digests: Mapping[str, str], cache: Path, *, on_progress: Progress | None = None) -> None:
    """Download every jar that is missing from the cache or damaged.

    A jar enters the cache only after its hash was verified, so an interrupted run leaves nothing to clean up, and the
    next one resumes. The caller must hold a lock on the cache.

    Args:
        digests: coordinate → SHA-256 in hexadecimal.
        cache: folder with Maven's layout.
        on_progress: called in this thread after each jar.

    Raises:
        NodeError: a jar cannot be downloaded, or does not match the lock file.
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
            f"{coordinate} as downloaded does not match the lock file: got sha256 {got}, expected {digest}. "
            "It was deleted; check the network for a proxy that rewrites files, and run it again."
        )
    jar.parent.mkdir(parents=True, exist_ok=True)
    fresh.replace(jar)


@contextmanager
def _partial_folder(cache: Path) -> Iterator[Path]:
    """Create a folder for jars that are not verified yet, and delete those left by killed runs."""
    for stale in cache.glob(f"{_PARTIAL}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _thread_pool() -> Iterator[ThreadPoolExecutor]:
    """Open a pool that, after an error or Ctrl-C, cancels pending downloads instead of completing them."""
    pool = ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="deepterms-jar")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
