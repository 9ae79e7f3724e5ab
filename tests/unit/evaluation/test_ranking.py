from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepterms.evaluation import average_precision, trapezoid_average_precision
from deepterms.evaluation.ranking import NOT_FOUND, Ranking, compute_recalls
from tests.unit.evaluation.judged import clusters


@pytest.mark.parametrize("block", [1, 7, 64, 1_000])
@pytest.mark.parametrize("seed", range(3))
def test_streamed_ranks_equal_whole_rankings(block: int, seed: int) -> None:
    """Compared with ir-measures on whole rankings, with ties and with documents that are not returned."""
    collection = clusters(seed=seed)
    rng = np.random.default_rng(seed)
    N, Q, J = len(collection), len(collection.queries), len(collection.judged)
    scores: NDArray[np.float64] = rng.integers(0, 40, (Q, N)).astype(float)  # many ties
    for query, rows in enumerate(collection.relevant):
        scores[query, rows] += 20
    scores[rng.random((Q, N)) < 0.2] = NOT_FOUND
    ranking = Ranking(collection, hits=10)
    for start in range(0, J, block):
        ranking.note(start, scores[:, start : min(start + block, J)])
    for start in range(0, N, block):
        ranking.count(start, scores[:, start : start + block])

    # trec_eval ranks ties by id in descending order, so ids that count down put the lower number first.
    names = [f"{N - number:06d}" for number in range(N)]
    qrels = {str(query): {names[row]: 1 for row in rows} for query, rows in enumerate(collection.relevant)}
    run = {
        str(query): {
            names[number]: float(scores[query, number])
            for number in range(N)
            if scores[query, number] > NOT_FOUND and number not in collection.junk[query]
        }
        for query in range(Q)
    }
    np.testing.assert_allclose(
        ranking.compute_average_precisions("precisions"), list(average_precision(run, qrels).values()), atol=1e-9
    )
    np.testing.assert_allclose(
        ranking.compute_average_precisions("trapezoids"),
        list(trapezoid_average_precision(run, qrels).values()),
        atol=1e-9,
    )
    for query in range(Q):
        best = sorted(run[str(query)].items(), key=lambda hit: (-hit[1], -int(hit[0])))[:10]
        assert [names[number] for number in ranking.hits[query]] == [name for name, _ in best]
    assert ranking.touched_fraction == pytest.approx((scores > NOT_FOUND).mean())


def test_a_relevant_document_is_not_ahead_of_itself() -> None:
    """However a second computation of the same scores is rounded."""
    collection = clusters(distractors=0)
    scores = collection.queries @ np.concatenate([block for _, block in collection.blocks()]).T
    steady, shaken = Ranking(collection, hits=3), Ranking(collection, hits=3)
    for ranking, again in ((steady, scores), (shaken, np.nextafter(scores, np.float32(2)))):
        ranking.note(0, scores)
        ranking.count(0, again)
    np.testing.assert_array_equal(
        shaken.compute_average_precisions("precisions"), steady.compute_average_precisions("precisions")
    )


def test_recalls_match_values_computed_by_hand() -> None:
    found = np.array([[3, 1, -1], [5, 6, 7], [-1, -1, -1]])
    true = np.array([[1, 2, 3], [7, -1, -1], [1, 2, 3]])
    np.testing.assert_allclose(compute_recalls(found, true), [2 / 3, 1, 0])
