"""Layouts: the ways codewords are stored in an index, and the names of the resources that belong to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from deepterms.errors import InvalidInput

__all__ = ["LAYOUTS", "Layout", "layout_named"]

# The engine refuses longer index names (255 bytes), and the concrete name adds a prefix and a generation.
MAX_NAME_BYTES = 200

_FORBIDDEN = frozenset('\\/*?"<>| ,#:')


@dataclass(frozen=True)
class Layout:
    """One way to store codewords: an index template and an ingest pipeline of the same name.

    Attributes:
        name: as users write it.
        version: of the released resources; a change of either is a new version.
        engines: engine → the first version that has what the layout needs; an engine that is missing never has it.
    """

    name: str
    version: int = 1
    engines: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def resource(self) -> str:
        """The name of the index template and of the pipeline that takes terms: ``deepterms-words-v1``."""
        return f"deepterms-{self.name}-v{self.version}"

    def index_name(self, name: str, *, generation: int = 1) -> str:
        """The concrete index behind the alias `name`: ``deepterms-words-v1-holidays-000001``.

        Raises:
            InvalidInput: the engines would not take the name.
        """
        if (
            not name
            or name != name.lower()
            or name[0] in "-_+."
            or _FORBIDDEN & set(name)
            or len(name.encode()) > MAX_NAME_BYTES
        ):
            raise InvalidInput(
                f"{name!r} cannot name an index; expected lower case, none of {''.join(sorted(_FORBIDDEN))!r}, "
                f"not starting with '-', '_', '+' or '.', and at most {MAX_NAME_BYTES} bytes"
            )
        return f"{self.resource}-{name}-{generation:06d}"


LAYOUTS: tuple[Layout, ...] = (
    # Best first: an index is created with the first that its engine has.
    Layout("frequencies", engines=MappingProxyType({"opensearch": (2, 10)})),
    Layout("words", engines=MappingProxyType({"opensearch": (2, 0), "elasticsearch": (8, 0)})),
)


def layout_named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        InvalidInput: there is none.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise InvalidInput(f"no layout {name!r}; expected one of {', '.join(layout.name for layout in LAYOUTS)}")
