"""The server's jar into one that accepts fewer open files, for machines where Docker cannot raise the limit.

A node that other nodes can reach does not start with a limit below 65,535 open files. Some machines, such as
containers, allow fewer, and their Docker cannot raise the limit. There the number in the engine's startup check is
replaced by 4,096, which is enough for a test, in a copy of the jar in the container.
"""

from __future__ import annotations

import io
import resource
import tarfile
import zipfile
from typing import Any

__all__ = ["DEMANDED", "may_be_raised", "patched_jar"]

DEMANDED = 65_535
_ENOUGH = 4_096
_CHECK = "/bootstrap/BootstrapChecks$FileDescriptorCheck.class"


def may_be_raised() -> bool:
    """Whether a container can have as many open files as the engines require."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or most >= DEMANDED


def patched_jar(client: Any, image: str, path: str) -> bytes:
    """Copy the server's jar out of an image and lower the number of open files that it requires.

    Args:
        client: of the Docker daemon.
        image: of the engine.
        path: of the jar in the image.
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
    """Replace the required number in the constant pool of a class file."""
    wanted, smaller = (b"\x03" + number.to_bytes(4, "big") for number in (DEMANDED, _ENOUGH))  # CONSTANT_Integer
    if compiled.count(wanted) != 1:
        raise ValueError("the check for open files differs from the one that this test was written for")
    return compiled.replace(wanted, smaller)
