from __future__ import annotations

import numpy as np
import pytest

import deepterms as dt
from deepterms.statistics import stats_of_counts

ENCODER = dt.DeepPermutation(16, top_k=4)


def test_statistics_in_memory_are_those_of_the_term_matrix() -> None:
    memory = dt.MemoryIndex(ENCODER)
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    memory.add([f"d{n}" for n in range(300)], rows)
    memory.delete([f"d{n}" for n in range(100)])
    present = ENCODER.encode(rows[100:]).matrix.toarray() > 0  # (N, V)
    lists = present.sum(axis=0)
    stats = memory.stats()
    assert (stats.documents, stats.sampled, stats.segments, stats.engine) == (200, 200, 1, "memory")
    assert stats.terms_per_document == 4
    assert stats.list_variation == pytest.approx(lists.std() / lists.mean())
    # A query reads the lists of its own codewords.
    assert stats.postings_per_query == pytest.approx(np.mean([lists[document].sum() for document in present]))
    assert len(stats.longest_lists) == 10
    assert stats.longest_lists[0] == dt.PostingList(f"t{lists.argmax()}", lists.max() / 200)
    assert stats.bytes > 200 * 16 * 4


def test_an_empty_index_has_statistics() -> None:
    stats = dt.MemoryIndex(ENCODER).stats()
    assert (stats.documents, stats.longest_lists, stats.postings_per_query, stats.list_variation) == (0, (), 0, 0)


def test_a_small_sample_estimates_without_bias() -> None:
    generator = np.random.default_rng(1)
    shares = generator.random(64) ** 3
    documents = generator.random((5_000, 64)) < shares
    lists = documents.sum(axis=0)
    exact = (lists.astype(np.float64) ** 2).sum() / 5_000
    estimates = []
    for _ in range(400):
        drawn = documents[generator.choice(5_000, 20, replace=False)]
        stats = stats_of_counts(
            np.arange(64, dtype=np.int32),
            drawn.sum(axis=0),
            vocabulary_size=64,
            sampled=20,
            documents=5_000,
            size=0,
            segments=1,
            engine="x",
        )
        estimates.append(stats.postings_per_query)
    assert np.mean(estimates) == pytest.approx(exact, rel=0.02)
