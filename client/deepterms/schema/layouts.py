"""Layouts: the ways to store codewords in an index, each with its template and pipelines, limits and query clause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        name: the name that users pass.
        version: version of the released template and pipelines; a change of any of them is a new version.
        engines: engine → the first version that supports the layout; engines that are not listed do not support it.
        query: the kind of clause that scores one codeword.
        max_term_frequency: the largest term frequency it stores exactly; its pipeline rejects larger ones.
        holds: that limit in words, for messages.
        max_words: how many words of surrogate text a document may have; None if the layout writes no text.
    """

    name: str
    version: int = 1
    engines: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    query: Literal["term", "rank_feature"] = "term"
    max_term_frequency: int = MAX_TERM_FREQUENCY
    holds: str = f"term frequencies up to {MAX_TERM_FREQUENCY}"
    max_words: int | None = None

    @property
    def resource(self) -> str:
        """The name of the index template and of the pipeline for terms, such as ``deepterms-words-v1``."""
        return f"deepterms-{self.name}-v{self.version}"

    @property
    def encode_pipeline(self) -> str:
        """The name of the pipeline for raw vectors, which calls `resource`, such as ``deepterms-encode-words-v1``."""
        return f"deepterms-encode-{self.name}-v{self.version}"

    def runs_on(self, engine: Engine) -> bool:
        """Whether an engine supports this layout."""
        first = self.engines.get(engine.name)
        return first is not None and engine.version[:2] >= first

    def require_engine(self, engine: Engine) -> None:
        """Raise UnsupportedEngine unless an engine supports this layout."""
        if self.runs_on(engine):
            return
        others = ", ".join(layout.name for layout in LAYOUTS if layout.runs_on(engine))
        if not others:
            raise UnsupportedEngine(f"{engine} is too old; {SUPPORTED}")
        raise UnsupportedEngine(f"{engine} does not have the layout {self.name!r}; it has: {others}")

    def clause(self, codeword: str, weight: int, *, field: str = CODEWORDS) -> dict[str, Any]:
        """Build the query clause that adds weight × term frequency of one codeword to a document's score.

        Args:
            codeword: the codeword, such as ``t17``.
            weight: its term frequency in the query, sent as boost.
            field: the field of the codewords, or an alias; ``rank_feature`` clauses cannot use an alias.
        """
        if self.query == "rank_feature":
            # Supported by both engines. A term query on this field would be shorter, but OpenSearch rejects it.
            return {"rank_feature": {"field": f"{CODEWORDS}.{codeword}", "linear": {}, "boost": weight}}
        return {"term": {field: {"value": codeword, "boost": weight}}}

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise InvalidInput if documents of an encoder can exceed the layout's limits."""
        if encoder.max_term_frequency > self.max_term_frequency:
            largest = self.max_term_frequency
            holds, gives = self.holds, f"produces term frequencies up to {encoder.max_term_frequency}"
            smaller = "binary=True" if largest == 1 else f"a top_k or factor of at most {largest}"
        elif self.max_words is not None and encoder.max_words > self.max_words:
            holds, gives = f"documents of up to {self.max_words:,} words", f"can produce {encoder.max_words:,}"
            smaller = "a smaller top_k or factor"
        else:
            return
        others = [layout.name for layout in LAYOUTS if layout._can_hold(encoder)]
        raise InvalidInput(
            f"the layout {self.name!r} stores {holds}, but {encoder} {gives}. Use an encoder with {smaller}"
            + (f", or another layout: {', '.join(others)}" if others else "")
        )

    def _can_hold(self, encoder: Encoder) -> bool:
        words = self.max_words is None or encoder.max_words <= self.max_words
        return words and encoder.max_term_frequency <= self.max_term_frequency

    def index_name(self, name: str, *, generation: int = 1) -> str:
        """Name the concrete index behind the alias `name`, such as ``deepterms-words-v1-holidays-000001``.

        Raises:
            InvalidInput: the engines would reject the name.
        """
        check_new_name(name)
        return f"{self.resource}-{name}-{generation:06d}"


_BOTH = {"opensearch": (2, 0), "elasticsearch": (8, 0)}

LAYOUTS: tuple[Layout, ...] = (
    # The first layout that the engine supports is the default, so layouts that can store any document come first.
    Layout("frequencies", engines={"opensearch": (2, 10)}),
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
    """Find a layout by name.

    Raises:
        InvalidInput: there is no such layout.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise InvalidInput(f"no layout {name!r}; expected one of {', '.join(layout.name for layout in LAYOUTS)}")


def select_default_layout(engine: Engine) -> Layout:
    """Select the best layout of an engine that suits any encoder.

    Raises:
        UnsupportedEngine: the engine supports none.
    """
    for layout in LAYOUTS:
        if layout.runs_on(engine):
            return layout
    raise UnsupportedEngine(f"{engine} is too old; {SUPPORTED}")


def select_layout(engine: Engine, encoder: Encoder) -> Layout:
    """Select the layout of an index if the user names none: `codewords` for binary documents, else the default.

    Raises:
        UnsupportedEngine: the engine supports none.
    """
    made_for_binary = find_layout("codewords")
    if encoder.max_term_frequency == 1 and made_for_binary.runs_on(engine):
        return made_for_binary
    return select_default_layout(engine)
