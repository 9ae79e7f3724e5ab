"""IndexWriter: a handle of an index to its writes: adding, updating and deleting documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from deepterms.encoders.arrays import Features
from deepterms.index import ingest
from deepterms.index.handle import IndexHandle
from deepterms.index.ingest import DEFAULT_THREADS, DocumentBatch
from deepterms.index.updates import delete_by_filter, update_metadata
from deepterms.results import Revision, WriteReport
from deepterms.schema.aligned import Ids, MetadataRows, align_documents, check_terms
from deepterms.search.filters import Filter
from deepterms.terms import TermFrequencies

__all__ = ["IndexWriter"]


class IndexWriter(IndexHandle):
    """The writing half of `SurrogateIndex`."""

    def add(
        self,
        ids: Ids,
        features: Features,
        metadata: MetadataRows | None = None,
        *,
        revisions: Iterable[Revision | None] | None = None,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
    ) -> WriteReport:
        """Index documents; a document with an existing id is replaced completely.

        Arguments are aligned by position, in any ordered container: lists, arrays, tensors, iterators, or series and
        tables of pandas, polars or Arrow, whose labels are ignored (docs/limits.md).

        A document that cannot be indexed is reported and does not stop the others. New documents become visible to
        `search` at the engine's next refresh.

        Args:
            ids: N ids, each 1 to 512 bytes of UTF-8; an integer is taken as its digits.
            features: descriptors, float32 (N, D). A memory-mapped array is read in pieces of 1,000 rows.
            metadata: N mappings, or a table of N rows, whose missing cells are left out. Values become JSON: dates
                ISO 8601, Decimals numbers, enumerations their values. Default: no metadata.
            revisions: N revisions as returned by `get`, or None. A document that was changed since is left alone and
                reported, so no concurrent change is lost; None overwrites whatever is there.
            threads: number of concurrent bulk requests.
            on_progress: called with the number of documents in each finished bulk request.

        Returns:
            The number of documents indexed, and the id and reason of every document that was not.

        Raises:
            InvalidInput: ids, features, metadata or revisions differ in length, or cannot be read by position; or
                features are not real numbers in D columns.
            IndexNotFound: the index no longer exists.
            ClusterError: the name now points to several indices, or to one that deepterms did not create.
            ClusterUnreachable, RequestRejected: the state of the index could not be read. A bulk request that fails
                raises nothing; each of its documents is reported instead.
        """
        given = align_documents(ids, features, metadata, revisions)
        return ingest.add_batches(
            self, [given[:3]], threads=threads, on_progress=on_progress, revisions=given.revisions
        )

    def add_terms(
        self,
        ids: Ids,
        terms: TermFrequencies,
        metadata: MetadataRows | None = None,
        *,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
    ) -> WriteReport:
        """Index documents by term frequencies that were computed elsewhere.

        These documents have no vector: re-ranking gives them the cosine −1 and puts them last. Create an index that
        holds only such documents with ``store_vectors=False``.

        Args:
            ids: N ids, as in `add`.
            terms: term frequencies, (N, V).
            metadata: N mappings or a table of N rows, as in `add`. Default: no metadata.
            threads: number of concurrent bulk requests.
            on_progress: called with the number of documents in each finished bulk request.

        Returns:
            As `add`.

        Raises:
            InvalidInput: ids, terms or metadata differ in length.
            EncoderMismatch: the vocabulary of the terms is not the encoder's.
            IndexNotFound, ClusterError, ClusterUnreachable, RequestRejected: as for `add`.
        """
        given = align_documents(ids, check_terms(terms), metadata)
        return ingest.add_batches(self, [given[:3]], threads=threads, on_progress=on_progress)

    def add_batches(
        self,
        batches: Iterable[DocumentBatch],
        *,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> WriteReport:
        """Index a stream of batches of any size with bounded memory.

        An id repeated within one batch is reported as failed; across batches, the later document replaces the earlier,
        whatever is retried: a piece waits until earlier ones that share an id with it have their result.

        Args:
            batches: an iterable of (ids, features or terms, metadata or None), each as in `add` or `add_terms`.
            threads: number of concurrent bulk requests.
            on_progress: called with the number of documents in each finished bulk request.
            checkpoint: a file that records what the cluster has acknowledged. Rerun the same call with the same file to
                resume after an interruption: only the rest is sent, and what has changed, since each piece of 1,000
                documents is identified by a hash of its ids, descriptors and metadata. A checkpoint belongs to one
                index and is rejected once that index is dropped or migrated. Documents deleted in the meantime are not
                sent again; find them with `reconcile`. A piece is also sent again if an earlier one that shares an id
                with it is, so the later document still replaces the earlier.

        Returns:
            As `add`; documents recorded in the checkpoint count as succeeded and skipped.

        Raises:
            InvalidInput: the parts of a batch differ in length, or its features do not have D columns.
            EncoderMismatch: the vocabulary of a batch of terms is not the encoder's.
            CheckpointMismatch: the file belongs to another index or encoder, or is not a checkpoint.
            OSError: the checkpoint cannot be read or written.
            IndexNotFound, ClusterError, ClusterUnreachable, RequestRejected: as for `add`.
        """
        return ingest.add_batches(self, batches, threads=threads, on_progress=on_progress, checkpoint=checkpoint)

    def update_metadata(self, ids: Ids, metadata: MetadataRows) -> WriteReport:
        """Replace the metadata of documents, keeping their codewords and vectors.

        Each document is read and written back whole, and only if nobody changed it in between.

        Args:
            ids: N ids of documents visible to search (refreshed).
            metadata: N mappings or a table of N rows, as in `add`; each replaces all metadata stored with its document.

        Returns:
            The number of documents changed, and the id and reason of every document that was not: no such document, or
            changed by somebody else in the meantime.

        Raises:
            InvalidInput: ids and metadata differ in length, or cannot be read by position.
            IndexNotFound: the index no longer exists.
        """
        return update_metadata(self, ids, metadata)

    def delete(self, ids: Ids) -> WriteReport:
        """Delete documents by id.

        Args:
            ids: ids of the documents, in any order; an id that is not in the index counts as deleted.

        Returns:
            The number of documents deleted, and the id and reason of every document that was not.

        Raises:
            InvalidInput: ids is a single string.
            IndexNotFound: the index no longer exists.
        """
        return ingest.delete(self, ids)

    def delete_by_filter(self, filter: Filter) -> WriteReport:
        """Delete the documents that match a filter and are visible to search (refreshed).

        Args:
            filter: any query of the engine's query language, such as ``{"term": {"metadata.year": 2018}}``, or a list
                of queries that must all match.

        Returns:
            The number of documents deleted, and the id and reason of every match that was not; a document changed
            after it was found is kept.

        Raises:
            IndexNotFound: the index no longer exists.
            ClusterError: the name was moved to another index meanwhile; documents of the first may be deleted.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the filter.
        """
        return delete_by_filter(self, filter)

    def refresh(self) -> None:
        """Make all writes so far visible to search; the engine also does this by itself every second."""
        self.cluster.request("POST", f"{self._path}/_refresh")
        self.counts.forget()
