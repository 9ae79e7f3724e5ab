"""IndexHandle: what is known of the index behind a name, and read anew once the name points elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import meta_of
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterError, EncoderMismatch, IndexNotFound, PivotsUnavailable, RequestRejected
from deepterms.schema.layouts import Layout
from deepterms.schema.vectors import VectorType, parse_vector_type
from deepterms.search.filter_counts import FilterCounts
from deepterms.search.rerank import default_rerank
from deepterms.storage.concrete_index import index_path, read_meta
from deepterms.storage.encoder_loading import load_encoder, remember_encoder

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["IndexHandle"]

logger = logging.getLogger("deepterms")


class IndexHandle:
    """An index by its name. See `SurrogateIndex`, which says what the attributes are."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        encoder: Encoder,
        layout: Layout,
        vector_type: VectorType | None,
        extractor: Mapping[str, Any],
        concrete: Iterable[str] = (),
        rerank: int | None = None,
        dense_vector: bool = False,
        sketch: bool = False,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.encoder = encoder
        self.layout = layout
        self.vector_type = vector_type
        self.dense_vector = dense_vector
        self.sketch = sketch
        self.extractor = extractor
        self.rerank = default_rerank(encoder) if rerank is None else rerank
        self._path = f"/{quote(name, safe='')}"
        self.concrete = frozenset(concrete)
        self._counts = FilterCounts(cluster, name)

    def __repr__(self) -> str:
        vector_type = f"with {self.vector_type} vectors" if self.vector_type else "without vectors"
        return f"{type(self).__name__}({self.name!r}, {self.encoder}, layout {self.layout.name}, {vector_type})"

    @property
    def stores_vectors(self) -> bool:
        """Whether descriptors are kept."""
        return self.vector_type is not None

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
            PivotsUnavailable: its encoder needs pivots, which are not in the cluster beside it, or damaged.
            ClusterError: it was not made by deepterms, or the alias covers indices that differ.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        cluster, path = Cluster(client), index_path(name)
        try:
            mappings = cluster.request("GET", f"{path}/_mapping")
        except RequestRejected as error:
            if error.status == 404:
                raise IndexNotFound(f"no index {name!r} in the cluster; make one with SurrogateIndex.create") from error
            raise
        found = [meta_of(answer) for answer in mappings.values()]
        meta = read_meta(found[0] if found else None, name=name)
        if any(other != found[0] for other in found):
            raise ClusterError(
                f"{name!r} covers {', '.join(mappings)}, which differ in layout or encoder; open one of them"
            )
        if encoder is not None and encoder.spec() == meta.encoder:
            own = encoder
            remember_encoder(encoder)
        else:
            try:
                own = load_encoder(cluster, next(iter(mappings)), meta.encoder)
            except PivotsUnavailable:
                if cluster.request("GET", f"{path}/_mapping").keys() == mappings.keys():
                    raise
                # Migrated in between, and the old index is dropped.
                return cls.open(client, name, encoder=encoder)
        if own is not encoder and encoder is not None:
            raise EncoderMismatch(
                f"the index {name!r} holds documents of {own}, not of {encoder}; open it without an encoder and use "
                "index.encoder, or create another index"
            )
        return cls(
            cluster,
            name,
            encoder=own,
            layout=meta.layout_in_use(),
            vector_type=parse_vector_type(meta.vector_type),
            extractor=meta.extractor,
            concrete=mappings,
            rerank=meta.rerank,
            dense_vector=meta.dense_vector,
            sketch=meta.sketch,
        )

    def reopen(self) -> bool:
        """Go by what the index says of itself now; whether the name has moved to another concrete index."""
        before = self.concrete
        now = type(self).open(self.cluster.client, self.name)
        self.encoder, self.layout, self.vector_type, self.rerank = now.encoder, now.layout, now.vector_type, now.rerank
        self.dense_vector, self.sketch = now.dense_vector, now.sketch
        self.concrete = now.concrete
        self._counts.forget()
        moved = self.concrete != before
        if moved:
            logger.info("%s points to %s now, no longer to %s", self.name, sorted(self.concrete), sorted(before))
        return moved
