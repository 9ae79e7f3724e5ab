"""Layouts: the ways codewords are stored in an index, each with its resources' names, its limits and its query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from deepterms.cluster.engine import SUPPORTED, Engine
from deepterms.cluster.index_names import check_new_name
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.terms import MAX_TERM_FREQUENCY

__all__ = ["CODEWORDS", "LAYOUTS", "Layout", "find_layout", "select_default_layout", "select_layout"]

CODEWORDS = "codewords"  # the field


@dataclass(frozen=True)
class Layout:
    """One way to store codewords: an index template and an ingest pipeline of the same name.

    Attributes:
        name: as users write it.
        version: of the released resources; a change of either is a new version.
        engines: engine → the first version that has what the layout needs; an engine that is missing never has it.
        query: the kind of clause that scores one codeword.
        max_term_frequency: the largest term frequency of a document that it holds exactly; its pipeline refuses more.
        holds: that limit in words.
        max_words: how many words of surrogate text a document may have; None where none are written.
    """

    name: str
    version: int = 1
    engines: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    query: Literal["term", "rank_feature"] = "term"
    max_term_frequency: int = MAX_TERM_FREQUENCY
    holds: str = f"term frequencies up to {MAX_TERM_FREQUENCY}"
    max_words: int | None = None

    @property
    def resource(self) -> str:
        """The name of the index template and of the pipeline that takes terms: ``deepterms-words-v1``."""
        return f"deepterms-{self.name}-v{self.version}"

    @property
    def encode_pipeline(self) -> str:
        """The name of the pipeline that takes raw vectors, and calls `resource`: ``deepterms-encode-words-v1``."""
        return f"deepterms-encode-{self.name}-v{self.version}"

    def runs_on(self, engine: Engine) -> bool:
        """Whether that engine can hold an index of this layout."""
        first = self.engines.get(engine.name)
        return first is not None and engine.version[:2] >= first

    def require_engine(self, engine: Engine) -> None:
        """Raise UnsupportedEngine unless that engine can hold an index of this layout."""
        if self.runs_on(engine):
            return
        others = ", ".join(layout.name for layout in LAYOUTS if layout.runs_on(engine))
        if not others:
            raise UnsupportedEngine(f"{engine} is too old; {SUPPORTED}")
        raise UnsupportedEngine(f"{engine} does not have the layout {self.name!r}; it has: {others}")

    def clause(self, codeword: str, weight: int, *, field: str = CODEWORDS) -> dict[str, Any]:
        """The query clause that adds weight × term frequency of one codeword to a document's score.

        Args:
            codeword: ``t17``.
            weight: its term frequency in the query, sent as boost.
            field: that holds the codewords, or an alias of it; ``rank_feature`` clauses cannot use an alias.
        """
        if self.query == "rank_feature":
            # Both engines have it. A term query on this field is quicker to write, but OpenSearch refuses it.
            return {"rank_feature": {"field": f"{CODEWORDS}.{codeword}", "linear": {}, "boost": weight}}
        return {"term": {field: {"value": codeword, "boost": weight}}}

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise InvalidInput if documents of the encoder can be more than the layout holds."""
        if encoder.max_term_frequency > self.max_term_frequency:
            largest = self.max_term_frequency
            holds, gives = self.holds, f"gives term frequencies up to {encoder.max_term_frequency}"
            smaller = "binary=True" if largest == 1 else f"a top_k or factor of at most {largest}"
        elif self.max_words is not None and encoder.max_words > self.max_words:
            holds, gives = f"documents of up to {self.max_words:,} words", f"can give {encoder.max_words:,}"
            smaller = "a smaller top_k or factor"
        else:
            return
        others = [layout.name for layout in LAYOUTS if layout._can_hold(encoder)]
        raise InvalidInput(
            f"the layout {self.name!r} holds {holds}; {encoder} {gives}. Take an encoder with {smaller}"
            + (f", or another layout: {', '.join(others)}" if others else "")
        )

    def _can_hold(self, encoder: Encoder) -> bool:
        words = self.max_words is None or encoder.max_words <= self.max_words
        return words and encoder.max_term_frequency <= self.max_term_frequency

    def index_name(self, name: str, *, generation: int = 1) -> str:
        """The concrete index behind the alias `name`: ``deepterms-words-v1-holidays-000001``.

        Raises:
            InvalidInput: the engines would not take the name.
        """
        check_new_name(name)
        return f"{self.resource}-{name}-{generation:06d}"


_BOTH = MappingProxyType({"opensearch": (2, 0), "elasticsearch": (8, 0)})

LAYOUTS: tuple[Layout, ...] = (
    # An index is created with the first that its engine has, so those that hold every encoder's documents come first.
    Layout("frequencies", engines=MappingProxyType({"opensearch": (2, 10)})),
    Layout("words", engines=_BOTH, max_words=400_000),
    Layout(
        "rank_features",
        engines=_BOTH,
        query="rank_feature",
        max_term_frequency=512,
        holds="term frequencies up to 512 exactly (rank_features keeps 9 significant bits)",
    ),
    Layout("codewords", engines=_BOTH, max_term_frequency=1, holds="each codeword once, without a term frequency"),
)


def find_layout(name: str) -> Layout:
    """The layout of that name.

    Raises:
        InvalidInput: there is none.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise InvalidInput(f"no layout {name!r}; expected one of {', '.join(layout.name for layout in LAYOUTS)}")


def select_default_layout(engine: Engine) -> Layout:
    """The best layout that an engine has for any encoder.

    Raises:
        UnsupportedEngine: it has none.
    """
    for layout in LAYOUTS:
        if layout.runs_on(engine):
            return layout
    raise UnsupportedEngine(f"{engine} is too old; {SUPPORTED}")


def select_layout(engine: Engine, encoder: Encoder) -> Layout:
    """The layout of an index whose creator names none: `codewords` for binary documents, else the default.

    Raises:
        UnsupportedEngine: this engine has none.
    """
    made_for_binary = find_layout("codewords")
    if encoder.max_term_frequency == 1 and made_for_binary.runs_on(engine):
        return made_for_binary
    return select_default_layout(engine)
