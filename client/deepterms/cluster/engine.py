"""Versions: what a cluster says of itself, as an engine with its abilities, or as a sentence on what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepterms.encoders.encoder import Encoder
from deepterms.errors import UnsupportedEngine
from deepterms.schema.layouts import LAYOUTS, Layout, layout_named

__all__ = ["Engine", "engine_of", "version_conflict"]

OLDEST = "expected Elasticsearch 8 or later, or OpenSearch 2 or later"

# What Elasticsearch answers to a client of another major version: "Accept version must be either version 8 or 7, but
# found 9. Accept=application/vnd.elasticsearch+json; compatible-with=9".
_MEDIA_TYPES = re.compile(r"version must be either version (\d+) or \d+, but found (\d+)")


@dataclass(frozen=True)
class Engine:
    """An engine and its version.

    Attributes:
        name: ``elasticsearch`` or ``opensearch``.
        version: (major, minor, patch).
    """

    name: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{'OpenSearch' if self.name == 'opensearch' else 'Elasticsearch'} {'.'.join(map(str, self.version))}"

    def has(self, layout: Layout) -> bool:
        """Whether this engine can hold an index of that layout."""
        first = layout.engines.get(self.name)
        return first is not None and self.version[:2] >= first

    def require(self, layout: Layout) -> None:
        """Raise UnsupportedEngine unless this engine has the layout."""
        if self.has(layout):
            return
        others = ", ".join(known.name for known in LAYOUTS if self.has(known))
        if not others:
            raise UnsupportedEngine(f"{self} is too old; {OLDEST}")
        raise UnsupportedEngine(f"{self} does not have the layout {layout.name!r}; it has: {others}")

    def require_point_in_time(self) -> None:
        """Raise UnsupportedEngine unless this engine can search an index as it was at one moment."""
        first = (2, 4) if self.name == "opensearch" else (7, 10)
        if self.version[:2] < first:
            raise UnsupportedEngine(f"{self} has no point in time, as search_all needs; {first[0]}.{first[1]} has")

    @property
    def default_layout(self) -> Layout:
        """The best layout that this engine has.

        Raises:
            UnsupportedEngine: it has none.
        """
        for layout in LAYOUTS:
            if self.has(layout):
                return layout
        raise UnsupportedEngine(f"{self} is too old; {OLDEST}")

    def layout_for(self, encoder: Encoder) -> Layout:
        """The layout of an index for which none is asked: the one made for binary documents, or the default.

        Raises:
            UnsupportedEngine: this engine has none.
        """
        made_for_binary = layout_named("codewords")
        if encoder.largest_frequency == 1 and self.has(made_for_binary):
            return made_for_binary
        return self.default_layout


def engine_of(answer: Any) -> Engine:
    """The engine that gives this answer to ``GET /``.

    Raises:
        UnsupportedEngine: none that deepterms can use.
    """
    version = answer.get("version") if isinstance(answer, Mapping) else None
    if not isinstance(version, Mapping):
        raise UnsupportedEngine(f"what answers at this address is neither Elasticsearch nor OpenSearch; {OLDEST}")
    if version.get("build_flavor") == "serverless":
        raise UnsupportedEngine(
            "Elasticsearch Serverless does not let an index choose its shards, which deepterms does; "
            "use a cluster of your own or a hosted deployment"
        )
    number = str(version.get("number", "")).partition("-")[0].split(".")
    if len(number) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in number):
        raise UnsupportedEngine(f"the cluster does not say its version as expected: {version.get('number')!r}")
    major, minor, patch = (int(part) for part in number)
    name = "opensearch" if version.get("distribution") == "opensearch" else "elasticsearch"
    if name == "opensearch" and (major, minor) == (7, 10):
        raise UnsupportedEngine(
            "OpenSearch says that its version is 7.10, so what it can do is unknown; "
            "set its cluster setting compatibility.override_main_response_version to false"
        )
    return Engine(name, (major, minor, patch))


def version_conflict(why: str) -> str | None:
    """What to install, if the reason of a refusal is that client and cluster are of versions that do not go together.

    Args:
        why: the cluster's reason.
    """
    found = _MEDIA_TYPES.search(why)
    if found is None:
        return None
    served, library = int(found[1]), int(found[2])
    if served < 8:
        return f"the cluster is Elasticsearch {served}, which is too old; {OLDEST}"
    return (
        f"the client library elasticsearch {library} does not speak to Elasticsearch {served}; "
        f'install one that does: pip install "elasticsearch<{served + 1}"'
    )
