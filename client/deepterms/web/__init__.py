"""The search page and the HTTP API: one index, for people in a browser and for programs in any language.

Importing this package imports no web framework; the first use of a name does.
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
