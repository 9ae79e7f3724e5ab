"""Engines: parses the product and version that a cluster reports, or explains why it is not supported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepterms.errors import UnsupportedEngine

__all__ = ["MAX_HITS", "SUPPORTED", "Engine", "explain_version_conflict", "parse_engine"]

MAX_HITS = 10_000  # of one request: both engines' default of index.max_result_window

SUPPORTED = "expected Elasticsearch 8 or later, or OpenSearch 2 or later"

# Elasticsearch's response to a client of another major version: "Accept version must be either version 8 or 7, but
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

    def require_point_in_time(self) -> None:
        """Raise UnsupportedEngine unless this engine supports points in time."""
        first = (2, 4) if self.name == "opensearch" else (7, 10)
        if self.version[:2] < first:
            needed = f"expected {first[0]}.{first[1]} or later"
            raise UnsupportedEngine(f"{self} does not support points in time, which search_all needs; {needed}")


def parse_engine(answer: Any) -> Engine:
    """Parse the response to ``GET /``.

    Raises:
        UnsupportedEngine: deepterms does not support the engine or its version.
    """
    version = answer.get("version") if isinstance(answer, Mapping) else None
    if not isinstance(version, Mapping):
        raise UnsupportedEngine(f"the server at this address is neither Elasticsearch nor OpenSearch; {SUPPORTED}")
    if version.get("build_flavor") == "serverless":
        raise UnsupportedEngine(
            "Elasticsearch Serverless does not let an index set its number of shards, as deepterms does; "
            "use a self-managed cluster or a hosted deployment"
        )
    number = str(version.get("number", "")).partition("-")[0].split(".")
    if len(number) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in number):
        raise UnsupportedEngine(
            f"the cluster reports the version {version.get('number')!r}; expected major.minor.patch"
        )
    major, minor, patch = (int(part) for part in number)
    name = "opensearch" if version.get("distribution") == "opensearch" else "elasticsearch"
    if name == "opensearch" and (major, minor) == (7, 10):
        raise UnsupportedEngine(
            "OpenSearch reports version 7.10 instead of its own; "
            "set the cluster setting compatibility.override_main_response_version to false"
        )
    return Engine(name, (major, minor, patch))


def explain_version_conflict(reason: str) -> str | None:
    """Explain what to install if client library and cluster are of incompatible versions; None if they are not.

    Args:
        reason: why the cluster rejected a request.
    """
    found = _MEDIA_TYPES.search(reason)
    if found is None:
        return None
    served, library = int(found[1]), int(found[2])
    if served < 8:
        return f"the cluster is Elasticsearch {served}, which is too old; {SUPPORTED}"
    return (
        f"the client library elasticsearch {library} does not support Elasticsearch {served}; "
        f'install one that does: pip install "elasticsearch<{served + 1}"'
    )
