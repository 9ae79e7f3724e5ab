"""The search page and the HTTP API: one index, for people in a browser and for programs in any language.

Importing this package imports no web framework; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepterms.web.app import create_app
    from deepterms.web.limits import Limits

_MODULES = {"Limits": "limits", "create_app": "app"}

__all__ = ["Limits", "create_app"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
