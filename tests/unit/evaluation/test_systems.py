from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import InvalidInput, MissingExtra
from deepterms.evaluation import JudgedFeatures, MixedFeatures, measure
from deepterms.evaluation.systems import (
    HNSW,
    IVFPQ,
    ExactCosine,
    InvertedPermutations,
    PermutationScan,
    choose_cells,
    choose_code_bytes,
)
from deepterms.memory import MemoryIndex
from deepterms.permutations import inverted_permutations, spearman_rho
from tests.unit.evaluation.judged import D, clusters


def _documents(collection: JudgedFeatures) -> NDArray[np.float32]:
    return np.concatenate([block for _, block in collection.blocks()])


def test_permutations_rank_as_the_index_does() -> None:
    """AP, postings and touched documents equal those of MemoryIndex, which agrees with the engines."""
    collection = clusters()
    encoder = DeepPermutation(D, top_k=6)
    exact, inverted = measure(collection, [InvertedPermutations(encoder)])
    index = MemoryIndex(encoder)
    documents = _documents(collection)
    index.add([f"{number:05d}" for number in range(len(documents))], documents)
    precisions, touched = [], []
    for query, feature in enumerate(collection.queries):
        hits = index.search(feature, k=len(documents), rerank=0)
        touched.append(len(hits))
        ids = [int(id) for id in hits.ids if int(id) not in collection.junk[query]]
        ranks = [rank for rank, id in enumerate(ids, start=1) if id in collection.relevant[query]]
        precisions.append(sum(n / rank for n, rank in enumerate(ranks, start=1)) / len(collection.relevant[query]))
    np.testing.assert_allclose(inverted.average_precisions, precisions)
    assert inverted.touched_fraction == pytest.approx(np.mean(touched) / len(documents))
    terms, asked = encoder.encode(documents).matrix, encoder.encode(collection.queries).matrix
    shared = (asked.toarray() > 0).astype(int) @ (terms.toarray() > 0).astype(int).T
    assert inverted.postings_per_query == pytest.approx(shared.sum(axis=1).mean())
    shares = (terms.toarray() > 0).mean(axis=0)
    assert inverted.afda_sum == pytest.approx((shares**2).sum())
    assert inverted.afda_mean == pytest.approx((shares**2).mean())
    assert exact.mean_average_precision > inverted.mean_average_precision
    assert exact.recalls.min() == 1.0


def test_a_scan_ranks_by_spearmans_rho() -> None:
    collection = clusters(distractors=50)
    encoder = DeepPermutation(D, top_k=D, crelu=False)
    _, scanned = measure(collection, [PermutationScan(encoder, name="full")])
    documents = inverted_permutations(_documents(collection))
    precisions = []
    for query, feature in enumerate(collection.queries):
        distances = spearman_rho(documents, inverted_permutations(feature))
        order = [n for n in np.argsort(distances, kind="stable") if n not in collection.junk[query]]
        ranks = np.flatnonzero(np.isin(order, collection.relevant[query])) + 1
        precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
    np.testing.assert_allclose(scanned.average_precisions, precisions)
    assert scanned.touched_fraction == 1.0
    assert scanned.postings_per_query == len(collection)
    assert scanned.stored_bytes == 2 * D * len(collection)


def test_ivfpq_scores_as_faiss_searches() -> None:
    faiss = pytest.importorskip("faiss")
    collection = clusters(distractors=2_000)
    documents = _documents(collection)
    system = IVFPQ(documents, cells=16, code_bytes=8, probes=(1, 4, 16))
    system.start(collection.queries)
    scores = system.score(documents)
    system.index.add(documents)
    for probe, ours in zip(system.probes, scores, strict=True):
        parameters = faiss.SearchParametersIVF(nprobe=probe)
        theirs, numbers = system.index.search(collection.queries, 50, params=parameters)
        for query in range(len(collection.queries)):
            np.testing.assert_allclose(np.sort(ours[query])[::-1][:50], theirs[query], atol=1e-5)
            np.testing.assert_allclose(ours[query, numbers[query]], theirs[query], atol=1e-5)


def test_more_probes_read_and_find_more() -> None:
    pytest.importorskip("faiss")
    collection = clusters(distractors=2_000)
    _, few, many = measure(collection, [IVFPQ(_documents(collection), cells=16, code_bytes=8, probes=(1, 16, 99))])
    assert (few.setting, many.setting) == ("1 of 16 cells", "16 of 16 cells")
    assert few.touched_fraction < 0.2
    assert many.touched_fraction == 1.0
    assert few.mean_average_precision < many.mean_average_precision


def test_hnsw_with_a_large_breadth_is_nearly_exact() -> None:
    pytest.importorskip("faiss")
    collection = clusters()
    exact, narrow, broad = measure(collection, [], graphs=[HNSW(D, breadths=(1, 400))])
    assert broad.mean_average_precision == pytest.approx(exact.mean_average_precision, abs=0.01)
    assert narrow.mean_average_precision < broad.mean_average_precision
    assert narrow.postings_per_query < broad.postings_per_query
    assert broad.recalls.mean() > 0.99


def test_exact_cosine_is_measured_once() -> None:
    assert [found.system for found in measure(clusters(), [ExactCosine()])] == ["exact cosine"]


def test_default_cells_and_code_bytes() -> None:
    assert choose_cells(1_000_000, training_rows=10**6) == 1_024
    assert choose_cells(1_000_000, training_rows=39 * 300) == 256
    assert choose_cells(1, training_rows=1) == 1
    assert [choose_code_bytes(dimensions) for dimensions in (1_280, 2_048, 100, 7)] == [128, 128, 10, 1]


def test_invalid_ivfpq_and_hnsw_settings_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.ones((100, D), dtype=np.float32)
    with pytest.raises(InvalidInput, match="100 rows cannot train 16 cells"):
        IVFPQ(rows, cells=16, code_bytes=8, probes=(1,))
    with pytest.raises(InvalidInput, match="code_bytes is 5"):
        IVFPQ(np.ones((300, D), dtype=np.float32), cells=16, code_bytes=5, probes=(1,))
    with pytest.raises(InvalidInput, match="breadths"):
        HNSW(D, breadths=())
    monkeypatch.setitem(sys.modules, "faiss", None)
    for make in (
        lambda: HNSW(D, breadths=(1,)),
        lambda: IVFPQ(np.tile(rows, (3, 1)), cells=2, code_bytes=8, probes=(1,)),
    ):
        with pytest.raises(MissingExtra, match=r'pip install "deepterms\[evaluate\]"'):
            make()


def _peak(distractors: int) -> int:
    """Measure the peak memory in bytes while a collection is streamed."""
    collection = clusters(groups=5, distractors=0)
    base = np.concatenate(list(collection.judged.blocks()))
    streamed = replace(collection, distractors=(MixedFeatures(base, distractors),))
    systems = [InvertedPermutations(DeepPermutation(D, top_k=4))]
    tracemalloc.start()
    try:
        measure(streamed, systems)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_distractors() -> None:
    _peak(100)  # warm up imports and caches
    assert _peak(80_000) < 1.1 * _peak(20_000)
