"""An index's encoder, rebuilt from what the index says of it and, if it needs any, the pivots beside the index."""

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

# What an encoder makes of its pivots, once, to find the nearest ones quickly, is worth as much as the pivots are.
_IN_USE: WeakValueDictionary[str, Encoder] = WeakValueDictionary()


def load_encoder(cluster: Cluster, concrete: str, spec: Mapping[str, Any]) -> Encoder:
    """The encoder of a concrete index; one that needs pivots is shared by all in this process who use it.

    Args:
        cluster: where the index is.
        concrete: the index.
        spec: what it says of its encoder.

    Raises:
        InvalidInput: the spec is none that this release knows.
        PivotsUnavailable: its pivots are not in the cluster, or damaged, and this machine has not kept them either.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    try:
        return encoder_from_spec(spec)
    except MissingPivots:
        described = spec["pivots"]  # as it should be, or that would have been said
    used = _IN_USE.get(_key(spec))
    if used is not None:
        return used
    pivots = PivotCache().get(described, lambda: read_pivots(cluster, concrete, described))
    encoder = encoder_from_spec(spec, pivots=pivots)
    remember_encoder(encoder)
    return encoder


def remember_encoder(encoder: Encoder) -> None:
    """Let indices that are opened later in this process share an encoder with its pivots."""
    pivots = find_pivots(encoder)
    if pivots is not None:
        PivotCache.hold(pivots)
        _IN_USE[_key(encoder.spec())] = encoder


def _key(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True)
