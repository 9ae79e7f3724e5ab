"""The folder of this user in which downloads and copies are kept that can be had again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``$DEEPTERMS_CACHE``, or the platform's cache folder for this user; it need not exist."""
    if chosen := os.environ.get("DEEPTERMS_CACHE"):
        return Path(chosen).absolute()
    try:
        import platformdirs
    except ModuleNotFoundError:  # it comes with the extra `node`; one function of it is not worth an extra of its own
        return Path.home() / ".cache" / "deepterms"
    return Path(platformdirs.user_cache_dir("deepterms", appauthor=False))
