"""package_photos.json, the list of photographs in packages, into values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from deepterms.evaluation.photos.packages import Package

__all__ = ["Group", "Manifest", "Photograph", "read_manifest"]


@dataclass(frozen=True)
class Photograph:
    """One photograph in a package.

    Attributes:
        member: its path in the package; `outer.rcc!inner` inside a Qt resource.
        sha256: of its bytes; another picture under the same path is not the one that was looked at.
        licence: as the package states it for this photograph, else for all of its content.
    """

    package: Package
    member: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Group:
    """Photographs of one scene or object.

    Attributes:
        number: four digits, the first four of the ids.
        kind: "natural", several photographs of one scene; "edited", one photograph that its package carries in several
            versions; "transformed", one photograph from which other views are made; "distractor", one photograph alone.
        transforms: names in TRANSFORMS, one a view to make.
    """

    number: str
    title: str
    kind: Literal["natural", "edited", "transformed", "distractor"]
    photographs: tuple[Photograph, ...]
    transforms: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """All groups, and photographs of other scenes for training.

    Attributes:
        digest: of the file.
    """

    groups: tuple[Group, ...]
    training: tuple[Photograph, ...]
    digest: str

    @property
    def photographs(self) -> list[Photograph]:
        """All of them, those of the groups first."""
        return [*(photograph for group in self.groups for photograph in group.photographs), *self.training]


@cache
def read_manifest() -> Manifest:
    """Reads the list that this release carries."""
    content = resources.files("deepterms.evaluation.photos").joinpath("package_photos.json").read_bytes()
    listed = json.loads(content)
    packages = {entry["name"]: Package(**entry) for entry in listed["packages"]}

    def photograph(entry: dict[str, Any]) -> Photograph:
        package = packages[entry["package"]]
        return Photograph(package, entry["member"], entry["sha256"], entry.get("licence", package.licence))

    return Manifest(
        groups=tuple(
            Group(
                number=entry["group"],
                title=entry["title"],
                kind=entry["kind"],
                photographs=tuple(map(photograph, entry["photographs"])),
                transforms=tuple(entry.get("transforms", ())),
            )
            for entry in listed["groups"]
        ),
        training=tuple(map(photograph, listed["training"])),
        digest=hashlib.sha256(content).hexdigest(),
    )
