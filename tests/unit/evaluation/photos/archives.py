"""Turn files into tiny packages of every kind that `read_members` can read."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, bytes]


def write_tgz(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_wheel(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_deb(path: Path, files: Files) -> Path:
    root = path.with_suffix("")
    control = {
        "DEBIAN/control": b"Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: tiny\n"
    }
    write_folder(root, {**control, **files})
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, path], check=True, capture_output=True)
    return path


def write_folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def qt_resources(files: Files, *, version: int = 3, compressed: bool = False) -> bytes:
    """Write a resource as Qt's rcc does: a tree of nodes with adjacent children, then the names, then the contents."""
    children: dict[str, list[str]] = {"": []}
    for path in files:
        parts = path.split("/")
        for depth in range(len(parts)):
            parent, child = "/".join(parts[:depth]), "/".join(parts[: depth + 1])
            siblings = children.setdefault(parent, [])
            if child not in siblings:
                siblings.append(child)
    order = [""]
    for path in order:  # grows during iteration: breadth first
        order += children.get(path, [])

    names, contents, nodes = b"", b"", b""
    for path in order:
        name = path.rpartition("/")[2].encode("utf-16-be")
        if path in files:
            content = files[path]
            stored = struct.pack(">I", len(content)) + zlib.compress(content) if compressed else content
            nodes += struct.pack(">IHHHI", len(names), 1 if compressed else 0, 0, 1, len(contents))
            contents += struct.pack(">I", len(stored)) + stored
        else:
            first = order.index(children[path][0])
            nodes += struct.pack(">IHII", len(names), 2, len(children[path]), first)
        nodes += bytes(8) if version >= 2 else b""
        names += struct.pack(">HI", len(name) // 2, 0) + name

    head_size = 24 if version >= 3 else 20
    tree, data, name_table = head_size, head_size + len(nodes) + len(names), head_size + len(nodes)
    head = b"qres" + struct.pack(">4I", version, tree, data, name_table) + (bytes(4) if version >= 3 else b"")
    return head + nodes + names + contents
