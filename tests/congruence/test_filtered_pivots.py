"""Filtered searches of few codewords widen equally on every engine: MemoryIndex = OpenSearch = Elasticsearch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.encoders.encoder import WideningEncoder
from deepterms.encoders.pivots.pairs import PivotPairs
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.errors import RequestRejected
from deepterms.search import widening

DIMENSIONS = 32
DOCUMENTS = 2_000
RERANK = 250
ROWS = np.random.default_rng(8).standard_normal((DOCUMENTS, DIMENSIONS)).astype(np.float32)
QUERIES = np.random.default_rng(9).standard_normal((6, DIMENSIONS)).astype(np.float32)
DRAWS = np.random.default_rng(10).permutation(DOCUMENTS) / DOCUMENTS
# Encoder, and the number of documents to compare one by one if a query would find too few.
ENCODERS: dict[str, tuple[WideningEncoder, int]] = {
    "pivots": (PivotPermutation(Pivots(ROWS[:800]), top_k=3, query_top_k=8), 10_000),
    "pairs": (PivotPairs(Pivots(ROWS[:40]), top_k=4, query_top_k=5), 0),
}


def kept(share: float) -> dict[str, Any]:
    return {"range": {"metadata.draw": {"lt": share}}}


def candidates(encoder: WideningEncoder, share: float) -> int:
    """Return the largest number of candidates that a widened query finds."""
    chosen = share > DRAWS
    breadth_ = widening.choose_breadth(encoder, kept=int(chosen.sum()), documents=DOCUMENTS, window=RERANK)
    asked = widening.build_query_terms(encoder, QUERIES, breadth_).matrix
    scores = (encoder.encode(ROWS).matrix @ asked.T).toarray()
    return int((scores[chosen] > 0).sum(axis=0).max())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("shards", [1, 3])
def test_filtered_searches_agree_with_the_reference(
    cluster: Any, unique_name: str, name: str, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, few = ENCODERS[name]
    monkeypatch.setattr(widening, "MAX_COMPARED", 100)
    monkeypatch.setattr(widening, "COMPARED_IF_FEW_FOUND", few)
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(
        cluster, unique_name, encoder=encoder, layout="codewords", compare="script", shards=shards, replicas=0
    )
    reference = dt.MemoryIndex(encoder)
    ids = [f"d{row:04}" for row in range(DOCUMENTS)]
    for target in (index, reference):
        report = target.add(ids, ROWS, metadata=[{"draw": float(draw)} for draw in DRAWS])
        assert report == dt.WriteReport(DOCUMENTS)
        target.refresh()
    # Exhaustive comparison, a widened query, the usual query, and filters that keep nothing or everything.
    for share, effort in ((0.0, 1.0), (0.04, 1.0), (0.2, 1.0), (0.6, 1.0), (0.6, 0.5), (2.0, 1.0)):
        options: dict[str, Any] = {"filter": kept(share), "rerank": RERANK, "k": 20, "effort": effort}
        assert share == 0.04 or candidates(encoder, share) <= RERANK  # so that no tie crosses the edge of the window
        many = [target.search_many(QUERIES, **options) for target in (index, reference)]
        for query, found, expected in zip(QUERIES, *many, strict=True):
            assert found.error == expected.error == ""
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
            one = index.search(query, **options)
            assert [hit.id for hit in one] == [hit.id for hit in found]
            assert len(found) == (0 if share == 0.0 else 20)
            assert all(hit.metadata["draw"] < share for hit in found)
    # The filter keeps 80 documents, and all of them are compared.
    chosen = np.flatnonzero(DRAWS < 0.04)
    cosines = ROWS[chosen] @ QUERIES[0] / np.linalg.norm(ROWS[chosen], axis=1)
    exact = [ids[chosen[place]] for place in np.argsort(-cosines)[:20]]
    assert [hit.id for hit in index.search(QUERIES[0], k=20, filter=kept(0.04))] == exact
    by_id = [target.search_by_id("d0007", k=5, filter=kept(0.2), rerank=RERANK) for target in (index, reference)]
    assert [hit.id for hit in by_id[0]] == [hit.id for hit in by_id[1]]
    with pytest.raises(RequestRejected, match="no such query"):
        index.search(QUERIES[0], filter={"no such query": {}})
    # A filter that kept nothing is counted again after any client adds a matching document.
    found = []
    for target, other in ((index, dt.SurrogateIndex.open(cluster, unique_name)), (reference, reference)):
        only = {"term": {"metadata.draw": 7.5}}
        assert len(target.search(-QUERIES[0], filter=only)) == 0
        assert other.add(["late"], QUERIES[:1], metadata=[{"draw": 7.5}]) == dt.WriteReport(1)
        other.refresh()
        found.append(target.search(-QUERIES[0], filter=only))
    assert found[0].ids == found[1].ids == ["late"]  # compared even though it shares no codeword
