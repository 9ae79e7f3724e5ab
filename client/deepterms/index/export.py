"""Export: the vectors stored in an index, written to a new feature store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.scroll import scroll_pages
from deepterms.errors import InvalidInput
from deepterms.index import SurrogateIndex
from deepterms.schema.stored_documents import read_vector

if TYPE_CHECKING:
    from deepterms.features import FeatureStore

__all__ = ["export_features"]

DOCUMENTS_PER_READ = 1_000


def export_features(
    index: SurrogateIndex, folder: str | Path, *, on_progress: Callable[[int], None] | None = None
) -> FeatureStore:
    """Write the descriptors of an index, as of the start of the call, to a new feature store.

    Descriptors are L2-normalised, as stored. An item's path is ``metadata.path`` of its document, or the id without
    one. Documents without a vector, or with one of another length, are left out.

    Args:
        index: an index that stores vectors.
        folder: folder of the store; must not exist.
        on_progress: called with the number of documents in each page read.

    Returns:
        The new store; its spec is the index's `extractor`.

    Raises:
        InvalidInput: the index stores no vectors.
        FeatureStoreError: the folder exists.
        ClusterError: a page could not be read completely; the unfinished store is removed.
    """
    from deepterms.features import write_store

    stored = index.vector_type
    if stored is None:
        raise InvalidInput(f"the index {index.name!r} stores no vectors, so there is nothing to export")

    def batches() -> Iterator[tuple[list[str], NDArray[np.float32], list[str]]]:
        body = {"_source": ["metadata.path"], "docvalue_fields": ["vector"]}
        for page in scroll_pages(index.cluster, index.name, body, size=DOCUMENTS_PER_READ):
            found = [(hit, read_vector(hit, stored, dimensions=index.encoder.dimensions)) for hit in page]
            whole = [(hit, vector) for hit, vector in found if vector is not None]
            paths = [str(hit.get("_source", {}).get("metadata", {}).get("path", hit["_id"])) for hit, _ in whole]
            if whole:
                yield [hit["_id"] for hit, _ in whole], np.stack([vector for _, vector in whole]), paths
            if on_progress is not None:
                on_progress(len(page))

    return write_store(batches(), folder, dimensions=index.encoder.dimensions, spec=index.extractor)
