"""Code as users write it, never run, but checked by mypy --strict: what an editor must know of deepterms.

A line with `type: ignore[…]` is a mistake that the types must catch: with `warn_unused_ignores`, which strict switches
on, the check fails if they do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from numpy.typing import ArrayLike, NDArray
from opensearchpy import OpenSearch
from typing_extensions import assert_type

import deepterms as dt
from deepterms.errors import ClusterError, DeepTermsError, InvalidInput, RequestRejected, UnreadableImages
from deepterms.features import FeatureStore, extract_to_store, read_npy


def index_and_search(cluster: OpenSearch | Elasticsearch, features: NDArray[np.float32], ids: list[str]) -> list[str]:
    report = dt.deploy(cluster)
    assert_type(report, dt.DeploymentReport)
    encoder = dt.DeepPermutation(dimensions=2048, top_k=100)
    index = dt.SurrogateIndex.create(cluster, "holidays", encoder=encoder, store_vectors=True)
    assert_type(index, dt.SurrogateIndex)
    added = index.add(ids, features, metadata=[{"path": name} for name in ids])
    assert_type(added.succeeded, int)
    for failure in added.failed:
        print(failure.id, failure.reason)
    hits = index.search(features[0], k=10, filter={"term": {"metadata.year": 2018}}, rerank=1000)
    assert_type(hits, dt.Hits)
    for hit in hits:
        assert_type(hit, dt.Hit)
        assert_type(hit.score, float)
        assert_type(hit.metadata, Mapping[str, Any])
    assert_type(hits[0], dt.Hit)
    assert_type(hits[:3], tuple[dt.Hit, ...])
    document = index.get("img_17")
    assert_type(document, dt.StoredDocument | None)
    if document is not None and document.vector is not None:
        assert_type(document.vector, NDArray[np.float32])
    return hits.ids


def either(indices: Sequence[dt.SurrogateIndex | dt.MemoryIndex], feature: list[float]) -> int:
    """Both indices have the same methods."""
    found = 0
    for index in indices:
        index.add(["a"], [feature])
        index.refresh()
        found += len(index.search(feature, k=3)) + len(index.search_by_id("a", k=3, rerank=0)) + index.count()
        found += sum(len(hits) for hits in index.search_many([feature], k=3, effort=0.5, fields=["path"]))
        index.delete(["a"])
    return found


def stream(index: dt.SurrogateIndex, store: FeatureStore) -> dt.WriteReport:
    def batches() -> Iterator[tuple[Sequence[str], ArrayLike, Sequence[Mapping[str, Any]] | None]]:
        for batch in store.batches():
            yield batch.ids, batch.features, batch.items

    return index.add_batches(batches(), threads=4, on_progress=print)


def describe(folder: Path) -> NDArray[np.float32]:
    extractor = dt.RMACExtractor("resnet101", sizes=(550, 800, 1050), whitening=None)
    try:
        features = extractor.extract(dt.features.find_images(folder))
    except UnreadableImages as error:
        print([failure.path for failure in error.failures])
        raise
    assert_type(features, NDArray[np.float32])
    assert_type(extract_to_store(extractor, folder, folder / "store").store, FeatureStore)
    assert_type(dt.PCAWhitening.fit(features).apply(features), NDArray[np.float32])
    return read_npy(folder / "x.npy", folder / "ids.txt").features_of(["a"])


@dataclass(frozen=True)
class SignEncoder:
    """An encoder of one's own needs no base class."""

    dimensions: int

    @property
    def vocabulary_size(self) -> int:
        return self.dimensions

    @property
    def max_term_frequency(self) -> int:
        return 1

    @property
    def max_words(self) -> int:
        return self.dimensions

    def encode(self, features: ArrayLike) -> dt.TermFrequencies:
        positive = (np.atleast_2d(np.asarray(features)) > 0).astype(np.int32)
        rows = [{f"t{component}": 1 for component in np.flatnonzero(row).tolist()} for row in positive]
        return dt.TermFrequencies.from_terms(rows, vocabulary_size=self.dimensions)

    def encode_queries(self, features: ArrayLike) -> dt.TermFrequencies:
        return self.encode(features)

    def spec(self) -> dict[str, Any]:
        return {"type": "sign", "dimensions": self.dimensions}


def own_encoder() -> dt.MemoryIndex:
    encoder: dt.Encoder = SignEncoder(8)
    return dt.MemoryIndex(encoder, store_vectors=False)


def errors(cluster: OpenSearch) -> None:
    try:
        dt.SurrogateIndex.open(cluster, "holidays")
    except RequestRejected as error:
        assert_type(error.status, int)
    except ClusterError:
        raise
    except (InvalidInput, DeepTermsError) as error:
        print(error)


def evaluate(runs: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]) -> float:
    assert_type(dt.evaluation.average_precision(runs, qrels), dict[str, float])
    return dt.evaluation.mean_average_precision(dt.evaluation.without_self(runs), qrels)


def mistakes(index: dt.SurrogateIndex, memory: dt.MemoryIndex, feature: NDArray[np.float32]) -> None:
    index.search(feature, 10)  # type: ignore[call-arg]
    index.search(feature, k="10")  # type: ignore[arg-type]
    index.search(feature, filter="metadata.year:2018")  # type: ignore[arg-type]
    index.search_many(feature, k="10")  # type: ignore[arg-type]
    index.search_by_id("a", efort=0.5)  # type: ignore[call-arg]
    memory.search_many(feature, min_score="high")  # type: ignore[arg-type]
    memory.get(1.7)  # type: ignore[arg-type]
    dt.DeepPermutation(dimensions="2048")  # type: ignore[arg-type]
    dt.MemoryIndex(object())  # type: ignore[arg-type]
    index.get("a").vector  # type: ignore[union-attr]  # noqa: B018
    dt.SurrogateIndex.create(OpenSearch(), "x")  # type: ignore[call-overload]
    for hit in index.search(feature):
        hit.score = 1.0  # type: ignore[misc]
