"""Turn a compiled Qt resource file (.rcc) into the files inside it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from deepterms.errors import InvalidInput

__all__ = ["read_qt_resources"]

# Format as read by Qt's QResourceRoot in qresource.cpp; all integers are big-endian.
_MAGIC = b"qres"
_COMPRESSED_ZLIB, _DIRECTORY, _COMPRESSED_ZSTD = 1, 2, 4


def read_qt_resources(content: bytes) -> dict[str, bytes]:
    """Read every file in a compiled Qt resource.

    Args:
        content: bytes of the .rcc file.

    Returns:
        Path inside the resource → bytes; paths use `/` and have no leading one. Files compressed with Zstandard are
        skipped, because the standard library cannot read them before Python 3.14.

    Raises:
        InvalidInput: the content is not a complete .rcc file.
    """
    if content[:4] != _MAGIC:
        raise InvalidInput(f"not a compiled Qt resource: it starts with {content[:4]!r}; expected {_MAGIC!r}")
    try:
        return dict(_Resource(content).files(0, ""))
    except (struct.error, zlib.error, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the compiled Qt resource is damaged: {error}") from error


class _Resource:
    def __init__(self, content: bytes) -> None:
        self.content = content
        version, self.tree, self.payloads, self.names = struct.unpack_from(">4I", content, 4)
        # Since version 2, a node ends with the file's modification time.
        self.node_size = 22 if version >= 2 else 14

    def files(self, node: int, path: str) -> Iterator[tuple[str, bytes]]:
        at = self.tree + node * self.node_size
        flags, first, second = struct.unpack_from(">H2I", self.content, at + 4)
        if flags & _DIRECTORY:
            count, child = first, second
            for index in range(child, child + count):
                name = self.name(index)
                yield from self.files(index, f"{path}/{name}" if path else name)
        elif not flags & _COMPRESSED_ZSTD:
            yield path, self.payload(second, compressed=bool(flags & _COMPRESSED_ZLIB))

    def name(self, node: int) -> str:
        (offset,) = struct.unpack_from(">I", self.content, self.tree + node * self.node_size)
        at = self.names + offset
        (length,) = struct.unpack_from(">H", self.content, at)
        # Skip six bytes: the length and a hash of the name.
        return self.content[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    def payload(self, offset: int, *, compressed: bool) -> bytes:
        at = self.payloads + offset
        (length,) = struct.unpack_from(">I", self.content, at)
        payload = self.content[at + 4 : at + 4 + length]
        if len(payload) != length:
            raise struct.error(f"a file of {length} bytes is truncated to {len(payload)}")
        # qCompress prepends the uncompressed length to the stream.
        return zlib.decompress(payload[4:]) if compressed else payload
