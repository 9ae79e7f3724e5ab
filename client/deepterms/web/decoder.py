"""Decoder: bytes of a picture into pixels or a thumbnail, in processes that may fail without this one."""

from __future__ import annotations

import json
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
from deepterms.web.limits import Limits

__all__ = ["Decoder"]

Pixels = NDArray[np.uint8]  # (H, W, 3)

PROCESSES = 2
START_SECONDS = 60.0  # on a busy machine Python alone takes several

# All that a decoder needs of this process's environment: passwords and tokens stay here.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


class Decoder:
    """A few processes that decode; one that takes too long or dies is replaced.

    Args:
        limits: pixels, memory and seconds for one picture.
        processes: pictures decoded at once.
    """

    def __init__(self, limits: Limits, *, processes: int = PROCESSES) -> None:
        self._limits = limits
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)  # started when it is needed
        self._processes = processes
        self.replaced = 0

    def pixels(self, content: bytes, *, sizes: Sequence[int], side: Literal["min", "max"]) -> tuple[Pixels, ...]:
        """A picture at each of several sizes, as `resize_image` makes them.

        Args:
            content: of the file.
            sizes: lengths in pixels of the side.
            side: which one.

        Raises:
            TooManyPixels: it is larger than is taken.
            UnreadableImage: it cannot be decoded within the limits.
        """
        head, body = self._ask(content, want="pixels", sizes=list(sizes), side=side)
        pixels, start = [], 0
        for shape in head["shapes"]:
            count = int(np.prod(shape))
            pixels.append(np.frombuffer(body, np.uint8, count, start).reshape(shape).copy())
            start += count
        return tuple(pixels)

    def thumbnail(self, content: bytes, *, side: int) -> bytes:
        """A JPEG whose longer side has at most `side` pixels.

        Raises:
            TooManyPixels: it is larger than is taken.
            UnreadableImage: it cannot be decoded within the limits.
        """
        return self._ask(content, want="jpeg", sizes=[side], side="min")[1]

    def start(self) -> None:
        """Start the processes, without waiting for them: the first picture is decoded sooner."""
        for child in [self._idle.get() for _ in range(self._processes)]:
            self._idle.put(child or _Child(self._limits.decoding_bytes))

    def close(self) -> None:
        """End the processes that are idle; one that decodes ends by itself, as its input does. `start` begins anew."""
        idle: list[_Child | None] = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for child in idle:
            if child is not None:
                child.end()
            self._idle.put(None)

    def _ask(self, content: bytes, **order: Any) -> tuple[dict[str, Any], bytes]:
        child = self._idle.get()
        try:
            child = child or _Child(self._limits.decoding_bytes)
            head, body = child.ask(
                order | {"pixels": self._limits.pixels}, content, seconds=self._limits.decoding_seconds
            )
        except _Lost as lost:
            child, self.replaced = None, self.replaced + 1
            raise UnreadableImage("the picture", str(lost)) from None
        finally:
            self._idle.put(child)
        if "width" in head:
            raise TooManyPixels("the picture", width=head["width"], height=head["height"], allowed=self._limits.pixels)
        if "error" in head:
            raise UnreadableImage("the picture", head["error"])
        return head, body


class _Lost(Exception):
    """A process that gave no answer, and why that may be."""


class _Child:
    """One process."""

    def __init__(self, memory: int) -> None:
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        source = str(Path(deepterms.__file__).parents[1])
        paths = [source, *kept.get("PYTHONPATH", "").split(os.pathsep)]
        environment = kept | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            # Threads reserve addresses, which are limited, and a resize needs none.
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
        self._ready = False

    def ask(self, order: dict[str, Any], content: bytes, *, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send an order and wait for its answer; without one in time, the process is ended.

        Raises:
            _Lost: it is ended, or died by itself.
        """
        if not self._ready:
            with self._within(START_SECONDS, f"no process that decodes pictures started within {START_SECONDS:g} s"):
                json.loads(self._source.readline())
            self._ready = True
        with self._within(seconds, f"it was not decoded within {seconds:g} s"):
            self._sink.write(json.dumps(order | {"bytes": len(content)}).encode() + b"\n" + content)
            self._sink.flush()
            head = json.loads(self._source.readline())
            body = self._source.read(head["bytes"])
            if len(body) < head["bytes"]:
                raise EOFError
        return head, body

    @contextmanager
    def _within(self, seconds: float, late: str) -> Iterator[None]:
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        except (OSError, EOFError, ValueError):  # ValueError: half a line
            in_time = timer.is_alive()
            self.end()
            raise _Lost("decoding it ended the process that did it" if in_time else late) from None
        finally:
            timer.cancel()

    def end(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        for pipe in (self._sink, self._source):
            with suppress(OSError):  # what was not written yet cannot be
                pipe.close()
        self._process.wait()
