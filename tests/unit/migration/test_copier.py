from __future__ import annotations

import json
from typing import Any

import numpy as np

import deepterms as dt
from deepterms.migration.copier import build_copy_lines
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import find_layout
from deepterms.schema.vectors import decode_vector, encode_vector

ENCODER = dt.DeepPermutation(4, top_k=2)
SPEC = IndexSpec(ENCODER, find_layout("words"), schema={"n": {"type": "long"}})
VECTOR = np.array([0.5, -0.25, 0.0, 0.125], dtype=np.float32)
STORED = {"terms": {"t0": 1, "t3": 2}, "metadata": {"text": "ü\ud800", "n": 2**60}, "vector_bytes": 16}


def hit(identifier: str, source: dict[str, Any], vector: Any = None, **more: Any) -> dict[str, Any]:
    fields = {} if vector is None else {"fields": {"vector": [encode_vector(np.array(vector, "<f4")).rstrip("=")]}}
    return {"_id": identifier, "_seq_no": 7, "_source": source, **fields, **more}


def test_terms_are_copied_unchanged() -> None:
    lines, failed = build_copy_lines([hit("a", STORED, VECTOR, _routing="r")], spec=SPEC, keep_terms=True)
    ((action, source),) = lines
    assert failed == ()
    assert action == {"index": {"_id": "a", "routing": "r", "version": 7, "version_type": "external_gte"}}
    document = json.loads(source or "")
    assert {key: value for key, value in document.items() if key != "vector"} == STORED
    assert len(document["vector"]) % 4 == 0
    assert np.array_equal(decode_vector(document["vector"]), VECTOR)


def test_terms_are_encoded_from_the_vector() -> None:
    hits = [hit("a", STORED, VECTOR), hit("b", {"vector_bytes": 16}, -VECTOR)]
    lines, failed = build_copy_lines(hits, spec=SPEC, keep_terms=False)
    assert failed == ()
    first, second = (json.loads(source or "") for _, source in lines)
    assert first == {**STORED, "terms": {"t0": 2, "t5": 1}, "vector": encode_vector(VECTOR)}
    assert second["terms"] == {"t1": 1, "t4": 2}


def test_missing_terms_are_encoded_from_the_vector() -> None:
    (line,), _ = build_copy_lines([hit("a", {}, VECTOR)], spec=SPEC, keep_terms=True)
    assert json.loads(line[1] or "")["terms"] == {"t0": 2, "t5": 1}


def test_unusable_documents_are_listed_and_others_copied() -> None:
    hits = [
        hit("bare", {"terms": {"t0": 1}}),
        hit("short", {}, [1.0, 2.0]),
        hit("ok", {}, VECTOR),
        hit("nan", {}, [1.0, np.nan, 0.0, 0.0]),
    ]
    lines, failed = build_copy_lines(hits, spec=SPEC, keep_terms=False)
    assert [action["index"]["_id"] for action, _ in lines] == ["ok"]
    assert [(failure.id, failure.reason) for failure in failed] == [
        ("bare", "stores no vector to encode again"),
        ("short", "stores a vector of 2 dimensions; expected 4"),
        ("nan", "the feature has a NaN or infinite component (float32)"),
    ]
