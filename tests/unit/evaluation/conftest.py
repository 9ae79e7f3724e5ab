from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.unit.evaluation.photos.archives import Files, write_tgz

Registry = Callable[[Mapping[str, Files]], Path]
"""Function that sets the packages npm can download, by "name" or "name@version", and returns the log of npm calls."""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A fake npm with a few packages, and no apt-get."""
    served, programs, calls = tmp_path / "served", tmp_path / "programs", tmp_path / "calls"
    served.mkdir()
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(
        "#!/bin/sh\n"
        f'for spec; do :; done\necho "$spec" >>"{calls}"\n'
        f'if [ ! -e "{served}/$spec" ]; then echo "npm error 404 $spec" >&2; exit 1; fi\n'
        f'cp "{served}/$spec" "$spec.tgz"\n'
    )
    npm.chmod(0o755)
    for tool in ("cp", "sh"):
        found = next(Path(folder) / tool for folder in os.environ["PATH"].split(":") if (Path(folder) / tool).exists())
        (programs / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("DEEPTERMS_CACHE", str(tmp_path / "cache"))

    def serve(packages: Mapping[str, Files]) -> Path:
        for old in served.iterdir():
            old.unlink()
        for spec, files in packages.items():
            write_tgz(served / spec, files)
        calls.write_text("")
        return calls

    return serve
