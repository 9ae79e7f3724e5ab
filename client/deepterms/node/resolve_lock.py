"""Coordinates of OpenSearch's parts to the lock file, by resolving their dependencies on Maven Central.

For maintainers: `python -m deepterms.node.resolve_lock [VERSION [FOLDER]]` writes the lock file anew.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepterms.node.distribution import LOCALE, MODULES, VERSION, Module, agent_roots, lib_roots
from deepterms.node.jars import download, jar_path, maven, sha256_of
from deepterms.node.lock import Lock, lock_file

__all__ = ["resolve_folders", "resolve_lock"]


def resolve_folders(version: str, context: Any, modules: Sequence[Module] = MODULES) -> dict[str, list[str]]:
    """Resolves the dependencies of every folder of a distribution.

    Args:
        version: OpenSearch's version.
        context: where from and where POMs are kept; see `maven`.
        modules: a folder for each.

    Returns:
        Folder → sorted coordinates.
    """
    lib = _runtime(context, *lib_roots(version))
    # Left out of the server's dependencies so that a client may choose another logger; must be log4j-api's version.
    (log4j,) = (coordinate.split(":")[2] for coordinate in lib if ":log4j-api:" in coordinate)
    folders = {
        "lib": sorted({*lib, f"org.apache.logging.log4j:log4j-core:{log4j}"}),
        "locale": _runtime(context, *LOCALE),
    }
    if agent := agent_roots(version):
        folders["agent"] = _runtime(context, *agent)
    in_lib = {_project(coordinate) for coordinate in folders["lib"]}
    for module in modules:
        resolved = _runtime(context, module.root(version))
        # A class that lib/ and a module both have stops the server ("jar hell").
        folders[f"modules/{module.name}"] = [each for each in resolved if _project(each) not in in_lib]
    return folders


def resolve_lock(version: str, cache: Path, modules: Sequence[Module] = MODULES) -> Lock:
    """Resolves every folder, and downloads its jars to hash them.

    Args:
        version: OpenSearch's version.
        cache: folder for POMs and jars, in Maven's layout.
        modules: a folder for each.
    """
    context = maven(cache)
    folders = resolve_folders(version, context, modules)
    digests = {}
    for coordinate in sorted({each for jars in folders.values() for each in jars}):
        download(coordinate, context)
        digests[coordinate] = sha256_of(cache / jar_path(coordinate))
    return Lock(version, {folder: {each: digests[each] for each in jars} for folder, jars in folders.items()})


def _runtime(context: Any, *roots: str) -> list[str]:
    """Sorted coordinates of the roots and of all that they need at run time."""
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in roots])
    artifacts = [each.artifact for each in (*inputs, *transitive) if each.scope in (None, "compile", "runtime")]
    return sorted(
        ":".join(part for part in (each.groupId, each.artifactId, each.version, each.classifier) if part)
        for each in artifacts
    )


def _project(coordinate: str) -> tuple[str, ...]:
    return tuple(coordinate.split(":")[:2])


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else VERSION
    file = lock_file(wanted, *map(Path, sys.argv[2:]))
    with tempfile.TemporaryDirectory() as folder:
        lock = resolve_lock(wanted, Path(folder))
    file.write_text(lock.to_json(), encoding="utf-8")
    print(f"{file.name}: {len(lock.jars)} jars in {len(lock.folders)} folders")
