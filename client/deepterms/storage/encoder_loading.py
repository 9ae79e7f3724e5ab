"""Encoder loading: rebuilds an index's encoder from the index's metadata and, if necessary, its pivot index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from deepterms.cluster.cluster import Cluster
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.pivots import find_pivots
from deepterms.encoders.spec import encoder_from_spec
from deepterms.errors import MissingPivots
from deepterms.storage.pivot_cache import PivotCache
from deepterms.storage.pivot_index import read_pivots

__all__ = ["load_encoder", "remember_encoder"]

# Encoders are shared, not only pivots: the structure that finds the nearest pivots is as expensive as they are.
_IN_USE: WeakValueDictionary[str, Encoder] = WeakValueDictionary()


def load_encoder(cluster: Cluster, concrete: str, spec: Mapping[str, Any]) -> Encoder:
    """Load the encoder of a concrete index; an encoder with pivots is shared within this process.

    Args:
        cluster: the cluster.
        concrete: the index.
        spec: the encoder's spec, from the index's metadata.

    Raises:
        InvalidInput: this release does not know the spec.
        PivotsUnavailable: the pivots are missing in the cluster or damaged, and are not in the local cache either.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    try:
        return encoder_from_spec(spec)
    except MissingPivots:
        described = spec["pivots"]  # valid, since encoder_from_spec has checked the spec
    used = _IN_USE.get(_build_key(spec))
    if used is not None:
        return used
    pivots = PivotCache().get(described, lambda: read_pivots(cluster, concrete, described))
    encoder = encoder_from_spec(spec, pivots=pivots)
    remember_encoder(encoder)
    return encoder


def remember_encoder(encoder: Encoder) -> None:
    """Share an encoder and its pivots with indices that this process opens later."""
    pivots = find_pivots(encoder)
    if pivots is not None:
        PivotCache.hold(pivots)
        _IN_USE[_build_key(encoder.spec())] = encoder


def _build_key(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True)
