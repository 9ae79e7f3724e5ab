"""IndexWriter: documents into one index in a cluster, changed there, and out of it."""

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
    """The half of `SurrogateIndex` that changes its documents."""

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
    ) -> WriteReport:
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
        return ingest.add_batches(self, batches, threads=threads, on_progress=on_progress, checkpoint=checkpoint)

    def update_metadata(self, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> WriteReport:
        """Replace the metadata of documents; what is found by their codewords and vectors stays as it is.

        Each document is read as a whole and written as a whole, on condition that nobody wrote it in between.

        Args:
            ids: N ids, of documents visible to search (refreshed).
            metadata: N mappings of what JSON can hold; each takes the place of all that was stored.

        Returns:
            How many were changed, as ``succeeded``, and every other one by id with the reason: it is not there, or
            somebody changed it meanwhile.

        Raises:
            InvalidInput: the two are not of one length.
        """
        return update_metadata(self, ids, metadata)

    def delete(self, ids: Sequence[str]) -> WriteReport:
        """Delete documents. One that is not there counts as deleted.

        Returns:
            How many are gone, as ``succeeded``, and every other one by id with the reason.
        """
        return ingest.delete(self, ids)

    def delete_by_filter(self, filter: Mapping[str, Any]) -> WriteReport:
        """Delete the documents that match a filter and are visible to search (refreshed).

        Args:
            filter: any query of the engine's language, such as ``{"term": {"metadata.year": 2018}}``.

        Returns:
            How many are gone, as ``succeeded``, and every other one by id with the reason; a document that was changed
            since it was found stays.

        Raises:
            ClusterUnreachable, RequestRejected: they could not be looked for.
        """
        return delete_by_filter(self, filter)

    def refresh(self) -> None:
        """Make everything added and deleted so far visible to search; the engine does it by itself each second."""
        self.cluster.request("POST", f"{self._path}/_refresh")
        self.counts.forget()
