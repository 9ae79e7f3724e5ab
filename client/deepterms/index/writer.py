"""IndexWriter: a handle of an index to its writes: adding, updating and deleting documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepterms.errors import InvalidInput
from deepterms.index import ingest
from deepterms.index.handle import IndexHandle
from deepterms.index.ingest import DEFAULT_THREADS, DocumentBatch
from deepterms.index.updates import delete_by_filter, update_metadata
from deepterms.results import Revision, WriteReport
from deepterms.schema.documents import check_batch
from deepterms.terms import TermFrequencies

__all__ = ["IndexWriter"]


class IndexWriter(IndexHandle):
    """The writing half of `SurrogateIndex`."""

    def add(
        self,
        ids: Sequence[str],
        features: ArrayLike,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        revisions: Sequence[Revision | None] | None = None,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
    ) -> WriteReport:
        """Index documents; a document with an existing id is replaced completely.

        A document that cannot be indexed is reported and does not stop the others. New documents become visible to
        `search` at the engine's next refresh.

        Args:
            ids: N ids, each 1 to 512 bytes of UTF-8.
            features: descriptors, float32 (N, D). A memory-mapped array is read in pieces of 1,000 rows.
            metadata: N JSON-serialisable mappings. Default: no metadata.
            revisions: N revisions as returned by `get`, or None. A document that was changed since is left alone and
                reported, so no concurrent change is lost; None overwrites whatever is there.
            threads: number of concurrent bulk requests.
            on_progress: called with the number of documents in each finished bulk request.

        Returns:
            The number of documents indexed, and the id and reason of every document that was not.

        Raises:
            InvalidInput: ids, features, metadata or revisions differ in length, or features do not have D columns.
            IndexNotFound: the index no longer exists.
            ClusterError: the name now points to several indices, or to one that deepterms did not create.
            ClusterUnreachable, RequestRejected: the state of the index could not be read. A bulk request that fails
                raises nothing; each of its documents is reported instead.
        """
        array = features if isinstance(features, np.ndarray) else np.asarray(features)
        if len(ids) != len(np.atleast_2d(array)) or (metadata is not None and len(metadata) != len(ids)):
            check_batch(ids, array, metadata, encoder=self.encoder)  # raises an error that says what does not fit
        if revisions is not None and len(revisions) != len(ids):
            raise InvalidInput(f"ids and revisions are aligned by position; got {len(ids)} and {len(revisions)}")
        return ingest.add_batches(
            self, [(ids, array, metadata)], threads=threads, on_progress=on_progress, revisions=revisions
        )

    def add_terms(
        self,
        ids: Sequence[str],
        terms: TermFrequencies,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
    ) -> WriteReport:
        """Index documents by term frequencies that were computed elsewhere.

        These documents have no vector: re-ranking gives them the cosine −1 and puts them last. Create an index that
        holds only such documents with ``store_vectors=False``.

        Args:
            ids: N ids, each 1 to 512 bytes of UTF-8.
            terms: term frequencies, (N, V).
            metadata: N JSON-serialisable mappings. Default: no metadata.
            threads: number of concurrent bulk requests.
            on_progress: called with the number of documents in each finished bulk request.

        Returns:
            As `add`.

        Raises:
            InvalidInput: ids, terms or metadata differ in length.
            EncoderMismatch: the vocabulary of the terms is not the encoder's.
            IndexNotFound, ClusterError, ClusterUnreachable, RequestRejected: as for `add`.
        """
        if len(ids) != len(terms) or (metadata is not None and len(metadata) != len(ids)):
            check_batch(ids, terms, metadata, encoder=self.encoder)  # raises an error that says what does not fit
        return self.add_batches([(ids, terms, metadata)], threads=threads, on_progress=on_progress)

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

    def update_metadata(self, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> WriteReport:
        """Replace the metadata of documents, keeping their codewords and vectors.

        Each document is read and written back whole, and only if nobody changed it in between.

        Args:
            ids: N ids of documents visible to search (refreshed).
            metadata: N JSON-serialisable mappings; each replaces all metadata stored with its document.

        Returns:
            The number of documents changed, and the id and reason of every document that was not: no such document, or
            changed by somebody else in the meantime.

        Raises:
            InvalidInput: ids and metadata differ in length, or ids is a single string.
            IndexNotFound: the index no longer exists.
        """
        return update_metadata(self, ids, metadata)

    def delete(self, ids: Sequence[str]) -> WriteReport:
        """Delete documents by id.

        Args:
            ids: ids of the documents; an id that is not in the index counts as deleted.

        Returns:
            The number of documents deleted, and the id and reason of every document that was not.

        Raises:
            InvalidInput: ids is a single string.
            IndexNotFound: the index no longer exists.
        """
        return ingest.delete(self, ids)

    def delete_by_filter(self, filter: Mapping[str, Any]) -> WriteReport:
        """Delete the documents that match a filter and are visible to search (refreshed).

        Args:
            filter: any query of the engine's query language, such as ``{"term": {"metadata.year": 2018}}``.

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
