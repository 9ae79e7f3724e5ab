"""Layouts: the ways codewords are stored in an index, each with its resources' names, its limits and its query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput
from deepterms.terms import MAX_TERM_FREQUENCY

__all__ = ["LAYOUTS", "Layout", "layout_named"]

# The engine refuses longer index names (255 bytes), and the concrete name adds a prefix and a generation.
MAX_NAME_BYTES = 200

# What the engines forbid; and %, by which a URL would hide any of them.
_FORBIDDEN = frozenset('\\/*?"<>| ,#:%')


@dataclass(frozen=True)
class Layout:
    """One way to store codewords: an index template and an ingest pipeline of the same name.

    Attributes:
        name: as users write it.
        version: of the released resources; a change of either is a new version.
        engines: engine → the first version that has what the layout needs; an engine that is missing never has it.
        query: the kind of clause that scores one codeword.
        largest_frequency: the largest term frequency of a document that it holds exactly; its pipeline refuses more.
        holds: that limit in words.
        most_words: how many words of surrogate text a document may have; None where none are written.
    """

    name: str
    version: int = 1
    engines: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    query: Literal["term", "rank_feature"] = "term"
    largest_frequency: int = MAX_TERM_FREQUENCY
    holds: str = f"term frequencies up to {MAX_TERM_FREQUENCY}"
    most_words: int | None = None

    @property
    def resource(self) -> str:
        """The name of the index template and of the pipeline that takes terms: ``deepterms-words-v1``."""
        return f"deepterms-{self.name}-v{self.version}"

    @property
    def encode_pipeline(self) -> str:
        """The name of the pipeline that takes raw vectors, and calls `resource`: ``deepterms-encode-words-v1``."""
        return f"deepterms-encode-{self.name}-v{self.version}"

    def clause(self, codeword: str, weight: int) -> dict[str, Any]:
        """The query clause that adds weight × term frequency of one codeword to a document's score."""
        if self.query == "rank_feature":
            # Both engines have it. A term query on this field is quicker to write, but OpenSearch refuses it.
            return {"rank_feature": {"field": f"codewords.{codeword}", "linear": {}, "boost": weight}}
        return {"term": {"codewords": {"value": codeword, "boost": weight}}}

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise InvalidInput if documents of the encoder can be more than the layout holds."""
        if encoder.largest_frequency > self.largest_frequency:
            largest = self.largest_frequency
            holds, gives = self.holds, f"gives term frequencies up to {encoder.largest_frequency}"
            smaller = "binary=True" if largest == 1 else f"a top_k or factor of at most {largest}"
        elif self.most_words is not None and encoder.most_words > self.most_words:
            holds, gives = f"documents of up to {self.most_words:,} words", f"can give {encoder.most_words:,}"
            smaller = "a smaller top_k or factor"
        else:
            return
        others = [layout.name for layout in LAYOUTS if layout._can_hold(encoder)]
        raise InvalidInput(
            f"the layout {self.name!r} holds {holds}; {encoder} {gives}. Take an encoder with {smaller}"
            + (f", or another layout: {', '.join(others)}" if others else "")
        )

    def _can_hold(self, encoder: Encoder) -> bool:
        words = self.most_words is None or encoder.most_words <= self.most_words
        return words and encoder.largest_frequency <= self.largest_frequency

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
            or not name.isprintable()
            or len(name.encode()) > MAX_NAME_BYTES
        ):
            raise InvalidInput(
                f"{name!r} cannot name an index; expected lower case, none of {''.join(sorted(_FORBIDDEN))!r}, "
                f""
                f"nothing unprintable, not starting with '-', '_', '+' or '.', and at most {MAX_NAME_BYTES} bytes"
            )
        return f"{self.resource}-{name}-{generation:06d}"


_BOTH = MappingProxyType({"opensearch": (2, 0), "elasticsearch": (8, 0)})

LAYOUTS: tuple[Layout, ...] = (
    # An index is created with the first that its engine has, so those that hold every encoder's documents come first.
    Layout("frequencies", engines=MappingProxyType({"opensearch": (2, 10)})),
    Layout("words", engines=_BOTH, most_words=400_000),
    Layout(
        "features",
        engines=_BOTH,
        query="rank_feature",
        largest_frequency=512,
        holds="term frequencies up to 512 exactly (rank_features keeps 9 significant bits)",
    ),
    Layout("codewords", engines=_BOTH, largest_frequency=1, holds="each codeword once, without a term frequency"),
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
