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
from deepterms.schema.dense_vector import check_dense_vector
from deepterms.schema.layouts import CODEWORDS, Layout, find_layout, select_layout
from deepterms.schema.scripts import DENSE_VECTOR, ComparedBy
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
    "choose_default_rerank",
    "name_codewords_alias",
    "read_meta",
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


class SpecKeywords(TypedDict, total=False):
    """Keyword arguments of `SurrogateIndex.create` that belong to the spec; documented there."""

    layout: str | None
    store_vectors: StoreVectors
    dense_vector: bool
    sketch: bool | None
    rerank: int | None
    extractor: Mapping[str, Any] | None


class IndexMeta(BaseModel):
    """An index's metadata, ``_meta.deepterms``: an `IndexSpec` as JSON, with the spec of its encoder.

    Later releases may add keys, which this one ignores.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)

    layout: str
    version: int = Field(ge=1)
    encoder: dict[str, Any]
    vector_type: str | None = Field(default=None, alias="vectors")
    dense_vector: bool = False
    sketch: bool = False
    extractor: dict[str, Any] = Field(default_factory=dict)
    rerank: int | None = Field(default=None, ge=0)
    fingerprint: str | None = None
    migration: dict[str, Any] = Field(default_factory=dict)
    tuning: Any = None

    @classmethod
    def parse(cls, meta: Any, *, name: str) -> IndexMeta:
        """Read ``_meta.deepterms`` of the index `name`.

        Raises:
            ClusterError: deepterms did not write it, or a newer release did.
        """
        if not isinstance(meta, Mapping) or "encoder" not in meta:
            raise ClusterError(f"the index {name!r} has no encoder in _meta.deepterms, so deepterms did not create it")
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
        dense_vector: whether they are also stored in Elasticsearch's vector field, and compared there.
        sketch: whether their sign bits are stored (binary quantization), to compare most candidates by these.
        rerank: how many candidates per shard searches re-rank by default; None for the encoder's number.
        extractor: the spec of the feature extractor; ``{}`` if unknown.
    """

    encoder: Encoder
    layout: Layout
    vector_type: VectorType | None = "float32"
    dense_vector: bool = False
    sketch: bool = False
    rerank: int | None = None
    extractor: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def choose(cls, engine: Engine, encoder: Encoder, **options: Unpack[SpecKeywords]) -> IndexSpec:
        """Choose the spec of a new index on an engine, from the arguments of `SurrogateIndex.create`.

        Raises:
            InvalidInput: a layout or type of vectors is unknown, or options cannot be combined.
            UnsupportedEngine: the engine does not support the layout or dense_vector.
        """
        vector_type = parse_vector_type(options.get("store_vectors", True))
        layout, rerank = options.get("layout"), options.get("rerank")
        spec = cls(
            encoder=encoder,
            layout=select_layout(engine, encoder) if layout is None else find_layout(layout),
            vector_type=vector_type,
            dense_vector=options.get("dense_vector", False),
            sketch=wants_sketch(
                options.get("sketch"),
                dimensions=encoder.dimensions,
                stores_vectors=vector_type is not None,
                rerank=choose_default_rerank(encoder) if rerank is None else rerank,
            ),
            rerank=rerank,
            extractor=dict(options.get("extractor") or {}),
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
            dense_vector=meta.dense_vector,
            sketch=meta.sketch,
            rerank=meta.rerank,
            extractor=meta.extractor,
        )

    def to_meta(self) -> dict[str, Any]:
        """Convert to the content of ``_meta.deepterms``."""
        return {**self._described, FINGERPRINT: self.fingerprint}

    def check(self, engine: Engine) -> None:
        """Check that an engine can store such an index.

        Raises:
            InvalidInput: the layout cannot store the encoder's terms, or the dense_vector cannot store the vectors.
            UnsupportedEngine: the engine does not support the layout or dense_vector.
        """
        if self.rerank is not None:
            check_rerank(self.rerank)
        parse_vector_type(self.vector_type)
        self.layout.require_engine(engine)
        self.layout.check_encoder(self.encoder)
        if self.dense_vector:
            check_dense_vector(engine, dimensions=self.encoder.dimensions, vector_type=self.vector_type)

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
        """The stored form by which the cluster compares candidates; None if no vectors are stored."""
        return DENSE_VECTOR if self.dense_vector else self.vector_type

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
        if self.dense_vector:
            meta["dense_vector"] = True
        if self.sketch:
            meta["sketch"] = True
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
