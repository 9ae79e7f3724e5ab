"""What is shipped: the wheel and the sdist hold the assets, and both work from where they lie."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from deepterms.schema.assets import assets_of
from deepterms.schema.layouts import LAYOUTS

TOP = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

USE = """
import sys, pathlib
import deepterms
from deepterms.schema.assets import assets_of, load_processor
from deepterms.schema.layouts import LAYOUTS
from deepterms.node.lock import load_lock
from deepterms.node.distribution import VERSION
assert pathlib.Path(deepterms.__file__).is_relative_to(sys.argv[1]), deepterms.__file__
assert len(assets_of(LAYOUTS)) == 3 * len(LAYOUTS) + 1
assert load_processor("decode-vector-v1", {})["script"]["source"]
assert load_lock(VERSION).jars
assert deepterms.RMACExtractor().dimensions == 1280  # with the whitening that ships
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(TOP)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


def use(path: Path, root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    subprocess.run([sys.executable, "-c", USE, str(root)], check=True, env=environment, cwd=root, timeout=120)


def test_the_wheel(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {f"deepterms/{asset.file}" for asset in assets_of(LAYOUTS)} <= names
    assert {"deepterms/py.typed", "deepterms/cli/gallery.html.j2"} <= names
    page = {f"deepterms/web/static/{name}" for name in ("index.html", "page.css", "page.js", "icon.svg")}
    assert page <= names
    assert not any(name.startswith(("tests/", "client/", "benchmarks/")) for name in names)
    assert wheel.stat().st_size < 8e6
    use(tmp_path, tmp_path)


def test_the_sdist(distributions: Path, tmp_path: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "scripts/test", "scripts/demo", "tests/conftest.py"):
        assert (root / name).exists(), name
    use(root / "client", root)
