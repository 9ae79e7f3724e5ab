"""One parser under coverage-guided fuzzing, by hand: python -m tests.fuzz.atheris_run TARGET [--seconds 60].

atheris is not among what the tests install: pip install --group fuzz. Without a target, the targets are listed. What it
finds is written to a file crash-… in the working folder; kept in tests/fuzz/found/TARGET it is tried by every test run.
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
    """Run one target until the time is over or something is found."""
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
