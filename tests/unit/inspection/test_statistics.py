from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.encoder import AsymmetricEncoder
from deepterms.inspection.statistics import estimate_stats, sum_by_codeword
from deepterms.memory import memory_index

ENCODER = dt.DeepPermutation(16, top_k=4)


def test_statistics_equal_those_of_the_term_matrix() -> None:
    index = dt.MemoryIndex(ENCODER)
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    index.add([f"d{n}" for n in range(300)], rows)
    index.delete([f"d{n}" for n in range(100)])
    present = ENCODER.encode(rows[100:]).matrix.toarray() > 0  # (N, V)
    lists = present.sum(axis=0)
    stats = index.stats()
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
        stats = estimate_stats(
            np.arange(64, dtype=np.int32),
            drawn.sum(axis=0),
            encoder=dt.DeepPermutation(32, top_k=4),
            sampled=20,
            documents=5_000,
            size=0,
            segments=1,
            engine="x",
        )
        estimates.append(stats.postings_per_query)
    assert np.mean(estimates) == pytest.approx(exact, rel=0.02)


def clustered(seed: int) -> NDArray[np.float32]:
    """Generate 2,000 descriptors in groups of different size: lists of near pivots are long, of far ones short."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((30, 24))
    groups = (30 * rng.random(2_000) ** 2).astype(int)
    rows: NDArray[np.float32] = (centres[groups] + 0.6 * rng.standard_normal((2_000, 24))).astype(np.float32)
    return rows


def postings_read(encoder: dt.Encoder, rows: NDArray[np.float32]) -> float:
    """Count the postings in the lists of a query, on average."""
    lengths = np.bincount(encoder.encode(rows).matrix.indices, minlength=encoder.vocabulary_size)
    return float(lengths[encoder.encode_queries(rows).matrix.indices].sum()) / len(rows)


PIVOTS = dt.sample_pivots(clustered(5), 300)
ASYMMETRIC = [
    dt.PivotPermutation(PIVOTS, top_k=4, query_top_k=32),
    dt.PivotPermutation(PIVOTS, top_k=8, query_top_k=3, weights="ranks"),
    dt.PivotPairs(PIVOTS),
    dt.PairCodewords(24, rotations=2, rank_sum=14, query_rank_sum=9),
]


@pytest.mark.parametrize("encoder", ASYMMETRIC, ids=str)
def test_queries_with_other_codewords_than_documents(encoder: dt.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(6)
    assert isinstance(encoder, AsymmetricEncoder)
    exact = postings_read(encoder, rows)
    unlike = encoder.words_per_query / encoder.words_per_document

    def found(**options: Any) -> dt.IndexStats:
        index = dt.MemoryIndex(encoder, **options)
        index.add([str(row) for row in range(len(rows))], rows)
        return index.stats()

    assert found().postings_per_query == pytest.approx(exact, rel=0.1)
    assert found(store_vectors="int8").postings_per_query == pytest.approx(exact, rel=0.1)
    # Without vectors, only the number of codewords is known; still better than treating queries as documents.
    guessed = found(store_vectors=False).postings_per_query
    as_documents = guessed / unlike
    assert 1 / 3 < guessed / exact < 3
    assert abs(np.log(guessed / exact)) < abs(np.log(as_documents / exact))
    monkeypatch.setattr(memory_index, "MAX_QUERIES", len(rows))
    assert found().postings_per_query == pytest.approx(exact)


@pytest.mark.parametrize("encoder", ASYMMETRIC[:1] + ASYMMETRIC[2:], ids=str)
def test_a_sample_estimates_the_postings_of_queries(encoder: dt.Encoder) -> None:
    rows = clustered(7)
    exact = postings_read(encoder, rows)
    estimates = []
    for start in range(0, 2_000, 250):
        drawn = rows[start : start + 250]
        terms = encoder.encode(drawn).matrix
        codewords, counts = sum_by_codeword(terms.indices, np.ones(terms.nnz, dtype=np.int64))
        stats = estimate_stats(
            codewords,
            counts,
            encoder=encoder,
            sampled=250,
            documents=2_000,
            size=0,
            segments=1,
            engine="x",
            vectors=drawn[:100],
        )
        estimates.append(stats.postings_per_query)
    assert np.mean(estimates) == pytest.approx(exact, rel=0.1)
