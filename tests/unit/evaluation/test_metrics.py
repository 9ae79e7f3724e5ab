from __future__ import annotations

import sys

import pytest

from deepterms.errors import InvalidInput, MissingExtra
from deepterms.evaluation import (
    average_precision,
    mean_average_precision,
    recall_at,
    trapezoid_average_precision,
    without_junk,
    without_self,
)

# Ranking a b c d; relevant a and c: precision 1/1 at a and 2/3 at c.
RANKING = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}


def test_average_precision_matches_manual_values() -> None:
    assert average_precision({"q": RANKING}, {"q": {"a": 1, "c": 1}}) == {"q": pytest.approx((1 / 1 + 2 / 3) / 2)}
    assert average_precision({"q": RANKING}, {"q": {"d": 1}}) == {"q": pytest.approx(1 / 4)}


def test_an_unranked_relevant_document_counts_as_zero() -> None:
    assert average_precision({"q": RANKING}, {"q": {"a": 1, "elsewhere": 1}}) == {"q": pytest.approx(1 / 2)}


def test_a_grade_of_zero_is_not_relevant() -> None:
    assert average_precision({"q": RANKING}, {"q": {"a": 0, "b": 1}}) == {"q": pytest.approx(1 / 2)}


def test_the_mean_covers_the_queries_in_the_qrels() -> None:
    qrels = {"answered": {"a": 1}, "unanswered": {"a": 1}, "empty": {"a": 1}}
    run = {"answered": RANKING, "empty": {}, "not judged": RANKING}
    assert average_precision(run, qrels) == {"answered": 1.0, "unanswered": 0.0, "empty": 0.0}
    assert mean_average_precision(run, qrels) == pytest.approx(1 / 3)


def test_ties_are_ranked_by_id_in_descending_order() -> None:
    tied = {"q": {"a": 1.0, "b": 1.0, "c": 1.0}}
    assert average_precision(tied, {"q": {"c": 1}}) == {"q": 1.0}
    assert average_precision(tied, {"q": {"a": 1}}) == {"q": pytest.approx(1 / 3)}


def test_integer_scores_are_accepted() -> None:
    assert mean_average_precision({"q": {"a": 1, "b": 2}}, {"q": {"a": 1}}) == pytest.approx(1 / 2)


def test_recall_matches_manual_values() -> None:
    run, qrels = {"q": RANKING, "r": {}}, {"q": {"a": 1, "c": 1, "elsewhere": 1}, "r": {"a": 1}}
    assert recall_at(run, qrels, 1) == pytest.approx((1 / 3 + 0) / 2)
    assert recall_at(run, qrels, 2) == pytest.approx((1 / 3 + 0) / 2)
    assert recall_at(run, qrels, 3) == pytest.approx((2 / 3 + 0) / 2)


def test_without_self_removes_only_the_query_itself() -> None:
    run = {"a": {"a": 9.0, "b": 1.0}, "b": {"a": 2.0}}
    assert without_self(run) == {"a": {"b": 1.0}, "b": {"a": 2.0}}
    assert run["a"] == {"a": 9.0, "b": 1.0}


def test_qrels_without_relevant_documents_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        mean_average_precision({"q": RANKING}, {})
    with pytest.raises(InvalidInput, match="no relevant document for lonely"):
        mean_average_precision({"q": RANKING}, {"q": {"a": 1}, "lonely": {"b": 0}})
    with pytest.raises(InvalidInput, match="k is 0"):
        recall_at({"q": RANKING}, {"q": {"a": 1}}, 0)


def test_missing_ir_measures_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtra, match=r'pip install "deepterms\[evaluate\]"'):
        mean_average_precision({"q": RANKING}, {"q": {"a": 1}})


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        # As in holidays_map.py: (precision before + precision at the rank) / 2; before rank 1 it is 1.
        ({"a", "c"}, ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2),
        ({"d"}, (0 + 1 / 4) / 2),
        ({"a", "elsewhere"}, ((1 + 1) / 2 + 0) / 2),
        ({"a", "b", "c", "d"}, 1.0),
        ({"elsewhere"}, 0.0),
    ],
)
def test_trapezoid_ap_matches_manual_values(relevant: set[str], expected: float) -> None:
    qrels = {"q": dict.fromkeys(relevant, 1)}
    assert trapezoid_average_precision({"q": RANKING}, qrels) == {"q": pytest.approx(expected)}
    # Never above trec_eval's AP.
    assert trapezoid_average_precision({"q": RANKING}, qrels)["q"] <= average_precision({"q": RANKING}, qrels)["q"]


def test_trapezoid_ap_rejects_the_same_qrels() -> None:
    with pytest.raises(InvalidInput, match="no relevant document for lonely"):
        trapezoid_average_precision({}, {"lonely": {"b": 0}})
    assert trapezoid_average_precision({}, {"q": {"a": 1}}) == {"q": 0.0}


def test_junk_is_removed_only_for_its_own_query() -> None:
    run = {"q": {"a": 2.0, "b": 1.0}, "r": {"a": 1.0}}
    assert without_junk(run, {"q": frozenset("a")}) == {"q": {"b": 1.0}, "r": {"a": 1.0}}
