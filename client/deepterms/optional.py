"""A package's public names into imports that happen when a name is first used: what they need is optional, or slow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """What a package binds ``__getattr__`` and ``__dir__`` to (PEP 562).

    Args:
        package: its ``__name__``.
        modules: name → the package's module that has it.

    Returns:
        Both. The first keeps what it found, so that it is asked once a name.
    """

    def found(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return found, lambda: sorted(modules)
