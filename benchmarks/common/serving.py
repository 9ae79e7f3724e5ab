"""Run `deepterms serve` as a separate process while a benchmark or a screenshot needs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["serving"]


@contextmanager
def serving(name: str, *arguments: str, url: str | None = None) -> Iterator[str]:
    """Start the server and yield its address; stop it on exit.

    Args:
        name: of the index.
        arguments: further command-line arguments.
        url: of the cluster; by default chosen by the command line.
    """
    command = [sys.executable, "-m", "deepterms", "serve", name, "--port", "0", *arguments]
    environment = {**os.environ, **({} if url is None else {"DEEPTERMS_URL": url})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            address = next((found[1] for line in lines if (found := re.match(r"(http://[\d.:]+)/ ", line))), None)
            if address is None:
                raise SystemExit(f"{' '.join(command)} exited before it printed its address")
            yield address
        finally:
            process.terminate()
