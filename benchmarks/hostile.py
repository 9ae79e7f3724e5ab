"""Measures what hostile requests cost the server: memory, CPU time, and how fast the health probe responds meanwhile.

The server runs in a process of its own, as `deepterms serve` runs it, on an index in memory; the attacks come from
another one, one after the other, and compete with the server for the same cores. Each line has the peak of resident
memory above that before the attack, what is left of it 5 s later, the CPU time of server and decoders, and the slowest
of the probes, one per 50 ms, each on a new connection. Requires Linux.

python benchmarks/hostile.py
"""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import psutil
import typer
import urllib3
from numpy.typing import NDArray
from PIL import Image

import deepterms as dt

DIMENSIONS = 1_280
DOCUMENTS = 5_000
SERVE, ATTACK = "serve", "attack"
MEGABYTE = 1 << 20
PROBE_SECONDS = 0.05
MIN_SECONDS = 5.0  # a shorter attack is repeated

Address = tuple[str, int]


class MeanColour:
    """Describes an image by its mean colour, repeated: cheap, so that the attack is what costs."""

    sizes: tuple[int, ...] = (224,)
    side: Literal["min", "max"] = "min"

    def extract_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Describe one image."""
        return np.resize(pixels[0].reshape(-1, 3).mean(axis=0), DIMENSIONS).astype(np.float32)


def serve() -> None:
    """Serve until the input closes."""
    import uvicorn

    from deepterms.web import Limits, create_app
    from deepterms.web.connections import make_config

    index = dt.MemoryIndex(dt.DeepPermutation(DIMENSIONS, top_k=100))
    rows = np.random.default_rng(0).standard_normal((DOCUMENTS, DIMENSIONS)).astype(np.float32)
    index.add([f"d{number}" for number in range(DOCUMENTS)], rows)
    index.search(rows[0])
    limits = Limits()
    app = create_app(index, describer=MeanColour(), limits=limits)
    server = uvicorn.Server(make_config(app, limits, log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)

        def stop_at_the_end() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=stop_at_the_end, daemon=True).start()
        server.run(sockets=[listening])


def repeat(head: str, part: str, tail: str, size: int) -> bytes:
    """Make a body of almost `size` bytes."""
    return (head + part * ((size - 200) // len(part)) + tail).encode()


def post(address: Address, path: str, content: bytes, kind: str = "application/json") -> str:
    """Send a request and return its status."""
    try:
        answer = urllib3.request(
            "POST",
            f"http://{address[0]}:{address[1]}{path}",
            body=content,
            headers={"Content-Type": kind},
            timeout=120,
            retries=False,
        )
    except urllib3.exceptions.HTTPError:
        return "closed"
    return str(answer.status)


def post_all(path: str, content: bytes, kind: str = "application/json", *, count: int = 8) -> Callable[[Address], str]:
    """Make an attack of several equal requests at once."""

    def attack(address: Address) -> str:
        with ThreadPoolExecutor(count) as threads:
            return summarise(list(threads.map(lambda _: post(address, path, content, kind), range(count))))

    return attack


def summarise(statuses: list[str]) -> str:
    """Count the statuses."""
    return ", ".join(f"{statuses.count(status)} × {status}" for status in sorted(set(statuses)))


def hold(request: bytes, count: int, seconds: float, *, more: bytes = b"") -> Callable[[Address], str]:
    """Make an attack of requests that are begun and, after some seconds, given up."""

    def attack(address: Address) -> str:
        sent = 0
        with ExitStack() as opened:
            for _ in range(count):
                with suppress(OSError):
                    connection = opened.enter_context(socket.create_connection(address, timeout=5))
                    connection.sendall(request + more)
                    sent += 1
            time.sleep(seconds)
        return f"{sent} of {count} sent"

    return attack


def give_up_uploads(address: Address) -> str:
    """Three waves of 60 uploads of 31 MB, none of which is complete."""
    head = make_head("POST", "/v1/search/image", "Content-Type: image/jpeg", f"Content-Length: {31 * MEGABYTE}")
    content = head + bytes(31 * MEGABYTE - 1)

    def upload(_: int) -> bool:
        with suppress(OSError), socket.create_connection(address, timeout=30) as connection:
            connection.sendall(content)
            return True
        return False

    done: list[bool] = []
    for _ in range(3):
        with ThreadPoolExecutor(60) as threads:
            done += threads.map(upload, range(60))
    return f"{sum(done)} of {len(done)} sent to the last byte but one"


def make_head(method: str, path: str, *lines: str) -> bytes:
    """Write the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def make_picture(width: int, height: int, kind: str) -> bytes:
    """Make a picture that is large in memory and small as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, kind)
    return buffer.getvalue()


def list_attacks() -> dict[str, Callable[[Address], str]]:
    """List the attacks by description."""
    vector, batch = "/v1/search/vector", "/v1/documents"
    numbers = '{"documents": [{"id": "a", "vector": ['
    lines = repeat('{"id": "a", "vector": [', '"x",', '"x"]}\n', MEGABYTE) * 8
    return {
        "nothing": hold(b"", 0, MIN_SECONDS),
        "8 × 8 MB of texts as a query": post_all(vector, repeat('{"query": [', '"x",', '"x"]}', 8 * MEGABYTE)),
        "8 × 1 MB of texts as a query": post_all(vector, repeat('{"query": [', '"x",', '"x"]}', MEGABYTE)),
        "8 × 1 MB of brackets as a query": post_all(vector, repeat('{"query": [', "[],", "[]]}", MEGABYTE)),
        "8 × 8 MB of texts as a document's vector": post_all(batch, repeat(numbers, '"x",', '"x"]}]}', 8 * MEGABYTE)),
        "8 × 8 MB of empty documents": post_all(batch, repeat('{"documents": [', "{},", "{}]}", 8 * MEGABYTE)),
        "8 × 8 MB of ids": post_all("/v1/documents/delete", repeat('{"ids": [', "1,", "1]}", 8 * MEGABYTE)),
        "8 streams of 8 lines of 1 MB of texts": post_all("/v1/documents/stream", lines, "application/x-ndjson"),
        "3 × 60 uploads of 31 MB, given up": give_up_uploads,
        "600 connections with half a header, 15 s": hold(b"GET / HT", 600, 15),
        "64 bodies that do not arrive, 20 s": hold(
            make_head("POST", "/v1/search/id", "Content-Type: application/json", "Content-Length: 500"), 64, 20
        ),
        "8 PNG of 63 megapixels": post_all("/v1/search/image", make_picture(9_000, 7_000, "PNG"), "image/png"),
        "8 JPEG 2000 of 63 megapixels": post_all(
            "/v1/search/image", make_picture(9_000, 7_000, "JPEG2000"), "image/jp2"
        ),
    }


class Probe:
    """Requests /healthz on new connections, until it is stopped."""

    def __init__(self, address: Address) -> None:
        self.milliseconds: list[float] = []
        self.failures = 0
        self._address = address
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PROBE_SECONDS):
            started = time.perf_counter()
            try:
                with socket.create_connection(self._address, timeout=30) as connection:
                    connection.sendall(make_head("GET", "/healthz", "Connection: close"))
                    self.failures += not connection.recv(4096).startswith(b"HTTP/1.1 200")
            except OSError:
                self.failures += 1
            self.milliseconds.append((time.perf_counter() - started) * 1e3)


def read_memory(pid: int, name: str) -> float:
    """Read VmRSS or VmHWM of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def read_cpu(process: psutil.Process) -> float:
    """Read the CPU time of a process and of its children, also of those that have ended, in seconds."""
    children = process.children(recursive=True)
    return float(sum(process.cpu_times()[:4]) + sum(sum(each.cpu_times()[:2]) for each in children))


def run_attack(name: str, address: Address) -> str:
    """Run an attack, again if it was short, and return how it was answered."""
    started, attack = time.perf_counter(), list_attacks()[name]
    outcomes = [attack(address)]
    while time.perf_counter() - started < MIN_SECONDS:
        outcomes.append(attack(address))
    return f"{outcomes[0]}; {len(outcomes)} times" if len(outcomes) > 1 else outcomes[0]


def measure(process: psutil.Process, address: Address, name: str) -> list[str]:
    """Measure one attack: peak and rest of memory, CPU time, slowest and median probe, outcome."""
    before = read_cpu(process)
    rest = read_memory(process.pid, "VmRSS")
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    with Probe(address) as probe:
        command = [sys.executable, __file__, ATTACK, name, address[0], str(address[1])]
        outcome = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    peak = read_memory(process.pid, "VmHWM")
    spent = read_cpu(process) - before
    time.sleep(5)
    left = read_memory(process.pid, "VmRSS")
    times = sorted(probe.milliseconds)
    failed = f", {probe.failures} failed" if probe.failures else ""
    return [
        f"{peak - rest:,.0f} MB",
        f"{left - rest:,.0f} MB",
        f"{spent:.1f} s",
        f"{times[len(times) // 2]:.0f} ms",
        f"{times[-1]:,.0f} ms{failed}",
        outcome,
    ]


def main(only: str = "") -> None:
    """Run the attacks and print a table in Markdown."""
    command = [sys.executable, __file__, SERVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        parts = urlsplit(server.stdout.readline().strip())
        address, process = (str(parts.hostname), int(parts.port or 0)), psutil.Process(server.pid)
        post(address, "/v1/search/image", make_picture(300, 200, "JPEG"), "image/jpeg")  # starts the decoders
        columns = [
            "attack",
            "memory, peak",
            "after 5 s",
            "CPU time",
            "probe, median",
            "slowest",
            "responses",
        ]
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for name in list_attacks():
            if only in name:
                print("| " + " | ".join([name, *measure(process, address, name)]) + " |", flush=True)
        server.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:] == [SERVE]:
        serve()
    elif sys.argv[1:2] == [ATTACK]:
        print(run_attack(sys.argv[2], (sys.argv[3], int(sys.argv[4]))))
    else:
        typer.run(main)
