"""`deepterms serve` as a process of its own, for as long as something is measured or photographed."""

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
    """The address of the page.

    Args:
        name: of the index.
        arguments: more of the command line's.
        url: of the cluster; default: as the command line finds it.
    """
    command = [sys.executable, "-m", "deepterms", "serve", name, "--port", "0", *arguments]
    environment = {**os.environ, **({} if url is None else {"DEEPTERMS_URL": url})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            address = next((found[1] for line in lines if (found := re.match(r"(http://[\d.:]+)/ ", line))), None)
            if address is None:
                raise SystemExit(f"{' '.join(command)} ended before it said its address")
            yield address
        finally:
            process.terminate()
