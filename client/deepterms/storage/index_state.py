"""A name to the index behind it, as the cluster has it now: spec and identity, read together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterError, EncoderMismatch, IndexNotFound, PivotsUnavailable, RequestRejected
from deepterms.schema.index_spec import IndexMeta, IndexSpec, IndexState, name_codewords_alias, read_meta
from deepterms.schema.layouts import CODEWORDS
from deepterms.storage.encoder_loading import load_encoder, remember_encoder

__all__ = ["read_state", "read_uuids"]


def read_state(cluster: Cluster, name: str, *, encoder: Encoder | None = None) -> IndexState:
    """Read what an index is made with; its encoder is rebuilt from its own metadata.

    Args:
        cluster: where.
        name: the alias, or the concrete index.
        encoder: if given, the index must have been made with an equal one.

    Raises:
        InvalidInput: the name is a pattern or a list, or the index holds what this release cannot encode.
        IndexNotFound: there is none.
        EncoderMismatch: it was made with another encoder than the given one.
        PivotsUnavailable: the pivots of its encoder are missing or damaged.
        ClusterError: deepterms did not create it, or the alias covers several indices.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
    """
    answers = _read(cluster, name, "")
    if len(answers) != 1:
        raise ClusterError(
            f"{name!r} points to {len(answers)} indices, {', '.join(sorted(answers))}; expected one. A rollover or an "
            "alias that was added by hand may have made the second; remove the alias from all but one, or open one "
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
            # Migrated, or created again, in between, and the old index is gone.
            return read_state(cluster, name, encoder=encoder)
    if own is not encoder and encoder is not None:
        raise EncoderMismatch(
            f"the index {name!r} holds documents of {own}, not of {encoder}; open it without an encoder and use "
            "index.encoder, or create another index"
        )
    return _state(name, concrete, answer, meta, IndexSpec.from_meta(meta, encoder=own))


def read_uuids(cluster: Cluster, name: str) -> dict[str, str]:
    """The concrete indices behind a name, and the engine's uuid of each.

    Raises:
        IndexNotFound: there is none.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
    """
    return _uuids(_read(cluster, name, "/_settings/index.uuid"))


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
    # An index that was created with curl alone has neither the alias nor a pipeline of its own.
    alias = "" if meta.fingerprint is None else name_codewords_alias(meta.fingerprint)
    return IndexState(
        name,
        spec,
        uuids=_uuids({concrete: answer}),
        shards=int(settings["number_of_shards"]),
        fingerprint=meta.fingerprint if settings.get("default_pipeline") == concrete else None,
        field=alias if alias in answer["mappings"].get("properties", {}) else CODEWORDS,
        migrated_from=meta.migration.get("from"),
    )
