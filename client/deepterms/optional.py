"""Optional dependencies: imported on first use, or reported in one message with the pip command that installs them."""

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
    """Turn a failed import inside the block into one message with the pip command.

    Write ``with require("torch", "features"):`` and put ``import torch`` inside.

    Args:
        package: what pip installs.
        extra: the extra of deepterms that includes it.

    Raises:
        MissingExtra: an import inside the block failed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(package, extra) from error


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Create a package's ``__getattr__`` and ``__dir__`` (PEP 562), which import its modules on first use.

    Args:
        package: its ``__name__``.
        modules: public name → the module of the package that defines it.

    Returns:
        ``__getattr__`` and ``__dir__``. The first stores each object in the package, so it runs once per name.
    """

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted(modules)


def faiss(extra: Literal["evaluate", "pivots"] = "pivots") -> Any:
    """Import FAISS.

    Args:
        extra: the extra of deepterms to name if it is missing.

    Returns:
        The module.

    Raises:
        MissingExtra: FAISS is not installed.
    """
    loaded = sys.modules.get("faiss")
    if loaded is not None:  # the import system takes longer, and a query passes here several times
        return loaded
    with require("faiss-cpu", extra):
        return import_module("faiss")  # as Any: its type stubs are incomplete


@contextmanager
def one_thread() -> Iterator[None]:
    """Run FAISS on the calling thread only: on busy cores, its thread pool adds 10 ms to a single query.

    Raises:
        MissingExtra: FAISS is not installed.
    """
    module = faiss()
    before = module.omp_get_max_threads()  # a setting of the calling thread
    if before == 1:
        yield
        return
    module.omp_set_num_threads(1)
    try:
        yield
    finally:
        module.omp_set_num_threads(before)
