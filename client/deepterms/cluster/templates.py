"""Index templates: which of a cluster's templates an index of a given name would be created from.

Of all composable templates whose patterns match, the one with the highest priority applies, alone: templates are not
merged. Legacy templates (``_template``) count only if no composable one matches, so they never override one of ours.
Both engines reject two templates of the same priority with patterns that overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected

__all__ = ["IndexTemplate", "describe_override", "find_template", "list_templates"]


@dataclass(frozen=True)
class IndexTemplate:
    """A composable index template.

    Attributes:
        name: its name.
        patterns: of the index names that it applies to.
        priority: the highest one applies.
    """

    name: str
    patterns: tuple[str, ...]
    priority: int

    def matches(self, index: str) -> bool:
        """Whether a pattern matches the name of an index; only ``*`` has a meaning in patterns."""
        return any(fnmatchcase(index, pattern.replace("[", "[[]").replace("?", "[?]")) for pattern in self.patterns)


def list_templates(cluster: Cluster) -> list[IndexTemplate]:
    """List the composable templates of a cluster; empty if this user may not read them."""
    try:
        answer = cluster.request("GET", "/_index_template")
    except RequestRejected as error:
        if error.status in (401, 403, 404):
            return []
        raise
    return [_parse(found["name"], found["index_template"]) for found in answer["index_templates"]]


def find_template(templates: Iterable[IndexTemplate], index: str) -> IndexTemplate | None:
    """Find the template that an index of this name would be created from."""
    matching = [template for template in templates if template.matches(index)]
    return max(matching, key=lambda template: template.priority, default=None)


def describe_override(winner: IndexTemplate | None, template: str) -> str:
    """Say which template overrides one of ours and what to do.

    Args:
        winner: the other template; None if this user may not read templates.
        template: ours.
    """
    if winner is None:
        what, which = "another index template", "GET _index_template lists them with their priorities"
        return f"{what} of higher priority overrides {template}; lower its priority or narrow its patterns ({which})"
    return (
        f"the index template {winner.name!r} (priority {winner.priority}, patterns {', '.join(winner.patterns)}) "
        f"overrides {template}, since templates are not merged; give it a lower priority than {template}, or patterns "
        "that do not match deepterms-*"
    )


def _parse(name: str, body: Mapping[str, Any]) -> IndexTemplate:
    patterns = body.get("index_patterns", [])
    listed = [patterns] if isinstance(patterns, str) else patterns
    return IndexTemplate(str(name), tuple(map(str, listed)), int(body.get("priority") or 0))
