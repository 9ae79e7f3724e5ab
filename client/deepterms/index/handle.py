"""IndexHandle: an index by its name, and what was last read of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterUnreachable, IndexNotFound, RequestRejected
from deepterms.schema.index_spec import IndexSpec, IndexState
from deepterms.schema.layouts import Layout
from deepterms.schema.vectors import VectorType
from deepterms.search.filter_counts import FilterCounts
from deepterms.storage.index_state import read_state, read_uuids

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MAX_REOPENINGS", "IndexHandle", "confirm_state", "read_again"]

# How often one call follows an index that is migrated, or deleted and created again, while the call runs.
MAX_REOPENINGS = 3

logger = logging.getLogger("deepterms")


class IndexHandle:
    """An index by its name; `SurrogateIndex` documents the attributes.

    Threads may share it. The state is one value that is replaced as a whole; each call works with the one it began
    with, and is judged by that.

    Args:
        cluster: where the index is.
        state: of the index.
    """

    def __init__(self, cluster: Cluster, state: IndexState) -> None:
        self.cluster = cluster
        self.state = state
        self._path = build_index_path(state.name)
        self.counts = FilterCounts(cluster, state.name)
        self.pinned: IndexState | None = None  # in which documents are pinned to the concrete index; see `ingest.send`

    def __repr__(self) -> str:
        stored = f"with {self.vector_type} vectors" if self.vector_type else "without vectors"
        return f"{type(self).__name__}({self.name!r}, {self.encoder}, layout {self.layout.name}, {stored})"

    @property
    def name(self) -> str:
        """The alias, or the concrete index."""
        return self.state.name

    @property
    def spec(self) -> IndexSpec:
        """Everything the index is made with."""
        return self.state.spec

    @property
    def encoder(self) -> Encoder:
        """The rule from descriptors to terms; documents and queries share it."""
        return self.state.spec.encoder

    @property
    def layout(self) -> Layout:
        """How codewords are stored."""
        return self.state.spec.layout

    @property
    def vector_type(self) -> VectorType | None:
        """The type in which descriptors are stored; None if they are not."""
        return self.state.spec.vector_type

    @property
    def stores_vectors(self) -> bool:
        """Whether descriptors are stored."""
        return self.state.spec.stores_vectors

    @property
    def dense_vector(self) -> bool:
        """Whether they are stored in Elasticsearch's own field as well."""
        return self.state.spec.dense_vector

    @property
    def sketch(self) -> bool:
        """Whether their sign bits are stored in a field of their own."""
        return self.state.spec.sketch

    @property
    def rerank(self) -> int:
        """How many candidates of each shard its searches re-rank by default."""
        return self.state.spec.candidates

    @property
    def extractor(self) -> Mapping[str, Any]:
        """The spec of what made the descriptors; ``{}`` if unknown."""
        return self.state.spec.extractor

    @property
    def concrete(self) -> frozenset[str]:
        """The concrete index behind the name, as it was last read."""
        return frozenset(self.state.uuids)

    @classmethod
    def open(cls, client: Any, name: str, *, encoder: Encoder | None = None) -> Self:
        """Open an index that exists; its encoder is rebuilt from the index itself.

        Pivots are read from the cluster once, and kept in a file of this user's cache folder ($DEEPTERMS_CACHE) and,
        as long as they are used, in this process.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: the alias, or the concrete index.
            encoder: if given, the index must have been made with an equal one.

        Raises:
            InvalidInput: the name is a pattern or a list; or the index holds what this release cannot encode.
            IndexNotFound: there is none.
            EncoderMismatch: it was made with another encoder than the given one.
            PivotsUnavailable: its encoder needs pivots, and they are missing from the cluster, or damaged.
            ClusterError: deepterms did not create it, or the name points to several indices.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
        """
        cluster = Cluster(client)
        return cls(cluster, read_state(cluster, name, encoder=encoder))

    def reopen(self) -> bool:
        """Read the index again; whether the name points to another index now.

        Raises:
            IndexNotFound: it is gone.
            ClusterError: as for `open`.
        """
        before = self.state
        return not read_again(self).is_same_index(before)


def read_again(handle: IndexHandle) -> IndexState:
    """Read the state of an index as the cluster has it now, and let later calls use it.

    Raises:
        IndexNotFound: it is gone.
        ClusterError: as for `IndexHandle.open`.
    """
    before, now = handle.state, read_state(handle.cluster, handle.name)
    handle.state = now
    handle.counts.forget()
    if now.uuids != before.uuids:
        logger.info("%s points to %s now, no longer to %s", handle.name, _describe(now), _describe(before))
    return now


def confirm_state(handle: IndexHandle) -> IndexState:
    """The state of an index, read again if the name has come to point to another index.

    A cluster that does not answer this now leaves the state as it is: what follows will find out.

    Raises:
        IndexNotFound: it is gone.
        ClusterError: as for `IndexHandle.open`.
    """
    state = handle.state
    try:
        same = read_uuids(handle.cluster, handle.name) == state.uuids
    except IndexNotFound:
        raise
    except (ClusterUnreachable, RequestRejected):
        return state
    return state if same else read_again(handle)


def _describe(state: IndexState) -> str:
    return ", ".join(f"{concrete} ({uuid})" for concrete, uuid in state.uuids.items())
