"""Fuzz one parser with coverage guidance: python -m tests.fuzz.atheris_run TARGET [--seconds 60].

The tests do not install atheris; use pip install --group fuzz. Without a target, lists the targets. Failing inputs are
written to crash-… in the working folder; move one to tests/fuzz/found/TARGET and every test run will try it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deepterms"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target until the time is up or an input fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    chosen = parser.parse_args()
    if chosen.target is None:
        print("\n".join(TARGETS))
        return
    target = TARGETS[chosen.target]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        options = [f"-max_total_time={chosen.seconds}", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, folder], target.parse)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
