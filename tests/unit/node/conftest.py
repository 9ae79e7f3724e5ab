"""A distribution, shared with other tests and the command line, and folders that every user can enter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepterms.node import assemble, cache_dir
from tests.unit.node.mirror import Mirror


@pytest.fixture(scope="session")
def home() -> Path:
    """A distribution in the default cache: the first run on a machine downloads it, later runs verify it."""
    return assemble()


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """A folder like `tmp_path` that the node's user can enter, unlike pytest's, if root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="deepterms-node-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def mirror(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A local stand-in for Maven Central, with an empty cache to download into."""
    mirror = Mirror(cache_dir() / "jars")
    configuration = tmp_path / "jgo.conf"
    configuration.write_text(f"[repositories]\ncentral = {mirror.url}\n", encoding="utf-8")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DEEPTERMS_CACHE", str(tmp_path / "cache"))
    yield mirror
    mirror.close()
