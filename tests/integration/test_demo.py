"""`deepterms demo` in a terminal: its output, the search page at the end, and how that stops."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clusters.containers import delete_indices
from tests.integration.test_command_line import deepterms
from tests.unit.features.odd_files import photograph

pytestmark = pytest.mark.slow

PATIENCE = 300  # seconds
# In a new session, the terminal must become the controlling one, or Ctrl-C would not reach the process.
AT_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'deepterms', *sys.argv[1:]])"
)


@pytest.fixture
def url(opensearch: Any) -> Iterator[str]:
    """The address of an OpenSearch without the index of the demo, before and after the test."""
    delete_indices(opensearch, "deepterms-demo")
    (host,) = opensearch.transport.hosts
    yield f"http://{host['host']}:{host['port']}"
    delete_indices(opensearch, "deepterms-demo")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    for number in range(5):
        Image.fromarray(photograph(number)).save(tmp_path / "mine" / f"picture {number}.png")
    return tmp_path / "mine"


class Terminal:
    """A process in its own pseudo-terminal."""

    def __init__(self, *arguments: str | Path, cwd: Path, **environment: str) -> None:
        self.master, slave = pty.openpty()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", AT_A_TERMINAL, *map(str, arguments)],
                cwd=cwd, env={**os.environ, "COLUMNS": "400", "TERM": "dumb", **environment},
                stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(slave)
        self.said = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Wait until the output matches."""
        end = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.said)) is None:
            assert time.monotonic() < end, self.said
            assert self._read(), self.said
        return found

    def read_to_the_end(self) -> int:
        """Wait until the process ends by itself, and return its exit status."""
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, self.said
        return self.process.wait(30)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _read(self) -> bool:
        """Whether there can be more output."""
        if not select.select([self.master], [], [], 1)[0]:
            return True
        try:
            said = os.read(self.master, 65_536)
        except OSError:  # how Linux reports the end of the output
            return False
        self.said += said.decode(errors="replace").replace("\r\n", "\n")
        return bool(said)


def asked(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_it_serves_the_search_page_until_ctrl_c(url: str, photos: Path, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{shlex.quote(str(tmp_path))}/opened\n')
    browser.chmod(0o755)
    screen = {"DISPLAY": ":99", "BROWSER": str(browser)}
    with contextlib.closing(Terminal("demo", photos, "--url", url, cwd=tmp_path, **screen)) as terminal:
        address, query = terminal.read_until(
            r"(http://127\.0\.0\.1:\d+)/(#id=picture%20\d\.png) +search page; press Ctrl-C"
        ).groups()
        assert "Search with any photograph in the browser:" in terminal.said
        assert f"Results page: {tmp_path}/deepterms-demo/results.html" in terminal.said
        assert (tmp_path / "deepterms-demo" / "results.html").is_file()
        hits = asked(f"{address}/v1/search/id", {"id": "picture 3.png", "k": 2})["hits"]
        assert len(hits) == 2
        with urllib.request.urlopen(address + hits[0]["thumbnail"], timeout=60) as thumbnail:
            assert thumbnail.headers["Content-Type"] == "image/jpeg"
        assert (tmp_path / "opened").read_text() == f"{address}/{query}\n"
        terminal.type("\x03")
        assert terminal.read_to_the_end() == 0, terminal.said
        assert "Traceback" not in terminal.said
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(address, timeout=60)


def test_it_opens_no_browser_without_a_screen(url: str, photos: Path, tmp_path: Path) -> None:
    """Many servers have a terminal browser, which would hide the output of the demo."""
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\n: >{shlex.quote(str(tmp_path))}/opened\n")
    browser.chmod(0o755)
    none = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": str(browser)}
    with contextlib.closing(Terminal("demo", photos, "--url", url, cwd=tmp_path, **none)) as terminal:
        terminal.read_until("search page; press Ctrl-C")
        terminal.type("\x03")  # at once
        assert terminal.read_to_the_end() == 0, terminal.said
        assert "Traceback" not in terminal.said
    assert not (tmp_path / "opened").exists()


def test_it_serves_no_page_with_no_serve_or_in_a_pipe(url: str, photos: Path, tmp_path: Path) -> None:
    with contextlib.closing(Terminal("demo", photos, "--url", url, "--no-serve", cwd=tmp_path)) as terminal:
        assert terminal.read_to_the_end() == 0, terminal.said
        assert "Try your own photographs:" in terminal.said
        assert "in the browser" not in terminal.said
    piped = deepterms("demo", photos, url=url, cwd=tmp_path)
    assert piped.returncode == 0, piped.stderr
    assert "in the browser" not in piped.stderr
