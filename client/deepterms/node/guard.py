"""The door of the node: passes on connections that address this machine by one of its own names.

A web page can point its own host name at 127.0.0.1 (DNS rebinding). To a browser, OpenSearch is then part of that
page's site, and OpenSearch does not look at the name. So this process listens on the port that everybody knows, and the
node on an address that no page can guess. It looks at the Host of the first request of a connection: a browser opens
another connection for another name. Whatever else comes is copied unread, in both directions.

It runs by itself, as ``python guard.py``, needs only the standard library, and ends when the node's process does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from contextlib import suppress
from functools import partial
from typing import cast

__all__ = ["NAMES", "main"]

NAMES = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
MAX_HEAD = 64 << 10  # bytes
HEAD_SECONDS = 10.0
WATCH_SECONDS = 0.5
BACKLOG = 256

_HOST = re.compile(rb"^host[ \t]*:[ \t]*(.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_PORT = re.compile(rb":\d*$")
_REFUSAL = b'{"error":"this node answers only to the names localhost and 127.0.0.1","status":421}\n'


class _End(asyncio.Protocol):
    """One end of a connection, which writes to the other end what arrives at this one."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is None or self.other.transport is None:
            return False
        with suppress(OSError):
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_End):
    """The end of a client, which is not passed on before its first request names this machine."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._node = host, port
        self._head = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if self._task is not None or not (end or len(self._head) > MAX_HEAD):
            return
        if end and _names_this_machine(bytes(head)):
            assert self.transport is not None
            self.transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._connect())
        else:
            self._refuse()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(error)

    async def _connect(self) -> None:
        self._stop_timer()
        assert self.transport is not None
        try:
            _, other = await asyncio.get_running_loop().create_connection(_End, *self._node)
        except OSError:  # the node is starting, or has ended
            self.transport.abort()
            return
        self.other, other.other = other, self
        if self.transport.is_closing() or other.transport is None:
            self.connection_lost(None)
            return
        other.transport.write(bytes(self._head))
        self._head.clear()
        self.transport.resume_reading()

    def _refuse(self) -> None:
        assert self.transport is not None
        self.transport.write(
            b"HTTP/1.1 421 Misdirected Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(_REFUSAL), _REFUSAL)
        )
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _names_this_machine(head: bytes) -> bool:
    hosts = _HOST.findall(head.replace(b"\r\n", b"\n"))
    return len(hosts) == 1 and _PORT.sub(b"", hosts[0]).lower() in NAMES


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


async def _serve(listen: int, host: str, port: int, pid: int, user: int | None, group: int | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(_Client, host, port), "127.0.0.1", listen, backlog=BACKLOG)
    if user is not None and group is not None:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    async with server:
        while _is_running(pid):
            await asyncio.sleep(WATCH_SECONDS)


def main() -> None:
    """Serve until the node ends."""
    parser = argparse.ArgumentParser(description="The door of a node.")
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--of", help="identifies the process")
    given = parser.parse_args()
    asyncio.run(_serve(given.listen, given.host, given.port, given.pid, given.user, given.group))


if __name__ == "__main__":
    main()
