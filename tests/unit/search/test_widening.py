"""The breadth of a filtered search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.encoders.encoder import AsymmetricEncoder, Encoder, WideningEncoder
from deepterms.encoders.pivots.nearest import NearestPivots
from deepterms.encoders.pivots.pairs import PivotPairs
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.errors import InvalidInput
from deepterms.search import widening
from deepterms.search.options import SearchOptions
from deepterms.search.widening import (
    DEFAULT_BREADTH,
    Breadth,
    build_query_terms,
    choose_breadth,
    keep_largest_components,
    needs_widening,
)

DIMENSIONS = 16
ROWS = np.random.default_rng(5).standard_normal((3_000, DIMENSIONS)).astype(np.float32)
ENCODER = PivotPermutation(Pivots(ROWS[:1_000]), top_k=4, query_top_k=8)
PAIRS = PivotPairs(Pivots(ROWS[:150]), top_k=4, query_top_k=6)
FILTER = {"term": {"metadata.kept": True}}


def test_only_reranked_searches_of_few_codewords_widen() -> None:
    components = dt.DeepPermutation(DIMENSIONS, top_k=8)
    assert isinstance(ENCODER, WideningEncoder)
    assert isinstance(PAIRS, WideningEncoder)
    assert not isinstance(dt.PairCodewords(DIMENSIONS, rank_sum=9), WideningEncoder)
    assert isinstance(dt.PairCodewords(DIMENSIONS, rank_sum=9), AsymmetricEncoder)
    assert not isinstance(components, WideningEncoder)
    assert needs_widening(ENCODER, window=200)
    assert not needs_widening(ENCODER, window=0)
    assert not needs_widening(components, window=200)
    assert choose_breadth(components, kept=10, documents=100_000, window=200) == DEFAULT_BREADTH


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (0, DEFAULT_BREADTH),
        (1, Breadth(exact=True)),
        (2_000, Breadth(exact=True)),
        (2_001, Breadth(codewords=100, window=800)),  # each of the 1,000 codewords finds 8.004 of them
        (10_000, Breadth(codewords=20, window=800)),
        (20_000, Breadth(codewords=10, window=800)),
        (500_000, Breadth(codewords=8, window=400)),
        (999_999, Breadth(codewords=8, window=201)),
        (1_000_000, DEFAULT_BREADTH),
    ],
)
def test_a_filter_adds_candidates_and_codewords_to_find_them(kept: int, expected: Breadth) -> None:
    assert choose_breadth(ENCODER, kept=kept, documents=1_000_000, window=200) == expected


@pytest.mark.parametrize(
    ("kept", "documents", "window", "expected"),
    [
        (5_000, 10_000, 4_000, Breadth(codewords=16, window=8_000)),  # since a half is kept
        (2_000, 10_000, 2_000, Breadth(codewords=40, window=8_000)),  # since a fifth is kept
        (4_000, 1_000_000, 2_000, Breadth(codewords=500, window=8_000)),
        (5_000, 1_000_000, 3_000, Breadth(codewords=600, window=10_000)),
        (20_000, 1_000_000, 12_000, Breadth(codewords=400, window=12_000)),
    ],
)
def test_codewords_grow_no_more_than_the_filter_narrows(
    kept: int, documents: int, window: int, expected: Breadth
) -> None:
    assert choose_breadth(ENCODER, kept=kept, documents=documents, window=window, exact=False) == expected


def test_effort_scales_codewords_once() -> None:
    few = choose_breadth(ENCODER, kept=500_000, documents=1_000_000, window=200, effort=0.3)
    assert few == Breadth(codewords=3, window=400)
    wider = choose_breadth(ENCODER, kept=5_000, documents=10_000, window=4_000, effort=0.3, exact=False)
    assert wider == Breadth(codewords=6, window=8_000)
    asked = SearchOptions(k=5, filter=FILTER, effort=0.3, rerank=4_000)
    assert wider.widen(asked) == SearchOptions(k=5, filter=FILTER, effort=0.3, rerank=8_000)
    assert DEFAULT_BREADTH.widen(asked) == asked
    assert Breadth(exact=True).widen(asked) == asked


def test_exact_comparison_where_codewords_find_too_few() -> None:
    many = PivotPermutation(Pivots(np.tile(ROWS, (10, 1))), top_k=1, query_top_k=8)
    # 768 of 30,000 codewords find 2.6 % of 5,000.
    assert choose_breadth(many, kept=5_000, documents=1_000_000, window=200) == Breadth(exact=True)
    widest = Breadth(codewords=768, window=800)
    assert choose_breadth(many, kept=5_000, documents=1_000_000, window=100) == replace(widest, window=400)
    assert choose_breadth(many, kept=5_000, documents=1_000_000, window=200, exact=False) == widest
    assert choose_breadth(many, kept=10_001, documents=1_000_000, window=500) == replace(widest, window=2_000)
    deepest = replace(widest, window=10_000)
    assert choose_breadth(many, kept=3_000, documents=1_000_000, window=3_000, exact=False) == deepest


def test_more_documents_are_compared_by_sketch() -> None:
    found = [
        choose_breadth(ENCODER, kept=kept, documents=1_000_000, window=200, sketch=True)
        for kept in (1_000, 1_001, 60_000, 60_001)
    ]
    whole, sketched = Breadth(exact=True), Breadth(exact=True, sketched=True)
    assert found == [whole, sketched, sketched, Breadth(codewords=8, window=800)]


def test_a_wider_query_contains_the_default_one() -> None:
    default = build_query_terms(ENCODER, ROWS[:5], DEFAULT_BREADTH)
    wider = build_query_terms(ENCODER, ROWS[:5], Breadth(codewords=40))
    for narrow, wide in zip(default.to_terms(), wider.to_terms(), strict=True):
        assert (len(narrow), len(wide)) == (8, 40)
        assert narrow.items() <= wide.items()
        assert min(narrow.values()) >= max(wide[name] for name in wide.keys() - narrow.keys())
    for count in (0, 1_001):
        with pytest.raises(InvalidInput, match="expected 1 to 1000"):
            ENCODER.encode_wider_queries(ROWS[:1], words_per_query=count)


@pytest.mark.parametrize("encoder", [ENCODER, dt.DeepPermutation(DIMENSIONS, top_k=8)], ids=["pivots", "components"])
@pytest.mark.parametrize(("effort", "named"), [(1.0, 8), (0.5, 4), (0.3, 3), (0.01, 1)])
def test_less_effort_keeps_the_largest_codewords(encoder: Encoder, effort: float, named: int) -> None:
    for row in range(5):
        query = ROWS[row : row + 1]
        cut = build_query_terms(encoder, query, effort=effort).to_terms()
        assert len(cut[0]) == named
        assert cut == keep_largest_components(build_query_terms(encoder, query), effort).to_terms()


def test_less_effort_searches_fewer_pivots(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for = []
    nearest = NearestPivots.find

    def counted(self: NearestPivots, features: Any, count: int) -> Any:
        looked_for.append(count)
        return nearest(self, features, count)

    monkeypatch.setattr(NearestPivots, "find", counted)
    for effort, breadth_ in ((1.0, DEFAULT_BREADTH), (0.5, DEFAULT_BREADTH), (0.5, Breadth(codewords=40))):
        build_query_terms(ENCODER, ROWS[:1], breadth_, effort=effort)
    assert looked_for == [8, 4, 40]


def test_pairs_widen_by_whole_pivots() -> None:
    assert (PAIRS.words_per_document, PAIRS.words_per_query) == (6, 15)
    found = [
        choose_breadth(PAIRS, kept=20_000, documents=documents, window=3_000).codewords
        for documents in (40_000, 10**6, 10**8)
    ]
    assert found == [30, 750, 768]
    default = build_query_terms(PAIRS, ROWS[:5], DEFAULT_BREADTH).to_terms()
    for codewords, named in ((1, 1), (2, 1), (15, 15), (20, 15), (21, 21), (768, 741), (PAIRS.vocabulary_size, 11_175)):
        wider = build_query_terms(PAIRS, ROWS[:5], Breadth(codewords=codewords)).to_terms()
        for narrow, wide in zip(default, wider, strict=True):
            assert len(wide) == named
            assert narrow.items() <= wide.items() or named < len(narrow)
    for count in (0, PAIRS.vocabulary_size + 1):
        with pytest.raises(InvalidInput, match="expected 1 to 11175"):
            PAIRS.encode_wider_queries(ROWS[:1], words_per_query=count)


@pytest.mark.parametrize("encoder", [ENCODER, PAIRS], ids=["pivots", "pairs"])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("compared", [0, 2_000])
def test_recall_holds_behind_a_filter(
    encoder: dt.Encoder, share: float, compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widening, "MAX_COMPARED", compared)
    monkeypatch.setattr(widening, "COMPARED_IF_FEW_FOUND", compared)
    index = dt.MemoryIndex(encoder)
    kept = np.random.default_rng(6).random(len(ROWS)) < share
    index.add([str(row) for row in range(len(ROWS))], ROWS, [{"kept": bool(keep)} for keep in kept])
    queries = ROWS[:20] + np.random.default_rng(7).normal(scale=0.5, size=(20, DIMENSIONS)).astype(np.float32)
    normalised = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)

    def recall(options: dict[str, Any], among: np.ndarray[Any, Any]) -> float:
        found = 0
        for query in queries:
            (rows,) = np.nonzero(among)
            best = rows[np.argsort(-(normalised[rows] @ query))[:10]]
            found += len({str(row) for row in best} & set(index.search(query, rerank=100, **options).ids))
        return found / (10 * len(queries))

    everywhere = recall({}, np.ones(len(ROWS), dtype=bool))
    assert 0.5 < everywhere < 1
    assert recall({"filter": FILTER}, kept) >= (1.0 if kept.sum() <= compared else everywhere - 0.03)
    # Without re-ranking, the score is the plain dot product and nothing is widened.
    plain = index.search(queries[0], rerank=0, filter=FILTER, k=3_000)
    assert plain.ids == [hit.id for hit in index.search(queries[0], rerank=0, k=3_000) if kept[int(hit.id)]]
