"""Coordinates of OpenSearch's parts to the lock file, by resolving their dependencies on Maven Central.

For maintainers: `python -m deepterms.node.resolve_lock [VERSION [FOLDER]]` writes the lock file anew.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepterms.node.distribution import LOCALE, MODULES, VERSION, Module, list_agent_roots, list_lib_roots
from deepterms.node.jars import download_jar, locate_jar, create_maven_context, hash_file
from deepterms.node.lock import Lock, locate_lock

__all__ = ["resolve_folders", "resolve_lock"]


def resolve_folders(version: str, context: Any, modules: Sequence[Module] = MODULES) -> dict[str, list[str]]:
    """Resolves the dependencies of every folder of a distribution.

    Args:
        version: OpenSearch's version.
        context: where from and where POMs are kept; see `create_maven_context`.
        modules: a folder for each.

    Returns:
        Folder → sorted coordinates.
    """
    lib = _resolve_runtime(context, *list_lib_roots(version))
    # Left out of the server's dependencies so that a client may choose another logger; must be log4j-api's version.
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
        # A class that lib/ and a module both have stops the server ("jar hell").
        folders[f"modules/{module.name}"] = [each for each in resolved if _strip_version(each) not in in_lib]
    return folders


def resolve_lock(version: str, cache: Path, modules: Sequence[Module] = MODULES) -> Lock:
    """Resolves every folder, and downloads its jars to hash them.

    Args:
        version: OpenSearch's version.
        cache: folder for POMs and jars, in Maven's layout.
        modules: a folder for each.
    """
    context = create_maven_context(cache)
    folders = resolve_folders(version, context, modules)
    digests = {}
    for coordinate in sorted({each for jars in folders.values() for each in jars}):
        download_jar(coordinate, context)
        digests[coordinate] = hash_file(cache / locate_jar(coordinate))
    return Lock(version, {folder: {each: digests[each] for each in jars} for folder, jars in folders.items()})


def _resolve_runtime(context: Any, *roots: str) -> list[str]:
    """Sorted coordinates of the roots and of all that they need at run time."""
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
