"""docs/architecture.md: the packages, modules, functions, layers and tests that it names are those of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "client" / "deepterms"
PAGE = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
ROWS = re.findall(r"^\| `([\w/]+)/` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
# Dotted names of the package, such as `search.body.search_body`.
NAMES = sorted(set(re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", PAGE)))


def test_every_package_has_a_row() -> None:
    assert set(PACKAGES) <= {package for package, _ in ROWS}


@pytest.mark.parametrize(("package", "modules"), ROWS, ids=[package for package, _ in ROWS])
def test_the_modules_of_a_package_exist(package: str, modules: str) -> None:
    named = re.findall(r"`([\w/]+)`", modules)
    assert named
    for module in named:
        path = PACKAGE / package / module
        assert path.is_dir() or path.with_suffix(".py").is_file(), path


@pytest.mark.parametrize("name", NAMES)
def test_a_name_exists(name: str) -> None:
    """Each is a module, or a class, function or method in one."""
    found: object = importlib.import_module("deepterms")
    path = "deepterms"
    for part in name.split("."):
        path += f".{part}"
        # A package may export a function that is named like its module.
        try:
            found = importlib.import_module(path)
        except ImportError:
            found = getattr(found, part)


def test_the_layers_are_those_of_the_contract() -> None:
    (contract,) = re.findall(
        r"^layers = \[\n(.*?)^\]", (TOP / "pyproject.toml").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert block.splitlines() == re.findall(r'"(.+)"', contract)


def test_every_test_that_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert named
    for path in named:
        assert (TOP / path).exists(), path
