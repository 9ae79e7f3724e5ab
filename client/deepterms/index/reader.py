"""IndexReader: looks at an index and its documents, and leaves both unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError, InvalidInput
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.inspection.reconciliation import Reconciliation, reconcile
from deepterms.inspection.statistics import DEFAULT_SAMPLE, MAX_SAMPLE, measure_stats
from deepterms.inspection.verification import Verification, verify
from deepterms.results import IndexStats, StoredDocument
from deepterms.schema.aligned import Ids, read_id
from deepterms.schema.index_spec import IndexState
from deepterms.schema.stored_documents import read_stored_document
from deepterms.search.date_filters import check_date_filter
from deepterms.search.filters import Filter, normalise_filter
from deepterms.search.request import guard_clauses
from deepterms.search.searcher import Searcher

if TYPE_CHECKING:
    pass

__all__ = ["IndexReader"]


class IndexReader(IndexHandle):
    """The methods of `SurrogateIndex` that read documents and check the index."""

    def verify(self, *, sample: int = 100, seed: int = 2018) -> Verification:
        """Check that the cluster scores exactly: compare its scores of a sample with scores computed in the client.

        Each of n sampled documents is a query for all n: n² dot products and, if vectors are stored, n² cosines at
        most. Each query is also run against the whole index, whose ten best hits must not miss a sampled document. Do
        not write to the index during the check.

        Args:
            sample: number of documents to draw, 1 to 1,000.
            seed: seed of the random draw; the same seed draws the same documents while nothing is written.

        Returns:
            The number of comparisons, and every difference; ``ok`` is true if there is none.

        Raises:
            InvalidInput: sample is out of range.
            IndexNotFound: the index no longer exists.
            ClusterError: a search failed, or a shard did not answer.
        """
        return verify(self._searcher(read_again(self)), sample=sample, seed=seed)

    def get(self, id: str | int) -> StoredDocument | None:
        """Read one document as stored.

        Args:
            id: id of the document, which must be visible to search (refreshed); an integer is taken as its digits.

        Returns:
            Its terms, vector, metadata and revision; None if no document has this id.

        Raises:
            InvalidInput: no document can have this id.
            IndexNotFound: the index no longer exists.
            ClusterError: the document was not found, but a shard did not answer.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
        """
        id, state = read_id(id), self.state
        for _ in range(MAX_REOPENINGS):
            # With the guard clause nothing matches in another index, whose vectors may have another type.
            matching: dict[str, Any] = {"bool": {"filter": [{"ids": {"values": [id]}}, *guard_clauses(state)]}}
            body: dict[str, Any] = {
                "query": matching,
                "_source": ["terms", "metadata"],
                "seq_no_primary_term": True,
            }
            if state.spec.stores_vectors:
                body["docvalue_fields"] = ["vector"]
            answer = self.cluster.request("POST", build_index_path(self.name, "/_search"), body=body)
            hits = answer["hits"]["hits"]
            if hits and state.guards_queries and answer["_shards"]["total"] == state.shards:
                break
            now = confirm_state(self, strict=True)
            if now.is_same_index(state):
                break
            state = now
        if not hits:
            if is_incomplete(answer):
                raise ClusterError(
                    f"a shard of {self.name!r} did not answer, which may hold the document {id!r}; try again"
                )
            return None
        document = read_stored_document(hits[0], state.spec.vector_type, dimensions=state.spec.encoder.dimensions)
        if document.revision is None:
            return document
        return replace(document, revision=replace(document.revision, index=state.uuids.get(hits[0]["_index"], "")))

    def count(self, *, filter: Filter | None = None) -> int:
        """Count the documents that are visible to search (refreshed).

        Args:
            filter: count only documents that match this query; see `search`.

        Raises:
            InvalidInput: the filter cannot be represented as JSON, or treats keywords as dates.
            IndexNotFound: the index no longer exists.
            ClusterError: a shard did not answer, or the name now points to several indices.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the filter.
        """
        query = None if filter is None else normalise_filter(filter)
        check_date_filter(self.cluster, self.name, query)
        body = None if query is None else {"query": query}
        answer = self.cluster.request("POST", build_index_path(self.name, "/_count"), body=body)
        if is_incomplete(answer):
            raise ClusterError(f"a shard of {self.name!r} did not answer while documents were counted; try again")
        if answer["_shards"]["total"] != self.state.shards:
            confirm_state(self, strict=True)  # raises an error if the name points to several indices
        return int(answer["count"])

    def reconcile(self, ids: Ids) -> Reconciliation:
        """Compare the index with the ids it should hold: which are missing, and which are extra.

        Documents are found whether refreshed or not. Those that others write or delete during the call
        may be reported either way.

        Args:
            ids: the ids of all documents that should be in the index, in any order; duplicates count once. The stream
                is read once, keeping 8 bytes per id.

        Returns:
            Both counts, and up to 100,000 ids of each kind; ``equal`` is true if there are none.

        Raises:
            InvalidInput: ids is a single string, or has something that is not an id.
            IndexNotFound: the index no longer exists.
            ClusterError: a shard did not answer, so the result would be uncertain.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        confirm_state(self)
        return reconcile(self.cluster, self.name, ids)

    def stats(self, *, sample: int = DEFAULT_SAMPLE) -> IndexStats:
        """Measure the size of the index and the work of a search; needs the ``monitor`` privilege on the index.

        Args:
            sample: number of documents whose stored terms are read, 1 to 10,000. Figures about posting lists are
                estimated from them; they are exact if the sample holds all documents.

        Returns:
            Documents, bytes on disk, segments, posting-list lengths, postings per query and mean query time.

        Raises:
            InvalidInput: sample is out of range.
            IndexNotFound: the index no longer exists.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        if not 1 <= sample <= MAX_SAMPLE:
            raise InvalidInput(f"sample is {sample}; expected 1 to {MAX_SAMPLE:,} documents")
        state = confirm_state(self)
        return measure_stats(
            self.cluster,
            self.name,
            encoder=state.spec.encoder,
            documents=self.count(),
            sample=sample,
            vector_type=state.spec.vector_type,
        )

    def _searcher(self, state: IndexState) -> Searcher:
        return Searcher(self.cluster, state, self.counts, self.warned)
