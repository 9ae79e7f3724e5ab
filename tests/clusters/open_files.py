"""Engines beside each other where Docker may not raise the limit on open files, which each of them insists on.

A node that others can reach refuses to start below 65,535. Some machines, among them containers, allow less, and their
Docker cannot raise it. There the number in the engine's own check is replaced, in a copy of the jar that goes into the
container; ten thousand are plenty for a test.
"""

from __future__ import annotations

import io
import resource
import tarfile
import zipfile
from typing import Any

__all__ = ["DEMANDED", "can_be_raised", "patch_jar"]

DEMANDED = 65_535
_ENOUGH = 4_096
_CHECK = "/bootstrap/BootstrapChecks$FileDescriptorCheck.class"


def can_be_raised() -> bool:
    """Whether a container can be given as many open files as the engines demand."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or most >= DEMANDED


def patch_jar(client: Any, image: str, path: str) -> bytes:
    """The server's jar out of an image, content with fewer open files.

    Args:
        client: of the Docker daemon.
        image: of the engine.
        path: of the jar in it.
    """
    container = client.containers.create(image)
    try:
        chunks, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            (member,) = tar.getmembers()
            inner = tar.extractfile(member)
            assert inner is not None
            original = inner.read()
    finally:
        container.remove()
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as source, zipfile.ZipFile(written, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith(_CHECK):
                content = _with_constant(content)
            target.writestr(entry.filename, content)
    return written.getvalue()


def _with_constant(compiled: bytes) -> bytes:
    """A class file in whose pool of constants the demanded number is a smaller one."""
    wanted, smaller = (b"\x03" + number.to_bytes(4, "big") for number in (DEMANDED, _ENOUGH))  # CONSTANT_Integer
    if compiled.count(wanted) != 1:
        raise ValueError("the check on open files is not as it was when this test was written")
    return compiled.replace(wanted, smaller)
