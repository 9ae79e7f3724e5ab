"""IndexHandle: the name of an index together with the state last read from the cluster."""

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
from deepterms.schema.native_vectors import Compare
from deepterms.schema.tuning import Tuning
from deepterms.schema.vectors import VectorType
from deepterms.search.filter_counts import FilterCounts
from deepterms.storage.index_state import read_state, read_uuids

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MAX_REOPENINGS", "IndexHandle", "confirm_state", "read_again"]

# How often one call follows an index that is migrated, or deleted and created again, during the call.
MAX_REOPENINGS = 3

logger = logging.getLogger("deepterms")


class IndexHandle:
    """An index in a cluster, addressed by name; `SurrogateIndex` documents the attributes.

    Threads may share a handle. The state is one immutable value, replaced as a whole; each call keeps the state it
    started with and checks its answers against that state.

    Args:
        cluster: the cluster that holds the index.
        state: state of the index.
    """

    def __init__(self, cluster: Cluster, state: IndexState) -> None:
        self.cluster = cluster
        self.state = state
        self._path = build_index_path(state.name)
        self.counts = FilterCounts(cluster, state.name)
        self.warned: set[float] = set()  # recalls that searches compare all documents for, as a warning said
        # The state whose pipeline pins documents to the concrete index; see `sending.send`.
        self.pinned: IndexState | None = None

    def __repr__(self) -> str:
        stored = f"with {self.vector_type} vectors" if self.vector_type else "without vectors"
        return f"{type(self).__name__}({self.name!r}, {self.encoder}, layout {self.layout.name}, {stored})"

    @property
    def name(self) -> str:
        """The alias, or the name of the concrete index."""
        return self.state.name

    @property
    def spec(self) -> IndexSpec:
        """The options the index was created with."""
        return self.state.spec

    @property
    def encoder(self) -> Encoder:
        """The encoder from descriptors to terms, for documents and queries."""
        return self.state.spec.encoder

    @property
    def layout(self) -> Layout:
        """The layout in which codewords are stored."""
        return self.state.spec.layout

    @property
    def vector_type(self) -> VectorType | None:
        """The type of the stored vectors; None if the index stores none."""
        return self.state.spec.vector_type

    @property
    def stores_vectors(self) -> bool:
        """Whether the index stores vectors."""
        return self.state.spec.stores_vectors

    @property
    def compare(self) -> Compare:
        """What compares vectors: ``native``, Elasticsearch's vector field; or a ``script``."""
        return self.state.spec.compare

    @property
    def sketch(self) -> bool:
        """Whether the sign bits of vectors (binary quantization) are stored too."""
        return self.state.spec.sketch

    @property
    def rerank(self) -> int:
        """Candidates per shard that a search re-ranks by default."""
        return self.state.spec.candidates

    @property
    def tuning(self) -> Tuning | None:
        """The settings measured for searches, and the recall they keep; None if none were."""
        return self.state.tuning

    @property
    def extractor(self) -> Mapping[str, Any]:
        """The spec of the feature extractor; ``{}`` if unknown."""
        return self.state.spec.extractor

    @property
    def concrete(self) -> frozenset[str]:
        """The concrete index behind the name, as last read from the cluster."""
        return frozenset(self.state.uuids)

    @classmethod
    def open(cls, client: Any, name: str, *, encoder: Encoder | None = None) -> Self:
        """Open an existing index; its encoder is rebuilt from the index metadata.

        Pivots are downloaded from the cluster once, cached in the user's cache folder ($DEEPTERMS_CACHE), and kept in
        this process while in use.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: the alias, or the name of the concrete index.
            encoder: the encoder that the index is expected to have. Default: whichever it has.

        Returns:
            A handle of the index, ready to search and to write.

        Raises:
            InvalidInput: the name is a pattern or a list, or this release does not support the index's encoder.
            IndexNotFound: no index or alias has this name.
            EncoderMismatch: the index has another encoder than `encoder`.
            PivotsUnavailable: the encoder's pivots are missing from the cluster, or damaged.
            ClusterError: deepterms did not create the index, or the name points to several indices.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
        """
        cluster = Cluster(client)
        return cls(cluster, read_state(cluster, name, encoder=encoder))

    def reopen(self) -> bool:
        """Read the state of the index again.

        Returns:
            Whether the name now points to another index.

        Raises:
            IndexNotFound: the index no longer exists.
            ClusterError: as for `open`.
        """
        before = self.state
        return not read_again(self).is_same_index(before)


def read_again(handle: IndexHandle) -> IndexState:
    """Read the current state of an index from the cluster, and keep it for later calls.

    Raises:
        IndexNotFound: the index no longer exists.
        ClusterError: as for `IndexHandle.open`.
    """
    before, now = handle.state, read_state(handle.cluster, handle.name)
    handle.state = now
    handle.counts.forget()
    if now.uuids != before.uuids:
        logger.info("%s now points to %s, no longer to %s", handle.name, _describe(now), _describe(before))
    return now


def confirm_state(handle: IndexHandle, *, strict: bool = False) -> IndexState:
    """Return the state of an index, read again if the name now points to another index.

    Args:
        handle: the handle of the index.
        strict: if the cluster does not answer, raise an error. Otherwise the known state is returned, since the
            request that follows reports the error.

    Raises:
        IndexNotFound: the index no longer exists.
        ClusterError: as for `IndexHandle.open`.
        ClusterUnreachable, RequestRejected: only if `strict`.
    """
    state = handle.state
    try:
        same = read_uuids(handle.cluster, handle.name) == state.uuids
    except IndexNotFound:
        raise
    except (ClusterUnreachable, RequestRejected) as error:
        # A role that may search need not be allowed to read settings.
        if strict and getattr(error, "status", None) != 403:
            raise
        return state
    return state if same else read_again(handle)


def _describe(state: IndexState) -> str:
    return ", ".join(f"{concrete} ({uuid})" for concrete, uuid in state.uuids.items())
