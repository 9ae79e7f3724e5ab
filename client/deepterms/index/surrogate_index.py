"""SurrogateIndex: image descriptors in a cluster, retrieved by surrogate text and re-ranked by exact cosine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import ArrayLike

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterError, IndexAlreadyExists, InvalidInput, RequestRejected
from deepterms.index.ingest import DocumentBatch
from deepterms.index.queries import IndexQueries
from deepterms.index.writer import IndexWriter
from deepterms.schema.index_spec import IndexSpec, SpecKeywords, read_meta
from deepterms.schema.tuning import Tuning
from deepterms.schema.vectors import parse_vector_type
from deepterms.storage.concrete_index import add_alias, create_concrete, delete_concrete, list_concrete_indices
from deepterms.storage.encoder_loading import remember_encoder
from deepterms.storage.index_state import read_state
from deepterms.tuning.selection import select_encoder

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DocumentBatch", "SurrogateIndex"]


CREATION_SECONDS = 15  # for which one of two creators of a name waits for the other


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
        dense_vector: whether vectors are also stored in Elasticsearch's ``dense_vector`` field, which re-ranking then
            reads.
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
        features: ArrayLike | None = None,
        documents: int | None = None,
        recall: float | None = None,
        shards: int = 1,
        replicas: int | None = None,
        **options: Unpack[SpecKeywords],
    ) -> SurrogateIndex: ...
    @overload
    @classmethod
    def create(
        cls, client: Any, name: str, *, spec: IndexSpec, shards: int = 1, replicas: int | None = None
    ) -> SurrogateIndex: ...
    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        *,
        encoder: Encoder | Literal["auto"] | None = None,
        spec: IndexSpec | None = None,
        features: ArrayLike | None = None,
        documents: int | None = None,
        recall: float | None = None,
        shards: int = 1,
        replicas: int | None = None,
        **options: Unpack[SpecKeywords],
    ) -> SurrogateIndex:
        """Create an index; run `deploy` first, which installs the index templates and ingest pipelines.

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
            store_vectors: store vectors for exact re-ranking: ``True`` or ``"float32"`` (4·D bytes per document),
                ``"int8"`` (D + 4 bytes per document; measured at D = 2,048, cosines are off by 1e-4 on average and by
                6e-4 at most), or ``False``. Fill an int8 index through `add`: its pipeline cannot encode raw vectors.
            dense_vector: on Elasticsearch, also store float32 vectors of up to 4,096 dimensions in an unindexed
                ``dense_vector`` field. Re-ranking reads it instead: equal scores in less time, for another 4·D bytes
                per document (about 9·D more until the engine has merged its history away) and slower indexing
                (docs/benchmarks.md).
            sketch: also store sketches: the sign bits of vectors, that is, binary quantization, D / 8 bytes per
                document. Candidates are compared by sketch, and only the best 100, or 4·k if that is more, by exact
                cosine. This takes a fraction of the time for many candidates, but may miss a hit whose signs mislead.
                Default: on for vectors of 1,024 dimensions or more, if searches re-rank 500 candidates or more.
            shards: number of primary shards; scores do not depend on it.
            replicas: number of replicas per primary shard. Default: the engine's.
            extractor: spec of the feature extractor as plain JSON (``RMACExtractor.spec()``), stored with the index so
                that clients can extract query descriptors the same way.

        Returns:
            A handle of the new, empty index.

        Raises:
            InvalidInput: the engine does not allow the name; neither or both of `encoder` and `spec` are given;
                ``"auto"`` without features; the layout is unknown or cannot hold the encoder's terms; the vector type
                is unknown, or does not support `dense_vector` or `sketch`.
            UnsupportedEngine: the engine does not support the layout or `dense_vector`.
            IndexAlreadyExists: an index or alias has this name.
            ClusterError: the layout's template or pipelines are not deployed, or another template overrides them.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        cluster = Cluster(client)
        tuning: Tuning | None = None
        if spec is None:
            if encoder is None:
                raise InvalidInput("an index needs an encoder, or the spec of another index; got neither")
            vector_type = parse_vector_type(options.get("store_vectors", True))
            picked = select_encoder(
                encoder,
                features=features,
                documents=documents,
                recall=recall,
                sketch=options.get("sketch"),
                stores_vectors=vector_type is not None,
                int8=vector_type == "int8",
            )
            if options.get("rerank") is None:
                options["rerank"], tuning = picked.rerank, picked.tuning
            if options.get("sketch") is None:
                options["sketch"] = picked.sketch
            spec = IndexSpec.choose(cluster.engine, picked.encoder, **options)
        elif encoder is not None or features is not None or documents is not None or recall is not None or options:
            raise InvalidInput(
                "got spec together with an encoder or options; spec already holds all of them, so leave them out"
            )
        else:
            spec.check(cluster.engine)
        concrete = spec.layout.index_name(name)
        taken = IndexAlreadyExists(
            f"an index or alias {name!r} already exists; open it with SurrogateIndex.open, or choose another name"
        )
        if cluster.request("HEAD", build_index_path(name)):
            raise taken
        settings: dict[str, Any] = {"number_of_shards": shards}
        if replicas is not None:
            settings["number_of_replicas"] = replicas
        try:
            create_concrete(cluster, concrete, spec=spec, settings=settings, tuning=tuning)
        except RequestRejected as error:
            if "resource_already_exists" not in str(error):
                raise
            _await_alias(cluster, name)
            raise taken from error
        try:
            add_alias(cluster, concrete, name)
        except RequestRejected as error:
            delete_concrete(cluster, concrete)
            if not cluster.request("HEAD", build_index_path(name)):
                raise
            raise taken from error
        remember_encoder(spec.encoder)
        return cls(cluster, read_state(cluster, name, encoder=spec.encoder))

    def drop(self) -> None:
        """Delete the index with all its documents, its pipeline and its pivots.

        Older indices of this name that a migration left behind, and unfinished copies, are deleted too, unless another
        alias points to them.

        Raises:
            IndexNotFound: the index no longer exists.
            ClusterError: the name points to several indices, or to one that deepterms did not create; nothing is
                deleted.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        behind = self.cluster.request("GET", self._path)
        foreign = sorted(concrete for concrete, answer in behind.items() if not read_meta(answer))
        if foreign or len(behind) != 1:
            raise ClusterError(
                f"{self.name!r} points to {', '.join(sorted(behind))}; expected one index that deepterms created. "
                "Nothing was deleted: remove the alias from the others first"
            )
        left = {
            concrete
            for concrete, answer in list_concrete_indices(self.cluster, self.name).items()
            if not answer["aliases"]
        }
        for concrete in sorted(behind.keys() | left):
            delete_concrete(self.cluster, concrete)


def _await_alias(cluster: Cluster, name: str) -> None:
    """Wait until another client that is creating an index has added its alias, so that the index can be opened.

    Raises:
        ClusterError: the alias is still missing after some seconds: the other client was interrupted.
    """
    deadline = time.monotonic() + CREATION_SECONDS
    while not cluster.request("HEAD", build_index_path(name)):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"another client began to create {name!r} and has not finished after {CREATION_SECONDS} s; if it was "
                f"interrupted, delete what it left: deepterms-*-{name}-*"
            )
        time.sleep(0.1)
