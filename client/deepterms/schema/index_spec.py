"""IndexSpec: the immutable description of an index, and its JSON form in the mapping's ``_meta``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepterms.cluster.engine import Engine
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.spec import explain_errors
from deepterms.errors import ClusterError, InvalidInput
from deepterms.schema.layouts import CODEWORDS, Layout, find_layout, select_layout
from deepterms.schema.metadata_schema import parse_analysis, parse_schema
from deepterms.schema.native_vectors import (
    NATIVE,
    Compare,
    check_native,
    is_native_possible,
    parse_compare,
    supports_native,
)
from deepterms.schema.scripts import ComparedBy
from deepterms.schema.sketches import wants_sketch
from deepterms.schema.tuning import Tuning
from deepterms.schema.vectors import StoreVectors, VectorType, parse_vector_type

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "DEFAULT_RERANK",
    "FINGERPRINT",
    "IndexMeta",
    "IndexSpec",
    "IndexState",
    "SpecKeywords",
    "check_rerank",
    "choose_comparison",
    "choose_default_rerank",
    "name_codewords_alias",
    "read_meta",
    "will_compare_natively",
]

# Candidates to re-rank if neither index nor encoder set a number; docs/benchmarks.md has quality and latency.
DEFAULT_RERANK = 200

# The document field with the fingerprint of the index it was encoded for; the index's pipeline checks and removes it.
FINGERPRINT = "fingerprint"
_FINGERPRINT_DIGITS = 8


def choose_default_rerank(encoder: object) -> int:
    """Choose how many candidates to re-rank with an encoder if neither the index nor the search sets a number."""
    return int(getattr(encoder, "default_rerank", DEFAULT_RERANK))


def check_rerank(rerank: int) -> int:
    """Return the number of candidates to re-rank, after checking it.

    Raises:
        InvalidInput: it is negative.
    """
    if rerank < 0:
        raise InvalidInput(f"rerank is {rerank}; expected 0 (none) or the number of candidates to re-rank")
    return rerank


def name_codewords_alias(fingerprint: str) -> str:
    """Name the field alias through which queries search the codewords of an index with this fingerprint.

    An index with another spec does not have the alias, so a query that was encoded for this one matches nothing there.
    The name is short, since every clause of a query repeats it.
    """
    return f"c_{fingerprint}"


def read_meta(answer: Any) -> Any:
    """Read ``_meta.deepterms`` of an index's mapping; None if it is missing.

    Args:
        answer: an engine's response about one index, with ``mappings``.
    """
    for key in ("mappings", "_meta", "deepterms"):
        answer = answer.get(key) if isinstance(answer, Mapping) else None
    return answer


def choose_comparison(
    compare: Compare | None,
    store_vectors: StoreVectors,
    *,
    engine: Engine | None,
    encoder: Encoder,
    layout: Layout,
    reranks: bool,
    sketch: bool | None,
) -> tuple[Compare, VectorType | None]:
    """Choose what compares vectors, and the type in which they are stored.

    Args:
        compare: the user's choice; None for native comparison where it is possible and nothing else was asked for.
        store_vectors: the user's choice of the type; ``True`` leaves it to the comparison.
        engine: the engine; None if the index is in memory.
        encoder: encoder of the index.
        layout: layout of the index.
        reranks: whether searches compare vectors by default.
        sketch: the user's choice of sketches, which only scripts use.

    Raises:
        InvalidInput: one of the choices is unknown.
    """
    asked = parse_compare(compare)
    scripted = parse_vector_type(store_vectors)
    native: VectorType | None = "int8" if store_vectors is True else scripted
    if (
        asked is None
        and reranks
        and not sketch
        and is_native_possible(engine, encoder, layout=layout, vector_type=native)
    ):
        asked = NATIVE
    return (NATIVE, native) if asked == NATIVE else ("script", scripted)


def will_compare_natively(engine: Engine, **options: Unpack[SpecKeywords]) -> bool:
    """Whether an index with these options and a binary pivot encoder, such as ``auto`` chooses, compares natively."""
    if parse_compare(options.get("compare")) == "script" or options.get("layout") not in (None, "codewords"):
        return False
    asked = options.get("store_vectors", True)
    stored = asked is True or parse_vector_type(asked) == "int8"
    reranks = options.get("rerank") != 0 and not options.get("sketch")
    return stored and reranks and supports_native(engine)


class SpecKeywords(TypedDict, total=False):
    """Keyword arguments of `SurrogateIndex.create` that belong to the spec; documented there."""

    layout: str | None
    store_vectors: StoreVectors
    compare: Compare | None
    sketch: bool | None
    rerank: int | None
    extractor: Mapping[str, Any] | None
    schema: Mapping[str, Any] | None
    analysis: Mapping[str, Any] | None


class IndexMeta(BaseModel):
    """An index's metadata, ``_meta.deepterms``: an `IndexSpec` as JSON, with the spec of its encoder.

    Later releases may add keys, which this one ignores.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)

    layout: str
    version: int = Field(ge=1)
    encoder: dict[str, Any]
    vector_type: str | None = Field(default=None, alias="vectors")
    compare: Compare = "script"
    sketch: bool = False
    extractor: dict[str, Any] = Field(default_factory=dict)
    rerank: int | None = Field(default=None, ge=0)
    fingerprint: str | None = None
    migration: dict[str, Any] = Field(default_factory=dict)
    declared: dict[str, Any] = Field(default_factory=dict, alias="schema")
    analysis: dict[str, Any] = Field(default_factory=dict)
    tuning: Any = None

    @classmethod
    def parse(cls, meta: Any, *, name: str) -> IndexMeta:
        """Read ``_meta.deepterms`` of the index `name`.

        Raises:
            ClusterError: deepterms did not write it, or a newer release did.
        """
        if not isinstance(meta, Mapping) or "encoder" not in meta:
            raise ClusterError(f"the index {name!r} has no encoder in _meta.deepterms, so deepterms did not create it")
        if meta.get("dense_vector"):
            raise ClusterError(
                f"the index {name!r} was created with the option dense_vector of an unreleased version, which "
                "compare='native' replaces; create the index again"
            )
        try:
            return cls.model_validate(dict(meta))
        except ValidationError as error:
            raise ClusterError(
                f"_meta.deepterms of the index {name!r} cannot be read by this release: "
                f"{explain_errors(error, whole='_meta.deepterms')}. "
                "A newer deepterms may have created the index; upgrade, or create the index again"
            ) from error

    @property
    def dimensions(self) -> int | None:
        """D of its encoder; None if the encoder's spec does not contain it."""
        dimensions = self.encoder.get("pivots", self.encoder).get("dimensions")
        return dimensions if isinstance(dimensions, int) else None

    def describes(self, spec: IndexSpec) -> bool:
        """Whether this is the metadata of an index with that spec, whatever it was copied from."""
        ignored = {"migration", "tuning", FINGERPRINT}
        return self.model_dump(exclude=ignored) == IndexMeta.model_validate(spec.to_meta()).model_dump(exclude=ignored)

    def find_layout(self) -> Layout:
        """Return the layout, in the version with which the index was created."""
        return replace(find_layout(self.layout), version=self.version)

    def find_vector_type(self) -> VectorType | None:
        """Return the type in which the index stores vectors; None if it stores none."""
        return parse_vector_type(self.vector_type)


@dataclass(frozen=True, eq=False)
class IndexSpec:
    """The description of an index. It is always passed as a whole, rather than one option at a time.

    Attributes:
        encoder: turns documents and queries into terms.
        layout: how codewords are stored.
        vector_type: the type in which descriptors are stored; None if they are not.
        compare: what compares them: ``native``, Elasticsearch's vector field; or a ``script``.
        sketch: whether their sign bits are stored (binary quantization), to compare most candidates by these.
        rerank: how many candidates per shard searches re-rank by default; None for the encoder's number.
        extractor: the spec of the feature extractor; ``{}`` if unknown.
        schema: the declared metadata fields, as fields of a mapping; `parse_schema` makes them.
        analysis: the analysis settings that these fields name.
    """

    encoder: Encoder
    layout: Layout
    vector_type: VectorType | None = "float32"
    compare: Compare = "script"
    sketch: bool = False
    rerank: int | None = None
    extractor: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] = field(default_factory=dict)
    analysis: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def choose(cls, engine: Engine, encoder: Encoder, **options: Unpack[SpecKeywords]) -> IndexSpec:
        """Choose the spec of a new index on an engine, from the arguments of `SurrogateIndex.create`.

        Raises:
            InvalidInput: a layout or type of vectors is unknown, or options cannot be combined.
            UnsupportedEngine: the engine does not support the layout or native comparison.
        """
        layout, rerank = options.get("layout"), options.get("rerank")
        chosen = select_layout(engine, encoder) if layout is None else find_layout(layout)
        candidates = choose_default_rerank(encoder) if rerank is None else rerank
        compare, vector_type = choose_comparison(
            options.get("compare"),
            options.get("store_vectors", True),
            engine=engine,
            encoder=encoder,
            layout=chosen,
            reranks=candidates > 0,
            sketch=options.get("sketch"),
        )
        spec = cls(
            encoder=encoder,
            layout=chosen,
            vector_type=vector_type,
            compare=compare,
            sketch=wants_sketch(
                options.get("sketch"),
                dimensions=encoder.dimensions,
                stores_vectors=vector_type is not None,
                rerank=candidates,
                native=compare == NATIVE,
            ),
            rerank=rerank,
            extractor=dict(options.get("extractor") or {}),
            schema=parse_schema(options.get("schema")),
            analysis=parse_analysis(options.get("analysis")),
        )
        spec.check(engine)
        return spec

    @classmethod
    def from_meta(cls, meta: IndexMeta, *, encoder: Encoder) -> IndexSpec:
        """Build the spec of an existing index.

        Args:
            meta: the metadata of the index.
            encoder: rebuilt from ``meta.encoder``.

        Raises:
            InvalidInput: this release does not know the layout or the type of vectors.
        """
        return cls(
            encoder=encoder,
            layout=meta.find_layout(),
            vector_type=meta.find_vector_type(),
            compare=meta.compare,
            sketch=meta.sketch,
            rerank=meta.rerank,
            extractor=meta.extractor,
            schema=meta.declared,
            analysis=meta.analysis,
        )

    def to_meta(self) -> dict[str, Any]:
        """Convert to the content of ``_meta.deepterms``."""
        return {**self._described, FINGERPRINT: self.fingerprint}

    def check(self, engine: Engine) -> None:
        """Check that an engine can store such an index.

        Raises:
            InvalidInput: the layout cannot store the encoder's terms, or vectors cannot be compared natively.
            UnsupportedEngine: the engine does not support the layout or native comparison.
        """
        if self.rerank is not None:
            check_rerank(self.rerank)
        parse_vector_type(self.vector_type)
        self.layout.require_engine(engine)
        self.layout.check_encoder(self.encoder)
        if self.is_native:
            check_native(engine, self.encoder, layout=self.layout, vector_type=self.vector_type)
            wants_sketch(self.sketch, dimensions=0, stores_vectors=True, rerank=0, native=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexSpec) and self._described == other._described

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def stores_vectors(self) -> bool:
        """Whether descriptors are stored."""
        return self.vector_type is not None

    @property
    def compared_by(self) -> ComparedBy | None:
        """The stored form by which the cluster compares documents; None if no vectors are stored."""
        return NATIVE if self.is_native else self.vector_type

    @property
    def is_native(self) -> bool:
        """Whether the engine itself compares the vectors of all documents that share a codeword with the query."""
        return self.compare == NATIVE

    @property
    def candidates(self) -> int:
        """How many candidates per shard a search re-ranks by default."""
        return choose_default_rerank(self.encoder) if self.rerank is None else self.rerank

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the spec, eight hexadecimal digits, by which an index recognises its queries and documents."""
        text = json.dumps(self._described, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]

    @property
    def codewords_alias(self) -> str | None:
        """The field alias of an index with this spec; None if the layout's query clauses cannot use an alias."""
        return None if self.layout.query == "rank_feature" else name_codewords_alias(self.fingerprint)

    @cached_property
    def _described(self) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "layout": self.layout.name,
            "version": self.layout.version,
            "encoder": self.encoder.spec(),
            "vectors": self.vector_type,
            "extractor": dict(self.extractor),
        }
        if self.rerank is not None:
            meta["rerank"] = self.rerank
        if self.is_native:
            meta["compare"] = NATIVE
        if self.sketch:
            meta["sketch"] = True
        if self.schema:
            meta["schema"] = dict(self.schema)
        if self.analysis:
            meta["analysis"] = dict(self.analysis)
        return meta


@dataclass(frozen=True)
class IndexState:
    """A snapshot of an index: its spec, and the identity of the concrete index behind its name.

    A search or write is validated against the state that it was encoded for, never against a name resolved later.

    Attributes:
        name: the alias, or the concrete index.
        spec: the spec of the index.
        uuids: concrete index → its UUID in the engine, which changes if the index is deleted and created again.
        shards: the number of primary shards.
        fingerprint: sent with documents, for the index's pipeline to check; None if it does not check it.
        field: the field that queries search: an alias that only indices with this spec have, or ``codewords`` itself.
        migrated_from: name and UUID of the concrete index from which this one was copied; None if it is not a copy,
            and an empty UUID if an earlier release copied it.
        tuning: the settings that were measured for searches; None if none were.
    """

    name: str
    spec: IndexSpec
    uuids: Mapping[str, str]
    shards: int = 1
    fingerprint: str | None = None
    field: str = CODEWORDS
    migrated_from: tuple[str, str] | None = None
    tuning: Tuning | None = None

    @property
    def is_alias(self) -> bool:
        """Whether the name is an alias, so that writes can require it to be one."""
        return self.name not in self.uuids

    @property
    def guards_queries(self) -> bool:
        """Whether a query that was encoded for this index matches nothing in another."""
        return self.field != CODEWORDS

    def descends_from(self, other: IndexState) -> bool:
        """Whether this index is a copy of the other, made by a migration."""
        if self.migrated_from is None:
            return False
        concrete, uuid = self.migrated_from
        return other.uuids.get(concrete) in ({uuid} if uuid else {*other.uuids.values()})

    def is_same_index(self, other: IndexState) -> bool:
        """Whether both states describe the same concrete index."""
        return self.uuids == other.uuids and self.spec == other.spec
