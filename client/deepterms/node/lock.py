"""The jars of one OpenSearch version, each with its folder and SHA-256: resolved once, then only verified."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deepterms.errors import NodeError
from deepterms.node.distribution import VERSION
from deepterms.node.jars import locate_jar

__all__ = ["Lock", "load_lock", "locate_lock"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Lock:
    """What an assembled distribution holds.

    Attributes:
        version: OpenSearch's version.
        folders: folder → {coordinate `group:artifact:version[:classifier]` → SHA-256 in hexadecimal}.
    """

    version: str
    folders: Mapping[str, Mapping[str, str]]

    @property
    def jars(self) -> dict[str, str]:
        """Every coordinate once, with its SHA-256."""
        return {coordinate: digest for jars in self.folders.values() for coordinate, digest in jars.items()}

    @property
    def files(self) -> dict[str, str]:
        """Relative path of every jar in a distribution → coordinate."""
        return {
            f"{folder}/{locate_jar(coordinate).name}": coordinate
            for folder, jars in self.folders.items()
            for coordinate in jars
        }

    def to_json(self) -> str:
        """The text of the lock file."""
        return json.dumps({"opensearch": self.version, "folders": self.folders}, indent=1, sort_keys=True) + "\n"


def locate_lock(version: str, folder: Path = _FOLDER) -> Path:
    """Where the lock of a version is, or would be."""
    return folder / f"opensearch-{version}.lock.json"


def load_lock(version: str = VERSION, folder: Path = _FOLDER) -> Lock:
    """Reads a lock: that which ships with deepterms, or one in another folder.

    Raises:
        NodeError: there is none for that version.
    """
    try:
        content = json.loads(locate_lock(version, folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(path.name[len("opensearch-") : -len(".lock.json")] for path in folder.glob("*.lock.json"))
        raise NodeError(f"OpenSearch {version} cannot be assembled; versions there are: {', '.join(known)}") from None
    return Lock(version=content["opensearch"], folders=content["folders"])
