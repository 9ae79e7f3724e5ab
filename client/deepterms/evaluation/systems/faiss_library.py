"""FAISS, imported where it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from deepterms.errors import MissingExtra

__all__ = ["faiss"]


def faiss() -> Any:
    """The module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module("faiss")  # its types do not know all of it
    except ModuleNotFoundError as error:
        raise MissingExtra("faiss-cpu", "evaluate") from error
