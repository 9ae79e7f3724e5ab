"""Tuning of an index in a cluster: draws its queries, measures it, and stores the result in its mapping."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import is_incomplete
from deepterms.encoders.arrays import Features
from deepterms.encoders.inputs import check_features
from deepterms.errors import ClusterError, InvalidInput
from deepterms.index.handle import IndexHandle, read_again
from deepterms.results import Hits
from deepterms.schema.index_spec import IndexState
from deepterms.schema.stored_documents import read_vector
from deepterms.schema.tuning import DEFAULT_RECALL, Tuning, check_recall
from deepterms.search.options import SearchOptions
from deepterms.search.request import guard_clauses
from deepterms.search.searcher import Searcher
from deepterms.storage.concrete_index import write_tuning
from deepterms.tuning.measurement import OnTuningProgress, Queries, TuningTask
from deepterms.tuning.progress import TuningState

__all__ = ["tune_index"]

MAX_SAMPLE = 2_000


def tune_index(
    handle: IndexHandle,
    *,
    recall: float | None,
    queries: Features | None,
    sample: int,
    throttle: float,
    state: str | Path | None,
    on_progress: OnTuningProgress | None,
    seed: int,
) -> Tuning:
    """Implement `SurrogateIndex.tune`."""
    if not 1 <= sample <= MAX_SAMPLE:
        raise InvalidInput(f"sample is {sample}; expected 1 to {MAX_SAMPLE:,} documents")
    if not throttle >= 0:
        raise InvalidInput(f"throttle is {throttle}; expected 0 or more: seconds to pause per second of searching")
    index = read_again(handle)
    if not index.spec.stores_vectors:
        raise InvalidInput(
            f"{handle.name!r} stores no vectors, so its nearest documents cannot be found; create an index that does"
        )
    before = index.tuning
    wanted = check_recall(recall) if recall is not None else DEFAULT_RECALL if before is None else before.recall
    searcher = Searcher(handle.cluster, index, handle.counts)
    documents = _count(searcher)
    asked = _draw_documents(searcher, sample, seed) if queries is None else _take(queries, index)
    digest = hashlib.sha256(asked.vectors.tobytes()).hexdigest()[:16]
    about = {"index": dict(index.uuids), "fingerprint": index.spec.fingerprint, "queries": digest}
    task = TuningTask(
        ask=lambda query, options: _ask(searcher, query, options),
        queries=asked,
        documents=documents,
        encoder=index.spec.encoder,
        recall=wanted,
        native=index.spec.is_native,
        throttle=throttle,
        on_progress=on_progress or (lambda *_: None),
        state=TuningState(None if state is None else Path(state), about),
    )
    tuning = task.run()
    ((concrete, uuid),) = index.uuids.items()
    write_tuning(handle.cluster, concrete, tuning, uuid=uuid)
    handle.warned.clear()
    read_again(handle)
    return tuning


def _ask(searcher: Searcher, query: NDArray[np.float32], options: SearchOptions) -> Hits:
    outcome = searcher.search(query, options)
    if not outcome.indices <= searcher.index.uuids.keys():
        raise ClusterError(f"{searcher.index.name!r} was replaced while it was measured; tune it again")
    return outcome.hits[0]


def _count(searcher: Searcher) -> int:
    answer = searcher.cluster.request("POST", build_index_path(searcher.index.name, "/_count"))
    if is_incomplete(answer):
        raise ClusterError(f"a shard of {searcher.index.name!r} did not answer while documents were counted; try again")
    return int(answer["count"])


def _take(queries: Features, index: IndexState) -> Queries:
    return Queries(check_features(queries, dimensions=index.spec.encoder.dimensions))


def _draw_documents(searcher: Searcher, sample: int, seed: int) -> Queries:
    """Draw documents that have a vector, at random; the same ones for the same seed while nothing is written."""
    index = searcher.index
    body = {
        "query": {
            "function_score": {
                "query": {"bool": {"filter": [{"exists": {"field": "vector"}}, *guard_clauses(index)]}},
                "random_score": {"seed": seed, "field": "_seq_no"},
                "boost_mode": "replace",
            }
        },
        "size": sample,
        "_source": False,
        "docvalue_fields": ["vector"],
    }
    answer = searcher.cluster.request("POST", build_index_path(index.name, "/_search"), body=body)
    if is_incomplete(answer):
        raise ClusterError("a shard failed or timed out while documents were drawn; try again")
    spec = index.spec
    found = [
        (str(hit["_id"]), read_vector(hit, spec.vector_type, dimensions=spec.encoder.dimensions))
        for hit in answer["hits"]["hits"]
    ]
    drawn = [(identifier, vector) for identifier, vector in found if vector is not None]
    vectors = np.array([vector for _, vector in drawn], dtype=np.float32).reshape(-1, spec.encoder.dimensions)
    return Queries(vectors, tuple(identifier for identifier, _ in drawn))
