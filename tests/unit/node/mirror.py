"""A local Maven repository that can simulate failures."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from deepterms.node.jars import locate_jar


class Mirror:
    """Serves a folder with Maven's layout.

    Attributes:
        jars: file name → number of requests.
        spoiled: file name → "cut" (the connection drops half-way), "corrupt" or "missing".
        answers_left: number of jars to serve before all further requests hang; None for no limit.
    """

    def __init__(self, folder: Path) -> None:
        self.jars: Counter[str] = Counter()
        self.spoiled: dict[str, str] = {}
        self.answers_left: int | None = None
        self.hanging = threading.Event()
        self._released = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.answer(self, folder / self.path.lstrip("/"))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, path: Path) -> None:
        if path.suffix != ".jar":
            request.send_error(404)
            return
        if self.answers_left is not None and sum(self.jars.values()) >= self.answers_left:
            self.hanging.set()
            self._released.wait(60)
            return
        self.jars[path.name] += 1
        how = self.spoiled.get(path.name)
        if how == "missing":
            request.send_error(404)
            return
        content = path.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if how == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        request.wfile.write(content[: len(content) // 2] if how == "cut" else content)

    def spoil(self, coordinate: str, how: str) -> str:
        name = locate_jar(coordinate).name
        self.spoiled[name] = how
        return name

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
