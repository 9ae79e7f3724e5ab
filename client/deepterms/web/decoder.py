"""SandboxedDecoder: turns an image file into pixels or a thumbnail, in processes that may crash or be killed."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import deepterms
from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.web.errors import HttpError
from deepterms.web.limits import Limits

__all__ = ["Pixels", "SandboxedDecoder"]

Pixels = NDArray[np.uint8]  # (H, W, 3)

logger = logging.getLogger("deepterms.web")

PROCESSES = 2
START_SECONDS = 60.0  # on a busy machine, starting Python alone takes several seconds

# The only environment variables a decoding process inherits: passwords and tokens are not among them.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


class SandboxedDecoder:
    """A small pool of decoding processes; a process that crashes or takes too long is replaced.

    Args:
        limits: pixels, memory and seconds per image.
        processes: images decoded concurrently.
    """

    def __init__(self, limits: Limits, *, processes: int = PROCESSES) -> None:
        self._limits = limits
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)  # started on first use
        self._processes = processes
        self._reported = False
        self.replaced = 0

    def pixels(
        self, content: bytes | bytearray, *, sizes: Sequence[int], side: Literal["min", "max"]
    ) -> tuple[Pixels, ...]:
        """Decode an image at each of several sizes, with the same result as `resize_image`.

        Args:
            content: of the file.
            sizes: lengths of the side in pixels.
            side: which side these are the lengths of.

        Returns:
            One uint8 (H, W, 3) array per size.

        Raises:
            TooManyPixels: the image exceeds the limit.
            UnreadableImage: the image cannot be decoded within the limits.
        """
        head, body = self._ask(content, want="pixels", sizes=list(sizes), side=side)
        pixels, start = [], 0
        for shape in head["shapes"]:
            count = int(np.prod(shape))
            pixels.append(np.frombuffer(body, np.uint8, count, start).reshape(shape).copy())
            start += count
        return tuple(pixels)

    def thumbnail(self, content: bytes | bytearray, *, side: int) -> bytes:
        """Decode an image into a JPEG whose longer side is at most `side` pixels.

        Raises:
            TooManyPixels: the image exceeds the limit.
            UnreadableImage: the image cannot be decoded within the limits.
        """
        return self._ask(content, want="jpeg", sizes=[side], side="min")[1]

    def start(self) -> None:
        """Start the processes without waiting for them, so that the first image is decoded sooner."""
        for child in [self._idle.get() for _ in range(self._processes)]:
            self._idle.put(child or _Child(self._limits.decoding_bytes))

    def close(self) -> None:
        """Kill the idle processes; a busy one exits when its input closes. `start` starts new ones."""
        idle: list[_Child | None] = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for child in idle:
            if child is not None:
                child.kill()
            self._idle.put(None)

    def _report_confinement(self, held_by: tuple[str, ...]) -> None:
        if not self._reported:
            self._reported = True
            level = logging.INFO if "seccomp" in held_by else logging.WARNING
            logger.log(level, "uploaded pictures are decoded in processes held by: %s", ", ".join(held_by) or "nothing")

    def _ask(self, content: bytes | bytearray, **order: Any) -> tuple[dict[str, Any], bytes]:
        order |= {"pixels": self._limits.pixels}
        child = self._idle.get()
        try:
            while True:
                is_new = child is None or not child.is_ready
                child = child or _Child(self._limits.decoding_bytes)
                try:
                    child.start()
                    head, body = child.ask(order, content, seconds=self._limits.decoding_seconds)
                    break
                except _ChildFailed as failure:
                    child, self.replaced = None, self.replaced + 1
                    # A process that has decoded others may have died before: a new one decides.
                    if failure.is_late or is_new:
                        raise UnreadableImage("the image", str(failure)) from None
            self._report_confinement(child.held_by)
        except HttpError:
            child = None
            raise
        finally:
            self._idle.put(child)
        if "width" in head:
            raise TooManyPixels("the image", width=head["width"], height=head["height"], allowed=self._limits.pixels)
        if "error" in head:
            raise UnreadableImage("the image", head["error"])
        return head, body


class _ChildFailed(Exception):
    """A process crashed or timed out; the message is the likely reason."""

    def __init__(self, reason: str, *, is_late: bool) -> None:
        super().__init__(reason)
        self.is_late = is_late


class _Child:
    """One decoding process."""

    def __init__(self, memory: int) -> None:
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        source = str(Path(deepterms.__file__).parents[1])
        paths = [source, *kept.get("PYTHONPATH", "").split(os.pathsep)]
        environment = kept | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            # Threads reserve address space, which is limited, and resizing needs none.
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deepterms.web.decoder_process", str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert self._process.stdin and self._process.stdout  # for mypy: both are pipes
        self._sink, self._source = self._process.stdin, self._process.stdout
        self.is_ready = False
        self.held_by: tuple[str, ...] = ()

    def start(self) -> None:
        """Wait until the process is ready.

        Raises:
            HttpError: 503, it does not start: the picture is not to blame.
        """
        if self.is_ready:
            return
        try:
            with self._kill_after(START_SECONDS, "it takes too long"):
                self.held_by = tuple(json.loads(self._source.readline())["held_by"])
        except _ChildFailed:
            raise HttpError(503, "no decoding process can be started; retry later") from None
        self.is_ready = True

    def ask(self, order: dict[str, Any], content: bytes | bytearray, *, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send an order and wait for the reply; kill the process if none arrives in time.

        Raises:
            _ChildFailed: the process was killed or crashed.
        """
        with self._kill_after(seconds, f"not decoded within {seconds:g} s"):
            self._sink.write(json.dumps(order | {"bytes": len(content)}).encode() + b"\n")
            self._sink.write(content)
            self._sink.flush()
            head = json.loads(self._source.readline())
            body = self._source.read(head["bytes"])
            if len(body) < head["bytes"]:
                raise EOFError
        return head, body

    @contextmanager
    def _kill_after(self, seconds: float, late: str) -> Iterator[None]:
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        except (OSError, EOFError, ValueError):  # ValueError: an incomplete line, or it was killed before
            in_time = timer.is_alive()
            self.kill()
            raise _ChildFailed("the decoding process crashed" if in_time else late, is_late=not in_time) from None
        finally:
            timer.cancel()

    def kill(self) -> None:
        """Kill the process and wait until it is gone."""
        self._process.kill()
        for pipe in (self._sink, self._source):
            with suppress(OSError):  # closing flushes, which fails because the reader is gone
                pipe.close()
        self._process.wait()
