"""The user's cache folder, for downloads and copies that can be recreated."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Return ``$DEEPTERMS_CACHE``, or the platform's cache folder for this user. It may not exist yet."""
    if chosen := os.environ.get("DEEPTERMS_CACHE"):
        return Path(chosen).absolute()
    try:
        import platformdirs
    except ModuleNotFoundError:  # part of the extra `node`; one call does not justify requiring it here
        return Path.home() / ".cache" / "deepterms"
    return Path(platformdirs.user_cache_dir("deepterms", appauthor=False))
