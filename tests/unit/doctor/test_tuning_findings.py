"""Findings about the recall measured in an index: missing, measured, old, out of reach."""

from __future__ import annotations

from typing import Any

import pytest

from deepterms.doctor.tuning_findings import judge_tuning
from deepterms.schema.tuning import SearchSetting, Tuning

REACHING = SearchSetting(words=32, candidates=500, recall=0.96, bound=0.95, verified=0.955, ms=3.21)
MEASURED = Tuning(documents=10_000, queries=200, source="documents", settings=(REACHING,), exhaustive_ms=40)


@pytest.mark.parametrize(
    ("tuning", "options", "level", "text"),
    [
        (None, {}, "green", "no recall was measured; `deepterms tune photos` lets searches keep one"),
        (MEASURED, {}, "green", "searches keep a recall of 0.95, measured with 200 queries: 32 words, 500 candidates"),
        (MEASURED, {"documents": 20_000}, "green", "searches keep"),
        (MEASURED, {"documents": 20_001}, "yellow", "was measured for 10,000 documents; there are 20,001 now"),
        (MEASURED, {"documents": 4_999}, "yellow", "there are 4,999 now"),
        (MEASURED, {"documents": 12_000, "drifted": True}, "yellow", "before the collection drifted away"),
        (MEASURED, {"drifted": True}, "green", "searches keep"),  # it was measured as the collection is
        (MEASURED.model_copy(update={"source": "sample"}), {}, "green", "was simulated on a sample"),
        (MEASURED.model_copy(update={"source": "sample"}), {"drifted": True}, "yellow", "drifted away"),
        (MEASURED.model_copy(update={"carried": True}), {}, "green", "measured before a migration"),
        (MEASURED.model_copy(update={"recall": 0.99}), {}, "green", "no faster setting reaches a recall of 0.99"),
        (
            MEASURED.model_copy(update={"recall": 0.99}),
            {"documents": 15_000},
            "yellow",
            "searches compare all documents, 40 ms each",
        ),
    ],
)
def test_what_was_measured_is_judged(tuning: Tuning | None, options: dict[str, Any], level: str, text: str) -> None:
    found = judge_tuning("photos", tuning, **{"documents": 10_000, **options})
    assert found.level == level
    assert text in found.text
    assert (level == "green") == (not found.advice)
    if level == "yellow":
        assert "deepterms tune photos" in found.advice
