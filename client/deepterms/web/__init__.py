"""Serves one index: a search page for browsers and an HTTP API for programs in any language.

Importing this package does not import the web framework; the first use of one of its names does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepterms.optional import lazy_names

if TYPE_CHECKING:
    from deepterms.web.app import create_app
    from deepterms.web.limits import Limits

_MODULES = {"Limits": "limits", "create_app": "app"}

__all__ = ["Limits", "create_app"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
