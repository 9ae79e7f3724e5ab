"""Optional dependencies: imported when they are first used, or one message with the pip line that brings them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

from deepterms.errors import MissingExtra

__all__ = ["faiss", "lazy_names", "one_thread", "require"]


@contextmanager
def require(package: str, extra: str) -> Iterator[None]:
    """Turn a failed import inside the context into one message with the pip line.

    Write ``with require("torch", "features"):`` above ``import torch``.

    Args:
        package: what pip installs.
        extra: of deepterms, that brings it.

    Raises:
        MissingExtra: an import inside failed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(package, extra) from error


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


def faiss(extra: Literal["evaluate", "pivots"] = "pivots") -> Any:
    """The FAISS module.

    Args:
        extra: of this package, that brings it.

    Raises:
        MissingExtra: it is not installed.
    """
    with require("faiss-cpu", extra):
        return import_module("faiss")  # as Any: its type stubs are incomplete


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS on the calling thread: on busy cores, its thread pool adds 10 ms to a single query.

    Raises:
        MissingExtra: it is not installed.
    """
    module = faiss()
    before = module.omp_get_max_threads()  # of this thread
    module.omp_set_num_threads(1)
    try:
        yield
    finally:
        module.omp_set_num_threads(before)
