"""IndexSpec: everything an index is made with, in one value, and its JSON form in the mapping's ``_meta``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
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

# Candidates to re-rank where neither the index nor its encoder names a number; docs/benchmarks.md has quality and time.
DEFAULT_RERANK = 200

# The member of a document that names the index it was encoded for; the index's own pipeline checks and removes it.
FINGERPRINT = "fingerprint"
_FINGERPRINT_DIGITS = 8


def choose_default_rerank(encoder: object) -> int:
    """How many candidates of an encoder are re-ranked unless the index or the search names another number."""
    return int(getattr(encoder, "default_rerank", DEFAULT_RERANK))


def check_rerank(rerank: int) -> int:
    """The number of candidates to re-rank, if it is one.

    Raises:
        InvalidInput: it is negative.
    """
    if rerank < 0:
        raise InvalidInput(f"rerank is {rerank}; expected 0 (none) or how many candidates to re-rank")
    return rerank


def name_codewords_alias(fingerprint: str) -> str:
    """The field alias by which queries name the codewords of an index with that fingerprint.

    An index of another spec does not map it, so a query that was encoded for this one matches nothing there. It is
    short, as each clause of a query carries it.
    """
    return f"c_{fingerprint}"


def read_meta(answer: Any) -> Any:
    """What stands under ``_meta.deepterms`` of one index's mapping; None if nothing does.

    Args:
        answer: an engine's answer about one index, with ``mappings``.
    """
    for key in ("mappings", "_meta", "deepterms"):
        answer = answer.get(key) if isinstance(answer, Mapping) else None
    return answer


class SpecKeywords(TypedDict, total=False):
    """What `SurrogateIndex.create` is given besides the encoder, by name; it documents them and their defaults."""

    layout: str | None
    store_vectors: StoreVectors
    dense_vector: bool
    sketch: bool | None
    rerank: int | None
    extractor: Mapping[str, Any] | None


class IndexMeta(BaseModel):
    """An `IndexSpec` as JSON, its encoder given by its spec: what an index holds under ``_meta.deepterms``.

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

    @classmethod
    def parse(cls, meta: Any, *, name: str) -> IndexMeta:
        """Read ``_meta.deepterms`` of the index `name`.

        Raises:
            ClusterError: deepterms did not write it, or a newer release did.
        """
        if not isinstance(meta, Mapping) or "encoder" not in meta:
            raise ClusterError(
                f"the index {name!r} names no encoder in its _meta.deepterms: it was not created by deepterms"
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
        """D of its encoder; None if its spec does not say."""
        dimensions = self.encoder.get("pivots", self.encoder).get("dimensions")
        return dimensions if isinstance(dimensions, int) else None

    def describes(self, spec: IndexSpec) -> bool:
        """Whether an index of this metadata is made as that spec says; what it was copied from does not count."""
        ignored = {"migration", FINGERPRINT}
        return self.model_dump(exclude=ignored) == IndexMeta.model_validate(spec.to_meta()).model_dump(exclude=ignored)

    def find_layout(self) -> Layout:
        """The layout, in the version with which the index was made."""
        return replace(find_layout(self.layout), version=self.version)

    def find_vector_type(self) -> VectorType | None:
        """The type in which the index stores vectors; None if it stores none."""
        return parse_vector_type(self.vector_type)


@dataclass(frozen=True, eq=False)
class IndexSpec:
    """What an index is made with. It travels whole: whoever needs one of these facts is given all of them.

    Attributes:
        encoder: turns documents and queries into terms.
        layout: how codewords are stored.
        vector_type: the type in which descriptors are stored; None if they are not.
        dense_vector: whether they are stored in Elasticsearch's own field as well, and compared there.
        sketch: whether their sign bits are stored (binary quantization), by which most candidates are compared.
        rerank: how many candidates of each shard searches re-rank by default; None takes the encoder's number.
        extractor: the spec of what made the descriptors; ``{}`` if unknown.
    """

    encoder: Encoder
    layout: Layout
    vector_type: VectorType | None = "float32"
    dense_vector: bool = False
    sketch: bool = False
    rerank: int | None = None
    extractor: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def choose(cls, engine: Engine, encoder: Encoder, **options: Unpack[SpecKeywords]) -> IndexSpec:
        """The spec of a new index on an engine, from the arguments of `SurrogateIndex.create`.

        Raises:
            InvalidInput: an unknown layout or type of vectors, or parts that do not go together.
            UnsupportedEngine: the engine lacks the layout or the dense_vector.
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
        """The spec of an index that exists.

        Args:
            meta: of the index.
            encoder: rebuilt from ``meta.encoder``.

        Raises:
            InvalidInput: a layout or a type of vectors that this release does not know.
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
        """What the index holds under ``_meta.deepterms``."""
        return {**self._described, FINGERPRINT: self.fingerprint}

    def check(self, engine: Engine) -> None:
        """Check that an engine can hold such an index.

        Raises:
            InvalidInput: the layout cannot hold what the encoder makes, or the dense_vector not the vectors.
            UnsupportedEngine: the engine lacks the layout or the dense_vector.
        """
        if self.rerank is not None:
            check_rerank(self.rerank)
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
        """What candidates are compared by in the cluster; None if no vectors are stored."""
        return DENSE_VECTOR if self.dense_vector else self.vector_type

    @property
    def candidates(self) -> int:
        """How many candidates of each shard a search re-ranks by default."""
        return choose_default_rerank(self.encoder) if self.rerank is None else self.rerank

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that differ between specs: queries and documents carry them to their index."""
        text = json.dumps(self._described, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]

    @property
    def codewords_alias(self) -> str | None:
        """The field alias of an index with this spec; None where the layout's clauses cannot use one."""
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
    """An index as it was when it was read: its spec, and the identity of the concrete indices that had it.

    Searches and writes are judged by the state that they were made for, never by a name that is looked up later.

    Attributes:
        name: the alias, or the concrete index.
        spec: of the index.
        uuids: concrete index → the engine's uuid of it. One that is deleted and created again has another.
        shards: primary shards of all of them.
        fingerprint: that documents carry, since the index's own pipeline checks it; None if it does not.
        field: by which queries name the codewords: an alias that only this spec has, or ``codewords`` itself.
        migrated_from: the concrete index that this one is a copy of; None if it is no copy.
    """

    name: str
    spec: IndexSpec
    uuids: Mapping[str, str]
    shards: int = 1
    fingerprint: str | None = None
    field: str = CODEWORDS
    migrated_from: str | None = None

    @property
    def is_alias(self) -> bool:
        """Whether the name is an alias, so that writes can require it to be one."""
        return self.name not in self.uuids

    @property
    def guards_queries(self) -> bool:
        """Whether a query that was encoded for this index matches nothing in another."""
        return self.field != CODEWORDS

    def is_same_index(self, other: IndexState) -> bool:
        """Whether both were read from the very same concrete indices."""
        return self.uuids == other.uuids and self.spec == other.spec
