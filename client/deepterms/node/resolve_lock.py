"""The coordinates of OpenSearch's parts into a lock file, by resolving their dependencies on Maven Central.

For maintainers: `python -m deepterms.node.resolve_lock [VERSION [FOLDER]]` rewrites the lock file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepterms.node.distribution import LOCALE, MODULES, VERSION, Module, list_agent_roots, list_lib_roots
from deepterms.node.jars import create_maven_context, download_jar, hash_file, locate_jar
from deepterms.node.lock import Lock, locate_lock

__all__ = ["resolve_folders", "resolve_lock"]


def resolve_folders(version: str, context: Any, modules: Sequence[Module] = MODULES) -> dict[str, list[str]]:
    """Resolve the dependencies of every folder of a distribution.

    Args:
        version: of OpenSearch.
        context: from `create_maven_context`.
        modules: one folder is resolved for each.

    Returns:
        Folder → sorted coordinates.
    """
    lib = _resolve_runtime(context, *list_lib_roots(version))
    # Not a dependency of the server, so that clients can choose another logger; its version must be that of log4j-api.
    (log4j,) = (coordinate.split(":")[2] for coordinate in lib if ":log4j-api:" in coordinate)
    folders = {
        "lib": sorted({*lib, f"org.apache.logging.log4j:log4j-core:{log4j}"}),
        "locale": _resolve_runtime(context, *LOCALE),
    }
    if agent := list_agent_roots(version):
        folders["agent"] = _resolve_runtime(context, *agent)
    in_lib = {_strip_version(coordinate) for coordinate in folders["lib"]}
    for module in modules:
        resolved = _resolve_runtime(context, module.root(version))
        # The server does not start if lib/ and a module contain the same class ("jar hell").
        folders[f"modules/{module.name}"] = [each for each in resolved if _strip_version(each) not in in_lib]
    return folders


def resolve_lock(version: str, cache: Path, modules: Sequence[Module] = MODULES) -> Lock:
    """Resolve every folder, and download its jars to hash them.

    Args:
        version: of OpenSearch.
        cache: folder for POMs and jars, with Maven's layout.
        modules: one folder is resolved for each.
    """
    context = create_maven_context(cache)
    folders = resolve_folders(version, context, modules)
    digests = {}
    for coordinate in sorted({each for jars in folders.values() for each in jars}):
        download_jar(coordinate, context)
        digests[coordinate] = hash_file(cache / locate_jar(coordinate))
    return Lock(version, {folder: {each: digests[each] for each in jars} for folder, jars in folders.items()})


def _resolve_runtime(context: Any, *roots: str) -> list[str]:
    """Resolve the sorted coordinates of the roots and of all their runtime dependencies."""
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in roots])
    artifacts = [each.artifact for each in (*inputs, *transitive) if each.scope in (None, "compile", "runtime")]
    return sorted(
        ":".join(part for part in (each.groupId, each.artifactId, each.version, each.classifier) if part)
        for each in artifacts
    )


def _strip_version(coordinate: str) -> tuple[str, ...]:
    return tuple(coordinate.split(":")[:2])


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else VERSION
    file = locate_lock(wanted, *map(Path, sys.argv[2:]))
    with tempfile.TemporaryDirectory() as folder:
        lock = resolve_lock(wanted, Path(folder))
    file.write_text(lock.to_json(), encoding="utf-8")
    print(f"{file.name}: {len(lock.jars)} jars in {len(lock.folders)} folders")
