"""Index state: resolves a name to the current spec and identity of the index behind it, read together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterError, EncoderMismatch, IndexNotFound, PivotsUnavailable, RequestRejected
from deepterms.schema.index_spec import IndexMeta, IndexSpec, IndexState, name_codewords_alias, read_meta
from deepterms.schema.layouts import CODEWORDS
from deepterms.schema.tuning import Tuning
from deepterms.storage.encoder_loading import load_encoder, remember_encoder

__all__ = ["is_ancestor", "read_state", "read_uuids"]


def read_state(cluster: Cluster, name: str, *, encoder: Encoder | None = None) -> IndexState:
    """Read the state of an index, and rebuild its encoder from its metadata.

    Args:
        cluster: the cluster.
        name: the alias, or the concrete index.
        encoder: if not None, the index must have been created with an equal encoder.

    Raises:
        InvalidInput: the name is a pattern or a list, or this release does not know the index's encoder or layout.
        IndexNotFound: there is no such index.
        EncoderMismatch: the index was created with another encoder.
        PivotsUnavailable: the pivots of its encoder are missing or damaged.
        ClusterError: deepterms did not create it, or the alias points to several indices.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    answers = _read(cluster, name, "")
    if len(answers) != 1:
        raise ClusterError(
            f"{name!r} points to {len(answers)} indices, {', '.join(sorted(answers))}; expected one. A rollover may "
            "have created the second, or the alias was added manually; remove the alias from all but one, or open one "
            "of them by its own name"
        )
    ((concrete, answer),) = answers.items()
    meta = IndexMeta.parse(read_meta(answer), name=name)
    if encoder is not None and encoder.spec() == meta.encoder:
        own = encoder
        remember_encoder(encoder)
    else:
        try:
            own = load_encoder(cluster, concrete, meta.encoder)
        except PivotsUnavailable:
            if _uuids(_read(cluster, name, "")) == _uuids(answers):
                raise
            # Meanwhile, the index was migrated or created again, and the old one deleted.
            return read_state(cluster, name, encoder=encoder)
    if own is not encoder and encoder is not None:
        raise EncoderMismatch(
            f"the index {name!r} was created with {own}; got {encoder}. Open it without an encoder and use "
            "index.encoder, or create another index"
        )
    return _state(name, concrete, answer, meta, IndexSpec.from_meta(meta, encoder=own))


def read_uuids(cluster: Cluster, name: str) -> dict[str, str]:
    """Read the UUID of each concrete index behind a name.

    Raises:
        IndexNotFound: there is no such index.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    return _uuids(_read(cluster, name, "/_settings/index.uuid"))


def is_ancestor(cluster: Cluster, state: IndexState, concrete: str, uuid: str) -> bool:
    """Whether an index is that of a state, or one from which migrations have copied it, step by step.

    Args:
        cluster: the cluster.
        state: the state of the index.
        concrete: name of the concrete index in question.
        uuid: its UUID.

    Raises:
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    if state.uuids.get(concrete) == uuid:
        return True
    origin, seen = state.migrated_from, set[str]()
    while origin is not None and origin[0] not in seen:
        if origin[0] == concrete and origin[1] in (uuid, ""):
            return True
        seen.add(origin[0])
        try:
            answer = _read(cluster, origin[0], "").get(origin[0])
        except IndexNotFound:
            return False  # what it was copied from is unknown
        origin = None if answer is None else _read_origin(IndexMeta.parse(read_meta(answer), name=origin[0]))
    return False


def _read_origin(meta: IndexMeta) -> tuple[str, str] | None:
    origin = meta.migration.get("from")
    return None if origin is None else (str(origin), str(meta.migration.get("uuid", "")))


def _read(cluster: Cluster, name: str, endpoint: str) -> dict[str, Any]:
    try:
        return dict(cluster.request("GET", build_index_path(name, endpoint)))
    except RequestRejected as error:
        if error.status != 404:
            raise
        raise IndexNotFound(f"no index {name!r} in the cluster; create it with SurrogateIndex.create") from error


def _uuids(answers: Mapping[str, Any]) -> dict[str, str]:
    return {concrete: str(answer["settings"]["index"]["uuid"]) for concrete, answer in answers.items()}


def _state(name: str, concrete: str, answer: Mapping[str, Any], meta: IndexMeta, spec: IndexSpec) -> IndexState:
    settings = answer["settings"]["index"]
    # An index that was created with curl has neither the alias nor its own pipeline.
    alias = "" if meta.fingerprint is None else name_codewords_alias(meta.fingerprint)
    return IndexState(
        name,
        spec,
        uuids=_uuids({concrete: answer}),
        shards=int(settings["number_of_shards"]),
        fingerprint=meta.fingerprint if settings.get("default_pipeline") == concrete else None,
        field=alias if alias in answer["mappings"].get("properties", {}) else CODEWORDS,
        migrated_from=_read_origin(meta),
        tuning=Tuning.parse(meta.tuning),
    )
