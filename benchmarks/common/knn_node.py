"""Run OpenSearch with the k-NN plugin as a child process to compare with; deepterms itself needs no plugin.

Set JAVA_HOME to JDK 21 or newer. The Java runtime that `deepterms node` uses lacks the module through which Lucene uses
the processor's vector instructions, so graphs would be searched several times slower than on a typical installation.

The version is 3.6.0, the last release whose plugin is on Maven Central; `python benchmarks/common/knn_node.py --lock`
regenerates the lock file in this folder. Stop the node with `Node.stop` or `DEEPTERMS_DATA=FOLDER deepterms node stop`.

python benchmarks/common/knn_node.py --folder /tmp/knn           # starts the node and prints its address
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import typer

from deepterms.errors import NodeError
from deepterms.node import Node, assemble, cache_dir
from deepterms.node.distribution import MODULES, Module
from deepterms.node.folders import make_folder, make_readable
from deepterms.node.jars import create_maven_context, hash_file
from deepterms.node.lock import load_lock, locate_lock
from deepterms.node.resolve_lock import resolve_lock

VERSION = "3.6.0"
PLUGIN = "opensearch-knn"
PLUGIN_VERSION = f"{VERSION}.0"
PLUGIN_SHA256 = "ac392ca28a39b3bf290648a422ef30cb149dda2963a9d7feb26060e932341c9a"
# The plugin extends this module and does not load without it.
GRPC = Module(
    "transport-grpc", "transport-grpc", "org.opensearch.transport.grpc.GrpcPlugin", "gRPC, which stays switched off"
)
# The modules that deepterms and k-NN need; Maven Central does not have all modules of 3.6.0.
NEEDED = ("analysis-common", "ingest-common", "lang-painless", "mapper-extras", "reindex", "transport-netty4")
PARTS = (*(module for module in MODULES if module.name in NEEDED), GRPC)
HERE = Path(__file__).parent


def assemble_with_plugin() -> Path:
    """Assemble OpenSearch with the plugin on the first call; return its folder."""
    home = assemble(cache_dir() / f"opensearch-{VERSION}-knn", lock=load_lock(VERSION, HERE), modules=PARTS)
    plugin = home / "plugins" / PLUGIN
    if not plugin.exists():
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            project = create_maven_context(Path(scratch)).project("org.opensearch.plugin", PLUGIN)
            archive = Path(project.at_version(PLUGIN_VERSION).artifact(packaging="zip").resolve())
            if (got := hash_file(archive)) != PLUGIN_SHA256:
                raise NodeError(f"{archive.name} as downloaded has sha256 {got}; expected {PLUGIN_SHA256}")
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(Path(scratch) / "plugin")
            make_readable(Path(scratch) / "plugin")
            shutil.move(Path(scratch) / "plugin", plugin)
    return home


def find_java() -> Path | None:
    """Find Java in $JAVA_HOME; without it, the node compares vectors without SIMD, which would be an unfair test."""
    home = os.environ.get("JAVA_HOME")
    return Path(home) / "bin" / "java" if home else None


def create_knn_node(folder: Path) -> Node:
    """Create the node, not yet started, with its data in a folder."""
    make_folder(folder)
    home = assemble_with_plugin()
    return Node(folder, cluster_name="deepterms-benchmark", home=home, version=VERSION, java=find_java())


def main(folder: Path = Path("/tmp/deepterms-knn"), heap: str = "4g", port: int = 0, lock: bool = False) -> None:
    """Start the node and print its address, or regenerate the lock file."""
    if lock:
        resolved = resolve_lock(VERSION, cache_dir() / "jars", PARTS)
        locate_lock(VERSION, HERE).write_text(resolved.to_json(), encoding="utf-8")
    else:
        print(create_knn_node(folder).start(port=port, heap=heap).url)


if __name__ == "__main__":
    typer.run(main)
