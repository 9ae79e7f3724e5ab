"""SurrogateIndex: image descriptors in a real cluster, found by surrogate text and re-ranked by exact cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import ArrayLike

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.presets import PresetName, select_encoder
from deepterms.errors import IndexAlreadyExists, InvalidInput
from deepterms.index.ingest import DocumentBatch
from deepterms.index.reader import IndexReader
from deepterms.index.writer import IndexWriter
from deepterms.schema.index_spec import IndexSpec, SpecKeywords
from deepterms.storage.concrete_index import add_alias, create_concrete, delete_concrete, list_concrete_indices
from deepterms.storage.encoder_loading import remember_encoder
from deepterms.storage.index_state import read_state

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DocumentBatch", "SurrogateIndex"]


class SurrogateIndex(IndexReader, IndexWriter):
    """An index of image descriptors in Elasticsearch or OpenSearch.

    Make one with `create` or `open`. The name is an alias over ``deepterms-<layout>-v<N>-<name>-000001``; the encoder's
    spec stands in the mapping's ``_meta``, so any client can open the index. If the name is migrated to an index of
    another layout or encoder meanwhile, the next search or write finds that out and goes by the new one.

    Attributes:
        name: the alias.
        encoder: the rule from descriptors to terms; documents and queries share it.
        layout: how codewords are stored.
        vector_type: the type in which descriptors are kept, ``float32`` or ``int8``, so that hits can be re-ranked by
            exact cosine; None if they are not.
        dense_vector: whether they stand in Elasticsearch's own field as well, by which they are compared then.
        sketch: whether their signs stand in a field of their own, by which most candidates are compared then.
        rerank: how many candidates of each shard its searches re-rank unless told otherwise.
        extractor: the spec of what made the descriptors, if it was given to `create`; ``{}`` otherwise.
        concrete: the indices behind the name, as far as is known.
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
        preset: PresetName = "balanced",
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
        preset: PresetName = "balanced",
        shards: int = 1,
        replicas: int | None = None,
        **options: Unpack[SpecKeywords],
    ) -> SurrogateIndex:
        """Create an index; the templates and pipelines must be deployed.

        An encoder's pivots are stored beside the index, so that `open` finds them there.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: the alias under which the index is known.
            encoder: for documents and queries. ``auto``: a `PivotPermutation` with pivots from `features`.
            spec: instead of an encoder: everything that the index is made with, such as ``other.spec`` of another one.
            features: for ``auto``: (n, D), the collection or a random sample of some thousands of it; eight rows
                for each pivot are enough.
            documents: for ``auto``: how many the index will hold; default: n.
            preset: for ``auto``: ``small``, ``balanced`` or ``accurate``, which set how many pivots there are, words
                and candidates; see docs/choosing.md.
            rerank: how many candidates of each shard a search re-ranks where it does not say itself; default: the
                preset's or the encoder's (200; 500 with pivots).
            layout: ``frequencies``, ``words``, ``rank_features`` or ``codewords``; default: ``codewords`` for an
                encoder whose frequencies are all 1, else the first that the engine has.
            store_vectors: keep the descriptors for exact re-ranking: ``True`` or ``"float32"`` (4·D bytes a document),
                ``"int8"`` (D + 4 bytes; measured at D = 2,048, a cosine is off by 1e-4 on average and 6e-4 at most),
                or ``False``. An int8 index takes documents from `add` only: its pipeline encodes no raw vectors.
            dense_vector: on Elasticsearch, keep float32 vectors of up to 4,096 dimensions once more in its own field
                for vectors, unindexed: re-ranking compares by it, with equal scores in less time, for 4·D bytes more a
                document (and until the engine has merged its history away about 9·D more) and slower indexing
                (docs/benchmarks.md).
            sketch: keep the signs of the vectors too, D / 8 bytes a document. Candidates are then compared by them, and
                only the best of these (100, or 4·k if that is more) exactly, which takes a fraction of the time where
                there are many; that may lose a hit whose signs mislead. Default: with vectors of 1,024 dimensions or
                more, where searches re-rank 500 candidates or more.
            shards: how many; scores do not depend on it.
            replicas: how many copies of each shard; default: the engine's.
            extractor: what makes the descriptors, as plain JSON (``RMACExtractor.spec()``): kept with the index, so
                that whoever searches it can describe a query alike.

        Raises:
            InvalidInput: a name that the engine would not take, ``auto`` without features, an unknown layout, one that
                cannot hold what the encoder makes, an unknown type of vectors, or one not for a dense_vector or
                a sketch.
            UnsupportedEngine: the engine lacks the layout or the dense_vector.
            IndexAlreadyExists: the name is taken.
            ClusterError: the layout's template or pipelines are not deployed, or another template overrides it.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        cluster = Cluster(client)
        if spec is None:
            if encoder is None:
                raise InvalidInput("an index needs an encoder, or the spec of another index; got neither")
            picked = select_encoder(encoder, features=features, documents=documents, preset=preset)
            rerank = options.pop("rerank", None)
            options["rerank"] = picked.rerank if rerank is None else rerank
            spec = IndexSpec.choose(cluster.engine, picked.encoder, **options)
        elif encoder is not None or features is not None or documents is not None or options:
            raise InvalidInput("spec is all that an index is made with; leave encoder and the options of an index out")
        else:
            spec.check(cluster.engine)
        concrete = spec.layout.index_name(name)
        if cluster.request("HEAD", build_index_path(name)) or cluster.request("HEAD", build_index_path(concrete)):
            raise IndexAlreadyExists(
                f"an index or alias {name!r} exists already; open it with SurrogateIndex.open, or take another name"
            )
        settings: dict[str, Any] = {"number_of_shards": shards}
        if replicas is not None:
            settings["number_of_replicas"] = replicas
        create_concrete(cluster, concrete, spec=spec, settings=settings)
        add_alias(cluster, concrete, name)
        remember_encoder(spec.encoder)
        return cls(cluster, read_state(cluster, name, encoder=spec.encoder))

    def drop(self) -> None:
        """Delete the index with all its documents, and the pipeline and the pivots that are its own.

        So are older indices of the name that a migration has left, and unfinished copies, unless another alias points
        to them.

        Raises:
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        behind = set(self.cluster.request("GET", f"{self._path}/_mapping"))
        left = {
            concrete
            for concrete, answer in list_concrete_indices(self.cluster, self.name).items()
            if not answer["aliases"]
        }
        for concrete in sorted(behind | left):
            delete_concrete(self.cluster, concrete)
