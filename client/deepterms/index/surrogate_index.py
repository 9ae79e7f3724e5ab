"""SurrogateIndex: image descriptors in a cluster, retrieved by surrogate text and re-ranked by exact cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import check_new_name
from deepterms.encoders.arrays import Features
from deepterms.encoders.encoder import Encoder
from deepterms.index.creation import WantedIndex, create_index, open_or_create_index
from deepterms.index.dropping import drop_index
from deepterms.index.ingest import DocumentBatch
from deepterms.index.queries import IndexQueries
from deepterms.index.writer import IndexWriter
from deepterms.schema.index_spec import IndexSpec, SpecKeywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DocumentBatch", "SurrogateIndex"]


class SurrogateIndex(IndexQueries, IndexWriter):
    """An index of image descriptors in Elasticsearch or OpenSearch.

    Use `create` or `open` to get one; threads may share it. The name is an alias of a concrete index
    ``deepterms-<layout>-v<N>-<name>-000001``, whose mapping ``_meta`` holds the encoder's spec, so any client can open
    it. If the name is migrated to an index with another layout or encoder, the next search or write follows.

    Attributes:
        name: the alias.
        spec: the options that the index was created with; pass it to `create` to create another index like this one.
        encoder: the encoder from descriptors to terms, for documents and queries.
        layout: the layout in which codewords are stored.
        vector_type: the type of the stored vectors, ``float32`` or ``int8``, used to re-rank by exact cosine; None if
            the index stores none.
        stores_vectors: whether the index stores vectors.
        compare: what compares vectors: ``native``, Elasticsearch's vector field; or a ``script``.
        sketch: whether sketches are stored: the sign bits of vectors, that is, binary quantization. Re-ranking then
            compares most candidates by their sketches only.
        rerank: candidates per shard that a search re-ranks by default.
        extractor: the spec of the feature extractor, as given to `create`; ``{}`` if none was given.
        concrete: names of the concrete indices behind the alias, as last read.
    """

    @overload
    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        *,
        encoder: Encoder | Literal["auto"],
        features: Features | None = None,
        documents: int | None = None,
        recall: float | None = None,
        shards: int = 1,
        replicas: int | None = None,
        field_limit: int | None = None,
        **options: Unpack[SpecKeywords],
    ) -> SurrogateIndex: ...
    @overload
    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        *,
        spec: IndexSpec,
        shards: int = 1,
        replicas: int | None = None,
        field_limit: int | None = None,
    ) -> SurrogateIndex: ...
    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        *,
        encoder: Encoder | Literal["auto"] | None = None,
        spec: IndexSpec | None = None,
        features: Features | None = None,
        documents: int | None = None,
        recall: float | None = None,
        shards: int = 1,
        replicas: int | None = None,
        field_limit: int | None = None,
        **options: Unpack[SpecKeywords],
    ) -> SurrogateIndex:
        """Create an index; run `deploy` first, which installs the index templates and ingest pipelines.

        If another client was interrupted while it created the same index, its index is finished after 15 seconds.

        Pass either `encoder` with options, or the `spec` of another index. Pivots of the encoder are stored in the
        cluster, in a companion of the index, where `open` finds them.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: name of the alias to create for the index.
            encoder: the encoder for documents and queries; ``"auto"`` chooses a `PivotPermutation` with pivots from
                `features`, and how broadly searches look, by measuring on them what reaches `recall`.
            spec: the options of an existing index, ``other.spec``, instead of an encoder and options.
            features: for ``"auto"``: the collection, or a random sample of some thousands of its descriptors, float32
                (n, D): 32,768 rows are enough.
            documents: for ``"auto"``: number of documents that the index will hold. Default: n.
            recall: for ``"auto"``: the share of the ten nearest documents that searches find. Default: .95. Call `tune`
                once the index is filled, which measures it there; see docs/recall.md.
            rerank: candidates per shard that a search re-ranks by default. Default: what reaches `recall`, or as the
                encoder recommends (200; 500 with pivots). If given, searches keep no recall by default.
            layout: ``frequencies``, ``words``, ``rank_features`` or ``codewords``. Default: ``codewords`` for an
                encoder whose frequencies are all 1, otherwise the first that the engine supports.
            store_vectors: store vectors for exact re-ranking: ``"float32"`` (4·D bytes per document),
                ``"int8"`` (D + 4 bytes per document; measured at D = 2,048, cosines are off by 1e-4 on average and by
                6e-4 at most), ``True`` (int8 if they are compared natively, otherwise float32), or ``False``. Fill an
                int8 index through `add`: its pipeline cannot encode raw vectors.
            compare: ``"native"`` or ``"script"``. Native comparison stores int8 vectors in Elasticsearch's vector field
                (9.2 or later, up to 4,096 dimensions, binary pivot codewords), and a search compares all documents
                that share a codeword with the query there. A script compares only the ``rerank`` best candidates, in
                any encoder and engine. Default: native where it is possible, unless `store_vectors` names
                ``"float32"``, `sketch` is on or `rerank` is 0.
            sketch: also store sketches: the sign bits of vectors, that is, binary quantization, D / 8 bytes per
                document. Candidates are compared by sketch, and only the best 200, or 4·k if that is more, by exact
                cosine. This takes a fraction of the time for many candidates, but may miss a hit whose signs mislead.
                Default: on for vectors of 1,024 dimensions or more, if searches re-rank 500 candidates or more.
            shards: number of primary shards; scores do not depend on it.
            replicas: number of replicas per primary shard. Default: the engine's.
            extractor: spec of the feature extractor as plain JSON (``RMACExtractor.spec()``), stored with the index so
                that clients can extract query descriptors the same way.
            schema: metadata field → its type in the engine, such as ``"date"``, ``"text"``, ``"long"`` or
                ``"geo_point"``, or a field of a mapping such as ``{"type": "scaled_float", "scaling_factor": 100}``;
                see docs/metadata.md. Other fields get a type from their first value: numbers ``double``, complete
                ISO 8601 dates ``date``, other strings ``keyword``, booleans ``boolean``.
            analysis: analyzers that fields of the schema name, in the form of the engine's index settings.
            field_limit: number of fields that the index may have, among them about ten of its own. Default: the
                engine's, 1,000.

        Returns:
            A handle of the new, empty index.

        Raises:
            InvalidInput: the engine does not allow the name; neither or both of `encoder` and `spec` are given;
                ``"auto"`` without features; the layout is unknown or cannot hold the encoder's terms; the vector type
                is unknown, or does not support `compare` or `sketch`; the engine cannot create the schema.
            UnsupportedEngine: the engine does not support the layout or native comparison.
            IndexAlreadyExists: an index or alias has this name. See also `open_or_create`.
            ClusterError: the layout's template or pipelines are not deployed, another template overrides them, or
                another client was interrupted while it created the name with other options.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        wanted = WantedIndex(encoder, spec, features, documents, recall, options)
        cluster = Cluster(client)
        settings = _settings(shards, replicas, field_limit)
        chosen, tuning = wanted.choose(cluster.engine)
        return cls(cluster, create_index(cluster, name, chosen, settings=settings, tuning=tuning))

    @classmethod
    def open_or_create(
        cls,
        client: Any,
        name: str,
        *,
        encoder: Encoder | Literal["auto"] | None = None,
        spec: IndexSpec | None = None,
        features: Features | None = None,
        documents: int | None = None,
        recall: float | None = None,
        shards: int = 1,
        replicas: int | None = None,
        field_limit: int | None = None,
        **options: Unpack[SpecKeywords],
    ) -> SurrogateIndex:
        """Open an index, or create it if there is none; any number of processes may call this at once.

        All of them get the same index, which is ready: what they add is stored whole. If one of them is killed, the
        others, or the next call, finish what it began.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: name of the alias.
            encoder: as for `create`; with ``"auto"``, an existing index may have any encoder.
            spec: as for `create`.
            features: as for `create`.
            documents: as for `create`.
            recall: as for `create`; an existing index may promise another.
            shards: as for `create`; an existing index may have another number.
            replicas: as for `create`; an existing index may have another number.
            field_limit: as for `create`; an existing index may have another number.
            options: as for `create`; without `extractor`, an existing index may have any.

        Returns:
            A handle of the index.

        Raises:
            EncoderMismatch: the index exists and has another encoder.
            IndexAlreadyExists: the index exists with other options; the message names each difference.
            InvalidInput, UnsupportedEngine, ClusterError, ClusterUnreachable, RequestRejected: as for `create` and
                `open`.
        """
        wanted = WantedIndex(encoder, spec, features, documents, recall, options)
        cluster = Cluster(client)
        check_new_name(name)
        settings = _settings(shards, replicas, field_limit)
        return cls(cluster, open_or_create_index(cluster, name, wanted, settings=settings))

    def drop(self) -> None:
        """Delete the index with all its documents, its pipeline and its pivots.

        Older indices of this name that a migration left behind, and unfinished copies, are deleted too, unless another
        alias points to them. After an interruption, call it again, or `drop_name` if the index can no longer be opened.

        Raises:
            IndexNotFound: the index no longer exists.
            ClusterError: the name points to several indices, or to one that deepterms did not create; nothing is
                deleted.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        drop_index(self.cluster, self.name, must_exist=True)

    @classmethod
    def drop_name(cls, client: Any, name: str) -> None:
        """Delete an index without opening it, or what an interrupted `create` or `drop` left of it.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: the alias.

        Raises:
            IndexNotFound: nothing of that name exists.
            ClusterError, ClusterUnreachable, RequestRejected: as for `drop`.
        """
        drop_index(Cluster(client), name, must_exist=False)


def _settings(shards: int, replicas: int | None, field_limit: int | None) -> dict[str, int]:
    wanted = {
        "number_of_shards": shards,
        "number_of_replicas": replicas,
        "mapping.total_fields.limit": field_limit,
    }
    return {name: value for name, value in wanted.items() if value is not None}
