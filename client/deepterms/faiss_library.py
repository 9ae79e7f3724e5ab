"""FAISS, imported where it is needed, and kept to the thread that asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

from deepterms.errors import MissingExtra

__all__ = ["faiss", "one_thread"]


def faiss(extra: Literal["evaluate", "pivots"] = "pivots") -> Any:
    """The module.

    Args:
        extra: of this package, that brings it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module("faiss")  # its types do not know all of it
    except ImportError as error:
        raise MissingExtra("faiss-cpu", extra) from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Let it work in the calling thread alone: threads for one descriptor cost 10 ms where others use the cores.

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
