"""Runs the application under uvicorn in a thread, for browsers and other real HTTP clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from deepterms.web import Limits
from deepterms.web.connections import make_config

__all__ = ["running"]


@contextmanager
def running(app: ASGIApp, limits: Limits | None = None, *, trusted_proxies: Sequence[str] = ()) -> Iterator[str]:
    """Run an application as `deepterms serve` does, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = make_config(
            app, limits or Limits(), trusted_proxies=trusted_proxies, log_level="error", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            end = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < end
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
