"""A lock file into the jars of one OpenSearch version, each with its folder and SHA-256.

Dependencies are resolved once, by `resolve_lock`; afterwards the jars are only verified.
"""

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
    """The contents of an assembled distribution.

    Attributes:
        version: of OpenSearch.
        folders: folder → {coordinate `group:artifact:version[:classifier]` → SHA-256 in hexadecimal}.
    """

    version: str
    folders: Mapping[str, Mapping[str, str]]

    @property
    def jars(self) -> dict[str, str]:
        """Coordinate → SHA-256, each coordinate once."""
        return {coordinate: digest for jars in self.folders.values() for coordinate, digest in jars.items()}

    @property
    def files(self) -> dict[str, str]:
        """Relative path of each jar in the distribution → coordinate."""
        return {
            f"{folder}/{locate_jar(coordinate).name}": coordinate
            for folder, jars in self.folders.items()
            for coordinate in jars
        }

    def to_json(self) -> str:
        """Return the text of the lock file."""
        return json.dumps({"opensearch": self.version, "folders": self.folders}, indent=1, sort_keys=True) + "\n"


def locate_lock(version: str, folder: Path = _FOLDER) -> Path:
    """Return the path of a version's lock file, which may not exist."""
    return folder / f"opensearch-{version}.lock.json"


def load_lock(version: str = VERSION, folder: Path = _FOLDER) -> Lock:
    """Read a lock file, by default one that ships with deepterms.

    Raises:
        NodeError: this version has no lock file.
    """
    try:
        content = json.loads(locate_lock(version, folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(path.name[len("opensearch-") : -len(".lock.json")] for path in folder.glob("*.lock.json"))
        raise NodeError(f"OpenSearch {version} has no lock file; expected one of: {', '.join(known)}") from None
    return Lock(version=content["opensearch"], folders=content["folders"])
