"""What is shipped: the wheel and the sdist contain the assets, work where they are unpacked, and can be uploaded."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from deepterms.schema.assets import list_assets
from deepterms.schema.layouts import LAYOUTS

TOP = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

USE = """
import sys, pathlib
import deepterms
from deepterms.schema.assets import list_assets, load_processor
from deepterms.schema.layouts import LAYOUTS
from deepterms.node.lock import load_lock
from deepterms.node.distribution import VERSION
assert pathlib.Path(deepterms.__file__).is_relative_to(sys.argv[1]), deepterms.__file__
assert len(list_assets(LAYOUTS)) == 3 * len(LAYOUTS) + 1
assert load_processor("check-native-vector-v1", {})["script"]["source"]
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


def read_metadata(wheel: Path) -> Message:
    """Read METADATA, which package indices show."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_twine_accepts_both(distributions: Path) -> None:
    """The README renders, and the metadata is valid."""
    files = sorted(map(str, distributions.iterdir()))
    assert len(files) == 2
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_metadata(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    metadata = read_metadata(wheel)
    links = dict(value.split(", ", 1) for value in metadata.get_all("Project-URL", []))
    assert links.keys() == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert all(link.startswith("https://github.com/deepterms/deepterms") for link in links.values())
    assert metadata["Author"] == "The deepterms developers"
    classifiers = metadata.get_all("Classifier", [])
    versions = {text.rpartition(" ")[2] for text in classifiers if "Python :: 3." in text}
    assert versions == {f"3.{minor}" for minor in range(10, 15)}
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_wheel(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {f"deepterms/{asset.file}" for asset in list_assets(LAYOUTS)} <= names
    assert {"deepterms/py.typed", "deepterms/cli/gallery.html.j2"} <= names
    page = {f"deepterms/web/static/{name}" for name in ("index.html", "page.css", "page.js", "icon.svg")}
    assert page <= names
    assert not any(name.startswith(("tests/", "client/", "benchmarks/")) for name in names)
    assert not any("/golden/" in name for name in names)  # examples that only tests read
    assert wheel.stat().st_size < 5e6
    use(tmp_path, tmp_path)


def test_the_sdist(distributions: Path, tmp_path: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # Python before 3.11.4 has no filters; from 3.12 on, extracting without one is deprecated.
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **options)
    (root,) = tmp_path.iterdir()
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "scripts/test", "scripts/demo", "tests/conftest.py"):
        assert (root / name).exists(), name
    for path in [*(TOP / "docs").glob("*.*"), *(TOP / "docs" / "pictures").iterdir()]:
        assert (root / path.relative_to(TOP)).exists(), path
    use(root / "client", root)
