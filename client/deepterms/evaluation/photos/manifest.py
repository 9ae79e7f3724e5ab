"""Turn package_photos.json, the list of photographs in packages, into dataclasses."""

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
        package: that contains it.
        member: path in the package; `outer.rcc!inner` inside a Qt resource.
        sha256: of its bytes, to detect a different picture under the same path.
        licence: stated by the package for this photograph, or else for its content as a whole.
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
        title: what they show.
        kind: "natural": several photographs of one scene; "edited": one photograph that the package contains in several
            versions; "transformed": one photograph from which further views are generated; "distractor": a single
            photograph.
        photographs: from packages, in the order of the ids.
        transforms: names in TRANSFORMS, one per view to generate.
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
        groups: of the collection.
        training: photographs that show no scene of the groups.
        digest: SHA-256 of the file.
    """

    groups: tuple[Group, ...]
    training: tuple[Photograph, ...]
    digest: str

    @property
    def photographs(self) -> list[Photograph]:
        """All photographs, those of the groups first."""
        return [*(photograph for group in self.groups for photograph in group.photographs), *self.training]


@cache
def read_manifest() -> Manifest:
    """Read the list that ships with this release."""
    content = resources.files("deepterms.evaluation.photos").joinpath("package_photos.json").read_bytes()
    listed = json.loads(content)
    packages = {entry["name"]: Package(**entry) for entry in listed["packages"]}

    def parse(entry: dict[str, Any]) -> Photograph:
        package = packages[entry["package"]]
        return Photograph(package, entry["member"], entry["sha256"], entry.get("licence", package.licence))

    return Manifest(
        groups=tuple(
            Group(
                number=entry["group"],
                title=entry["title"],
                kind=entry["kind"],
                photographs=tuple(map(parse, entry["photographs"])),
                transforms=tuple(entry.get("transforms", ())),
            )
            for entry in listed["groups"]
        ),
        training=tuple(map(parse, listed["training"])),
        digest=hashlib.sha256(content).hexdigest(),
    )
