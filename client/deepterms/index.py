"""SurrogateIndex: image descriptors in a real cluster, found by surrogate text and re-ranked by exact cosine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.changes import delete_by_filter, revision_of, update_metadata
from deepterms.checks import Verification, verify
from deepterms.concrete import create_concrete, delete_concrete, index_meta, index_path, read_meta
from deepterms.documents import check_batch
from deepterms.encoders.encoder import Encoder, as_features
from deepterms.encoders.spec import encoder_from_spec
from deepterms.engines import Cluster, incomplete
from deepterms.errors import (
    ClusterError,
    EncoderMismatch,
    IndexAlreadyExists,
    IndexNotFound,
    InvalidInput,
    RequestRefused,
)
from deepterms.explanation import Explanation, explain
from deepterms.ingest import DEFAULT_THREADS, DocumentBatch, Ingest
from deepterms.layouts import Layout, layout_named
from deepterms.queries import largest_components
from deepterms.reconciliation import Reconciliation, reconcile
from deepterms.rerank import FeatureSource
from deepterms.results import Hit, Hits, IndexReport, IndexStats, Revision, StoredDocument
from deepterms.searcher import Found, Searcher
from deepterms.searches import SearchOptions
from deepterms.statistics import DEFAULT_SAMPLE, LARGEST_SAMPLE, cluster_stats
from deepterms.terms import TermFrequencies
from deepterms.vectors import StoreVectors, VectorType, decode_vector, vector_type

__all__ = ["DocumentBatch", "SurrogateIndex"]

DOCUMENTS_PER_PAGE = 2_000

logger = logging.getLogger("deepterms")


class SurrogateIndex:
    """An index of image descriptors in Elasticsearch or OpenSearch.

    Make one with `create` or `open`. The name is an alias over ``deepterms-<layout>-v<N>-<name>-000001``; the encoder's
    spec stands in the mapping's ``_meta``, so any client can open the index. If the name is migrated to an index of
    another layout or encoder meanwhile, the next search or write finds that out and goes by the new one.

    Attributes:
        name: the alias.
        encoder: the rule from descriptors to terms; documents and queries share it.
        layout: how codewords are stored.
        vectors: the type in which descriptors are kept, ``float32`` or ``int8``, so that hits can be re-ranked by
            exact cosine; None if they are not.
        extractor: the spec of what made the descriptors, if it was given to `create`; ``{}`` otherwise.
        concrete: the indices behind the name, as far as is known.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        encoder: Encoder,
        layout: Layout,
        vectors: VectorType | None,
        extractor: Mapping[str, Any],
        concrete: Iterable[str] = (),
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.encoder = encoder
        self.layout = layout
        self.vectors = vectors
        self.extractor = extractor
        self._path = f"/{quote(name, safe='')}"
        self.concrete = frozenset(concrete)

    def __repr__(self) -> str:
        vectors = f"with {self.vectors} vectors" if self.vectors else "without vectors"
        return f"SurrogateIndex({self.name!r}, {self.encoder}, layout {self.layout.name}, {vectors})"

    @property
    def stores_vectors(self) -> bool:
        """Whether descriptors are kept."""
        return self.vectors is not None

    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        *,
        encoder: Encoder,
        layout: str | None = None,
        store_vectors: StoreVectors = True,
        shards: int = 1,
        replicas: int | None = None,
        extractor: Mapping[str, Any] | None = None,
    ) -> SurrogateIndex:
        """Create an index; the templates and pipelines must be deployed.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: the alias under which the index is known.
            encoder: for documents and queries.
            layout: ``frequencies``, ``words``, ``features`` or ``codewords``; default: the first that the engine has.
            store_vectors: keep the descriptors for exact re-ranking: ``True`` or ``"float32"`` (4·D bytes a document),
                ``"int8"`` (D + 4 bytes; measured at D = 2,048, a cosine is off by 1e-4 on average and 6e-4 at most),
                or ``False``. An int8 index takes documents from `add` only: its pipeline encodes no raw vectors.
            shards: how many; scores do not depend on it.
            replicas: how many copies of each shard; default: the engine's.
            extractor: what makes the descriptors, as plain JSON (``RMACExtractor.spec()``): kept with the index, so
                that whoever searches it can describe a query alike.

        Raises:
            InvalidInput: a name that the engine would not take, an unknown layout, one that cannot hold what the
                encoder makes, or an unknown type of vectors.
            UnsupportedEngine: the engine lacks the layout.
            IndexAlreadyExists: the name is taken.
            ClusterError: the layout's template or pipelines are not deployed, or another template overrides it.
            ClusterUnreachable, RequestRefused: the cluster did not answer, or refused.
        """
        cluster = Cluster(client)
        chosen = cluster.engine.default_layout if layout is None else layout_named(layout)
        cluster.engine.require(chosen)
        chosen.check_encoder(encoder)
        concrete = chosen.index_name(name)
        if cluster.request("HEAD", f"/{quote(name, safe='')}") or cluster.request("HEAD", f"/{concrete}"):
            raise IndexAlreadyExists(
                f"an index or alias {name!r} exists already; open it with SurrogateIndex.open, or take another name"
            )
        settings: dict[str, Any] = {"number_of_shards": shards}
        if replicas is not None:
            settings["number_of_replicas"] = replicas
        meta = index_meta(layout=chosen, encoder=encoder, store_vectors=store_vectors, extractor=extractor or {})
        create_concrete(
            cluster, concrete, layout=chosen, settings=settings, mappings={"_meta": {"deepterms": meta}}, alias=name
        )
        return cls(
            cluster,
            name,
            encoder=encoder,
            layout=chosen,
            vectors=vector_type(store_vectors),
            extractor=meta["extractor"],
            concrete=[concrete],
        )

    @classmethod
    def open(cls, client: Any, name: str, *, encoder: Encoder | None = None) -> SurrogateIndex:
        """Open an index that exists; its encoder is rebuilt from the index itself.

        Args:
            client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
            name: the alias, or the concrete index.
            encoder: if given, the index must have been made with an equal one.

        Raises:
            InvalidInput: the name is a pattern or a list; or the index holds what this release cannot encode.
            IndexNotFound: there is none.
            EncoderMismatch: it was made with another encoder than the given one.
            ClusterError: it was not made by deepterms, or the alias covers indices that differ.
            ClusterUnreachable, RequestRefused: the cluster did not answer, or refused.
        """
        cluster, path = Cluster(client), index_path(name)
        try:
            mappings = cluster.request("GET", f"{path}/_mapping")
        except RequestRefused as error:
            if error.status == 404:
                raise IndexNotFound(f"no index {name!r} in the cluster; make one with SurrogateIndex.create") from error
            raise
        found = [_meta_of(answer) for answer in mappings.values()]
        meta = read_meta(found[0] if found else None, name=name)
        if any(other != found[0] for other in found):
            raise ClusterError(
                f"{name!r} covers {', '.join(mappings)}, which differ in layout or encoder; open one of them"
            )
        own = encoder_from_spec(meta.encoder)
        if encoder is not None and encoder.spec() != own.spec():
            raise EncoderMismatch(
                f"the index {name!r} holds documents of {own}, not of {encoder}; open it without an encoder and use "
                "index.encoder, or create another index"
            )
        return cls(
            cluster,
            name,
            encoder=own,
            layout=meta.layout_in_use(),
            vectors=vector_type(meta.vectors),
            extractor=meta.extractor,
            concrete=mappings,
        )

    def add(
        self,
        ids: Sequence[str],
        features: ArrayLike,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        revisions: Sequence[Revision | None] | None = None,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
    ) -> IndexReport:
        """Index documents; one whose id is there already is replaced as a whole.

        A document that cannot be indexed never stops the others. Found by `search` after the engine's next refresh.

        Args:
            ids: N ids, 1 to 512 bytes each.
            features: float32 (N, D); a memory-mapped array is read piece by piece.
            metadata: N mappings of what JSON can hold.
            revisions: N revisions, each as `get` returned it, or None. A document that was written since is left as it
                is and reported, so that no change of somebody else is lost; None replaces whatever is there.
            threads: bulk requests under way at once.
            on_progress: called with the number of documents that each finished bulk request held.

        Returns:
            How many were indexed, and every other one by id with the reason.

        Raises:
            InvalidInput: the three are not of one length, or the features not of D columns.
        """
        array = features if isinstance(features, np.ndarray) else np.asarray(features)
        if len(ids) != len(np.atleast_2d(array)) or (metadata is not None and len(metadata) != len(ids)):
            check_batch(ids, array, metadata, encoder=self.encoder)  # says what does not fit
        if revisions is not None and len(revisions) != len(ids):
            raise InvalidInput(f"ids and revisions are aligned by position; got {len(ids)} and {len(revisions)}")
        return Ingest(self).add_batches(
            [(ids, array, metadata)], threads=threads, on_progress=on_progress, revisions=revisions
        )

    def add_terms(
        self,
        ids: Sequence[str],
        terms: TermFrequencies,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
    ) -> IndexReport:
        """`add` for term frequencies that were made elsewhere.

        Such a document has no vector: re-ranking puts it behind all that have one, with the cosine −1, so an index of
        them alone is made with ``store_vectors=False``.

        Args:
            ids: N ids, 1 to 512 bytes each.
            terms: (N, V).
            metadata: N mappings of what JSON can hold.
            threads: bulk requests under way at once.
            on_progress: called with the number of documents that each finished bulk request held.

        Raises:
            InvalidInput: the three are not of one length.
            EncoderMismatch: terms over another vocabulary than the encoder's.
        """
        if len(ids) != len(terms) or (metadata is not None and len(metadata) != len(ids)):
            check_batch(ids, terms, metadata, encoder=self.encoder)  # says what does not fit
        return self.add_batches([(ids, terms, metadata)], threads=threads, on_progress=on_progress)

    def add_batches(
        self,
        batches: Iterable[DocumentBatch],
        *,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> IndexReport:
        """`add` for a stream: (ids, features or terms, metadata) batches of any size, with bounded memory.

        An id that is given twice within one batch is reported; in two batches, the later one replaces the earlier.

        Args:
            batches: the stream.
            threads: how many bulk requests are under way at once.
            on_progress: called with the number of documents of each request that is done.
            checkpoint: a file that notes, on the disk, what the cluster has acknowledged. After a cut, the same call
                with the same file sends only the rest, and what has changed since: a piece of 1,000 documents is known
                by the hash of its ids, descriptors and metadata. It belongs to this index; once that is dropped, or
                moved by a migration, the file is refused. What was deleted meanwhile is not sent again: see
                `reconcile`. Not for streams that give an id in several batches.

        Raises:
            CheckpointMismatch: the checkpoint belongs to another index or encoder, or is none.
            OSError: it cannot be read or written.
            ClusterUnreachable: with a checkpoint, if the cluster does not answer at the start.
        """
        return Ingest(self).add_batches(batches, threads=threads, on_progress=on_progress, checkpoint=checkpoint)

    def search(
        self,
        feature: ArrayLike,
        *,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        rerank: int | None = None,
        rerank_from: FeatureSource | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
    ) -> Hits:
        """The documents nearest to a descriptor.

        Args:
            feature: float32 (D,).
            k: how many hits, at most 10,000; for more see `search_all`.
            filter: any query of the engine's language, such as ``{"term": {"metadata.year": 2018}}``.
            rerank: how many candidates of each shard are re-ranked by exact cosine inside the cluster. 0: none, the
                score is the paper's dot product of term frequencies. Default: 200 if there are vectors, else 0.
            rerank_from: re-rank on this side instead, by the descriptors that a `FeatureStore` (or anything with its
                `features_of`) holds; ``rerank`` then counts the candidates of all shards together.
            effort: the share of the query's codewords that is asked for, the largest first: time against quality.
            min_score: leave out hits below this score (a cosine with re-ranking, else a dot product).
            fields: which fields of the metadata to return, such as ``["path"]``; default: all.

        Returns:
            At most k hits, best first; fewer when fewer documents share a codeword with the query.

        Raises:
            InvalidInput: a feature of another shape or without direction, an option out of range, re-ranking asked
                of an index without vectors or of a store that lacks a candidate, or more clauses than the cluster
                allows.
            ClusterUnreachable, RequestRefused: the cluster did not answer, or refused.
        """
        options = SearchOptions(k, filter, rerank, rerank_from, effort, min_score, fields)
        query = self._one(feature)
        return self._follow(lambda searcher: searcher.search(query, options))[0]

    def search_many(
        self,
        features: ArrayLike,
        *,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        rerank: int | None = None,
        rerank_from: FeatureSource | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Hits]:
        """`search` for each of many descriptors, a bounded number of them in one request.

        Args:
            features: float32 (N, D).
            k: as in `search`; so are the other options, which hold for all.
            filter: as in `search`.
            rerank: as in `search`.
            rerank_from: as in `search`.
            effort: as in `search`.
            min_score: as in `search`.
            fields: as in `search`.

        Returns:
            N hits in the order of the features. A query that fails loses no other: it has no hits, and ``error`` says
            why.

        Raises:
            InvalidInput: features of another shape, or an option out of range.
            RequestRefused: the engine cannot read the filter.
        """
        options = SearchOptions(k, filter, rerank, rerank_from, effort, min_score, fields)
        array = as_features(features, dimensions=self.encoder.dimensions)
        return self._follow(lambda searcher: searcher.search_many(array, options))

    def search_all(
        self,
        feature: ArrayLike,
        *,
        filter: Mapping[str, Any] | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
        page: int = DOCUMENTS_PER_PAGE,
    ) -> Iterator[Hit]:
        """Every document that shares a codeword with a descriptor, by the paper's score and then by id; no k, no limit.

        The index is seen as it is when the first hit is asked for. The engine scores all documents again for each page,
        so a large page is quicker.

        Args:
            feature: float32 (D,).
            filter: as in `search`.
            effort: as in `search`.
            min_score: stop before the first hit below this dot product.
            fields: as in `search`.
            page: hits a request, at most 10,000.

        Raises:
            InvalidInput: as `search`.
            ClusterError: a page is not whole, or a document has no id of its own to order equal scores by.
            UnsupportedEngine: OpenSearch before 2.4.
            ClusterUnreachable, RequestRefused: the cluster did not answer, or refused.
        """
        options = SearchOptions(page, filter, 0, None, effort, min_score, fields)
        query = self._one(feature)
        return self._all(query, options, page)

    def search_by_id(
        self,
        id: str,
        *,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        rerank: int | None = None,
        rerank_from: FeatureSource | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
    ) -> Hits:
        """The documents nearest to one that is in the index; that one itself is left out.

        Args:
            id: of the document, which must be visible to search (refreshed).
            k: as in `search`; so are the other options.
            filter: as in `search`.
            rerank: as in `search`.
            rerank_from: as in `search`; the document's own descriptor is taken from there too.
            effort: as in `search`.
            min_score: as in `search`.
            fields: as in `search`.

        Raises:
            InvalidInput: no such document, or as in `search`.
        """
        options = SearchOptions(k + 1, filter, rerank, rerank_from, effort, min_score, fields)
        document = self._known(id)
        vector = document.vector if rerank_from is None else rerank_from.features_of([id])
        if vector is None:
            terms = TermFrequencies.from_terms([document.terms], vocabulary_size=self.encoder.vocabulary_size)
            (hits,) = self._follow(lambda searcher: searcher.search(None, options, terms=terms))
        else:
            query = self._one(vector)
            (hits,) = self._follow(lambda searcher: searcher.search(query, options))
        return replace(hits, hits=tuple(hit for hit in hits if hit.id != id)[:k])

    def explain(self, id: str, feature: ArrayLike, *, effort: float = 1.0) -> Explanation:
        """Which codewords a document shares with a descriptor, and what each adds to its score.

        Args:
            id: of the document, which must be visible to search (refreshed).
            feature: float32 (D,).
            effort: as in `search`.

        Returns:
            The codewords with weight, frequency and product; ``agrees`` says whether the cluster's own score is their
            sum.

        Raises:
            InvalidInput: no such document, or as in `search`.
        """
        SearchOptions(effort=effort)
        self.reopen()
        document = self._known(id)
        asked = largest_components(self.encoder.encode_queries(self._one(feature)), effort)
        held = TermFrequencies.from_terms([document.terms], vocabulary_size=self.encoder.vocabulary_size)
        return explain(id, query=asked, document=held, engine_score=self._searcher.score_of(id, asked))

    def verify(self, *, sample: int = 100, seed: int = 2018) -> Verification:
        """Compare the cluster's scores of sampled documents with the same scores computed here.

        Each sampled document is a query for all of them: dot products, cosines if vectors are stored, and the ten best
        of the whole index. Do not write to the index meanwhile.

        Args:
            sample: how many documents, at most 1,000.
            seed: which ones.

        Returns:
            How much was compared, and every difference; ``ok`` if there is none.

        Raises:
            InvalidInput: a sample out of range.
            ClusterError: a search failed, or lacks a shard.
        """
        self.reopen()
        return verify(self._searcher, sample=sample, seed=seed)

    def get(self, id: str) -> StoredDocument | None:
        """One document as the index holds it, or None; it must be visible to search (refreshed)."""
        body: dict[str, Any] = {
            "query": {"ids": {"values": [id]}},
            "_source": ["terms", "metadata"],
            "seq_no_primary_term": True,
        }
        if self.stores_vectors:
            body["docvalue_fields"] = ["vector"]
        hits = self.cluster.request("POST", f"{self._path}/_search", body=body)["hits"]["hits"]
        if not hits:
            return None
        source, vectors = hits[0]["_source"], hits[0].get("fields", {}).get("vector")
        return StoredDocument(
            id=id,
            terms=source.get("terms", {}),
            vector=decode_vector(vectors[0], self.vectors, dimensions=self.encoder.dimensions)
            if vectors and self.vectors
            else None,
            metadata=source.get("metadata", {}),
            revision=revision_of(hits[0]),
        )

    def update_metadata(self, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> IndexReport:
        """Replace the metadata of documents; what is found by their codewords and vectors stays as it is.

        Each document is read as a whole and written as a whole, on condition that nobody wrote it in between.

        Args:
            ids: N ids, of documents visible to search (refreshed).
            metadata: N mappings of what JSON can hold; each takes the place of all that was stored.

        Returns:
            How many were changed, as ``indexed``, and every other one by id with the reason: it is not there, or
            somebody changed it meanwhile.

        Raises:
            InvalidInput: the two are not of one length.
        """
        return update_metadata(self, ids, metadata)

    def delete(self, ids: Sequence[str]) -> IndexReport:
        """Delete documents. One that is not there counts as deleted.

        Returns:
            How many are gone, as ``indexed``, and every other one by id with the reason.
        """
        return Ingest(self).delete(ids)

    def delete_by_filter(self, filter: Mapping[str, Any]) -> IndexReport:
        """Delete the documents that match a filter and are visible to search (refreshed).

        Args:
            filter: any query of the engine's language, such as ``{"term": {"metadata.year": 2018}}``.

        Returns:
            How many are gone, as ``indexed``, and every other one by id with the reason; a document that was changed
            since it was found stays.

        Raises:
            ClusterUnreachable, RequestRefused: they could not be looked for.
        """
        return delete_by_filter(self, filter)

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents are visible to search, in all or of those that match a filter."""
        body = {"query": filter} if filter is not None else None
        answer = self.cluster.request("POST", f"{self._path}/_count", body=body)
        if incomplete(answer):
            raise ClusterError(f"a shard of {self.name!r} did not answer while documents were counted; try again")
        return int(answer["count"])

    def reconcile(self, ids: Iterable[str]) -> Reconciliation:
        """Which of the documents that should be in the index are missing, and which are there beyond them.

        Args:
            ids: of all that should be there; read once, 8 bytes an id are kept.

        Returns:
            Both counts, and up to 100,000 ids of each kind. What others write meanwhile may be reported either way.

        Raises:
            InvalidInput: ids is one text.
            ClusterError: a shard did not answer, so that nothing certain can be said.
        """
        return reconcile(self.cluster, self.name, ids)

    def stats(self, *, sample: int = DEFAULT_SAMPLE) -> IndexStats:
        """How large the index is, and what a search has to read of it; needs the right to monitor the index.

        Args:
            sample: how many documents' stored terms are read, 1 to 10,000; the rest of them is estimated.

        Raises:
            InvalidInput: a sample out of range.
            ClusterUnreachable, RequestRefused: the cluster did not answer, or refused.
        """
        if not 1 <= sample <= LARGEST_SAMPLE:
            raise InvalidInput(f"sample is {sample}; expected 1 to {LARGEST_SAMPLE:,} documents")
        return cluster_stats(self.cluster, self.name, encoder=self.encoder, documents=self.count(), sample=sample)

    def refresh(self) -> None:
        """Make everything added and deleted so far visible to search; the engine does it by itself each second."""
        self.cluster.request("POST", f"{self._path}/_refresh")

    def reopen(self) -> bool:
        """Go by what the index says of itself now; whether the name has moved to another concrete index."""
        before = self.concrete
        now = type(self).open(self.cluster.client, self.name)
        self.encoder, self.layout, self.vectors = now.encoder, now.layout, now.vectors
        self.concrete = now.concrete
        moved = self.concrete != before
        if moved:
            logger.info("%s points to %s now, no longer to %s", self.name, sorted(self.concrete), sorted(before))
        return moved

    def drop(self) -> None:
        """Delete the index with all its documents, and the pipeline that is its own."""
        for concrete in self.cluster.request("GET", f"{self._path}/_mapping"):
            delete_concrete(self.cluster, concrete)

    @property
    def _searcher(self) -> Searcher:
        return Searcher(self.cluster, self.name, self.encoder, self.layout, self.vectors)

    def _one(self, feature: ArrayLike) -> NDArray[np.float32]:
        """One feature as (1, D)."""
        query = as_features(feature, dimensions=self.encoder.dimensions)
        if len(query) != 1:
            raise InvalidInput(f"one feature is expected here; got {len(query)}. search_many takes several")
        return query

    def _known(self, id: str) -> StoredDocument:
        document = self.get(id)
        if document is None:
            raise InvalidInput(f"no document {id!r} in {self.name!r}; if it was added just now, call refresh() first")
        return document

    def _all(self, query: NDArray[np.float32], options: SearchOptions, page: int) -> Iterator[Hit]:
        self.reopen()
        for hits in self._searcher.pages(query, options, size=page):
            yield from hits

    def _follow(self, search: Callable[[Searcher], Found]) -> list[Hits]:
        """Search; once more if the name turns out to point to another index by now, which may need another query."""
        try:
            found = search(self._searcher)
            # A query for another layout is refused, or finds nothing.
            if (not found.doubtful and found.indices <= self.concrete) or not self.reopen():
                return found.hits
        except RequestRefused as error:
            if error.status != 400 or not self.reopen():
                raise
        return search(self._searcher).hits


def _meta_of(answer: Any) -> Any:
    """What stands under ``_meta.deepterms`` of one index's mapping, or None."""
    for key in ("mappings", "_meta", "deepterms"):
        answer = answer.get(key) if isinstance(answer, Mapping) else None
    return answer
