"""Creation: from options to an index behind a name, also if several clients create it at once, or one was interrupted.

A name appears last, when everything else is ready: whoever can open an index can write to it. Creating its concrete
index claims the name; each further step has the same result whoever takes it, so any client can finish what another
began.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.engine import Engine
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.arrays import Features
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterError, IndexAlreadyExists, IndexNotFound, InvalidInput, RequestRejected
from deepterms.schema.index_spec import (
    FINGERPRINT,
    IndexMeta,
    IndexSpec,
    IndexState,
    SpecKeywords,
    read_meta,
    will_compare_natively,
)
from deepterms.schema.tuning import Tuning
from deepterms.schema.vectors import parse_vector_type
from deepterms.storage.concrete_index import add_alias, complete_concrete, create_concrete, delete_concrete
from deepterms.storage.encoder_loading import load_encoder, remember_encoder
from deepterms.storage.index_state import read_state
from deepterms.tuning.selection import select_encoder

__all__ = ["WantedIndex", "create_index", "describe_differences", "open_or_create_index"]

CREATION_SECONDS = 15  # for which a creator waits for another one before it finishes that one's index
POLL_SECONDS = 0.1
MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class WantedIndex:
    """The arguments of `SurrogateIndex.create` that determine the spec; they are documented there."""

    encoder: Encoder | Literal["auto"] | None = None
    spec: IndexSpec | None = None
    features: Features | None = None
    documents: int | None = None
    recall: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.spec is None and self.encoder is None:
            raise InvalidInput("an index needs an encoder, or the spec of another index; got neither")
        given = (self.encoder, self.features, self.documents, self.recall)
        if self.spec is not None and (any(value is not None for value in given) or self.options):
            raise InvalidInput(
                "got spec together with an encoder or options; spec already holds all of them, so leave them out"
            )

    @property
    def own_encoder(self) -> Encoder | None:
        """The encoder that an existing index must have; None if any will do."""
        if self.spec is not None:
            return self.spec.encoder
        return None if isinstance(self.encoder, str) else self.encoder

    def choose(self, engine: Engine) -> tuple[IndexSpec, Tuning | None]:
        """Choose the spec of a new index, and the settings that its searches start with."""
        if self.spec is not None:
            self.spec.check(engine)
            return self.spec, None
        assert self.encoder is not None
        sketch, rerank = self.options.get("sketch"), self.options.get("rerank")
        vector_type = parse_vector_type(self.options.get("store_vectors", True))
        native = will_compare_natively(engine, **cast(SpecKeywords, self.options))
        picked = select_encoder(
            self.encoder,
            features=self.features,
            documents=self.documents,
            recall=self.recall,
            sketch=sketch,
            stores_vectors=vector_type is not None,
            int8=vector_type == "int8",
            native=native,
        )
        spec = self._choose(
            engine,
            picked.encoder,
            rerank=picked.rerank if rerank is None else rerank,
            sketch=picked.sketch if sketch is None else sketch,
        )
        return spec, picked.tuning if rerank is None else None

    def compare(self, engine: Engine, held: IndexSpec) -> list[str]:
        """Describe each difference between an existing index and what is wanted."""
        if self.spec is not None:
            return describe_differences(held, self.spec)
        rerank = self.options.get("rerank")
        if self.encoder == "auto":  # which pivots it samples depends on the features, so those of the index will do
            sketch = self.options.get("sketch")
            wanted = self._choose(
                engine,
                held.encoder,
                rerank=held.rerank if rerank is None else rerank,
                sketch=held.sketch if sketch is None else sketch,
            )
        else:
            assert isinstance(self.encoder, Encoder)
            wanted = self._choose(engine, self.encoder, rerank=rerank, sketch=self.options.get("sketch"))
        ignored = ("extractor",) if self.options.get("extractor") is None else ()
        return describe_differences(held, wanted, ignored=ignored)

    def _choose(self, engine: Engine, encoder: Encoder, *, rerank: int | None, sketch: bool | None) -> IndexSpec:
        options = {**self.options, "rerank": rerank, "sketch": sketch}
        return IndexSpec.choose(engine, encoder, **cast(SpecKeywords, options))


def describe_differences(held: IndexSpec, wanted: IndexSpec, *, ignored: Collection[str] = ()) -> list[str]:
    """Describe each option in which two specs differ, such as ``layout is 'words', not 'codewords'``."""
    there, asked = held.to_meta(), wanted.to_meta()
    return [
        f"{key} is {there.get(key)!r}, not {asked.get(key)!r}"
        for key in sorted(there.keys() | asked.keys())
        if key != FINGERPRINT and key not in ignored and there.get(key) != asked.get(key)
    ]


def create_index(
    cluster: Cluster, name: str, spec: IndexSpec, *, settings: Mapping[str, Any], tuning: Tuning | None = None
) -> IndexState:
    """Create an index, or finish one with the same spec whose creation was interrupted.

    Raises:
        IndexAlreadyExists: an index or alias has this name.
        ClusterError: another client was interrupted while it created the name with other options.
    """
    if cluster.request("HEAD", build_index_path(name)):
        raise _build_taken(name)
    if not _create(cluster, name, spec, settings=settings, tuning=tuning):
        _await_alias(cluster, name)  # by another client, which may be creating it right now
        _finish(cluster, name, spec.layout.index_name(name), spec=spec)
    remember_encoder(spec.encoder)
    return read_state(cluster, name, encoder=spec.encoder)


def open_or_create_index(
    cluster: Cluster, name: str, wanted: WantedIndex, *, settings: Mapping[str, Any]
) -> IndexState:
    """Open an index, or create it if there is none; several clients may do so at once.

    Raises:
        IndexAlreadyExists: the index has other options.
    """
    spec: IndexSpec | None = None
    tuning: Tuning | None = None
    for _ in range(MAX_ATTEMPTS):
        try:
            state = read_state(cluster, name, encoder=wanted.own_encoder)
        except IndexNotFound:
            pass
        else:
            if differences := wanted.compare(cluster.engine, state.spec):
                raise IndexAlreadyExists(
                    f"the index {name!r} exists with other options: {'; '.join(differences)}. Open it with "
                    "SurrogateIndex.open, migrate it, or choose another name"
                )
            _restore_pipeline(cluster, state)
            return state
        if spec is None:
            spec, tuning = wanted.choose(cluster.engine)
            remember_encoder(spec.encoder)
        try:
            # Another client's index is not waited for: each step that is left may be taken twice.
            if not _create(cluster, name, spec, settings=settings, tuning=tuning):
                _finish(cluster, name, spec.layout.index_name(name))
        except (IndexAlreadyExists, IndexNotFound):
            continue
    raise ClusterError(f"other clients kept creating and deleting {name!r} meanwhile; try again")


def _restore_pipeline(cluster: Cluster, state: IndexState) -> None:
    """Put the index's own pipeline again if somebody has deleted it."""
    (concrete,) = state.uuids
    if state.fingerprint is None:
        return
    try:
        cluster.request("GET", f"/_ingest/pipeline/{concrete}")
    except RequestRejected as error:
        if error.status == 404:
            complete_concrete(cluster, concrete, state.spec)
        elif error.status not in (401, 403):
            raise


def _create(
    cluster: Cluster, name: str, spec: IndexSpec, *, settings: Mapping[str, Any], tuning: Tuning | None
) -> bool:
    """Create an index with its name; False if another client has created its concrete index first."""
    concrete = spec.layout.index_name(name)
    try:
        create_concrete(cluster, concrete, spec=spec, settings=settings, tuning=tuning)
    except RequestRejected as error:
        if "resource_already_exists" not in str(error):
            raise
        return False
    try:
        _publish(cluster, name, concrete)
    except (RequestRejected, IndexAlreadyExists):
        delete_concrete(cluster, concrete)
        raise
    return True


def _publish(cluster: Cluster, name: str, concrete: str) -> None:
    """Add the name of an index that is complete; raises IndexAlreadyExists if another index has it."""
    try:
        add_alias(cluster, concrete, name)
    except RequestRejected as error:
        if not cluster.request("HEAD", build_index_path(name)):
            raise
        raise _build_taken(name) from error


def _finish(cluster: Cluster, name: str, concrete: str, *, spec: IndexSpec | None = None) -> None:
    """Take the last steps of a creation that another client began.

    Args:
        cluster: the cluster.
        name: the name.
        concrete: the index that the other client created.
        spec: the spec that the index must have; None accepts any.

    Raises:
        ClusterError: the index has another spec, or contains documents, so its name was removed later.
    """
    answer = cluster.request("GET", build_index_path(concrete))[concrete]
    if name in answer["aliases"]:
        return
    meta = IndexMeta.parse(read_meta(answer), name=concrete)
    same = spec is not None and meta.encoder == spec.encoder.spec()
    held = IndexSpec.from_meta(
        meta, encoder=spec.encoder if same and spec is not None else load_encoder(cluster, concrete, meta.encoder)
    )
    if spec is not None and (differences := describe_differences(held, spec)):
        raise ClusterError(
            f"another client began to create {name!r} with other options and has not finished after "
            f"{CREATION_SECONDS} s: {'; '.join(differences)}. If it was interrupted, delete what it left with "
            f"SurrogateIndex.drop_name(client, {name!r})"
        )
    if _count(cluster, concrete):
        raise ClusterError(
            f"{concrete} contains documents, but no alias points to it. Point {name!r} to it, or delete it with "
            f"SurrogateIndex.drop_name(client, {name!r})"
        )
    complete_concrete(cluster, concrete, held)
    _publish(cluster, name, concrete)


def _count(cluster: Cluster, concrete: str) -> int:
    """Count the documents of an index, whose shards may just be starting."""
    deadline = time.monotonic() + CREATION_SECONDS
    while True:
        try:
            return cluster.count(concrete)
        except ClusterError as error:
            if getattr(error, "status", 503) != 503 or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _await_alias(cluster: Cluster, name: str) -> None:
    """Wait some seconds for another client to add the alias of an index.

    Raises:
        IndexAlreadyExists: it did.
    """
    deadline = time.monotonic() + CREATION_SECONDS
    while time.monotonic() < deadline:
        if cluster.request("HEAD", build_index_path(name)):
            raise _build_taken(name)
        time.sleep(POLL_SECONDS)


def _build_taken(name: str) -> IndexAlreadyExists:
    return IndexAlreadyExists(
        f"an index or alias {name!r} already exists; open it with SurrogateIndex.open, or choose another name"
    )
