"""Tests of what the pipelines reject: each bad document alone, with a reason and the processor's tag."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.encoders.inputs import as_features, find_unusable_rows
from deepterms.errors import RequestRejected
from deepterms.schema.layouts import find_layout
from tests.integration.simulation import float32, simulate

# One request contains many documents, so hypothesis generates lists of them.
BATCHES = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


WORDS = find_layout("words")
ENCODER = dt.DeepPermutation(4, top_k=3)
EXPECTED = "; expected 4 finite float32 numbers, as an array or as base64 (little-endian)"


REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "[encode-vector] fields [terms] and [vector] are missing; expected terms, such as"),
    "both null": ({"terms": None, "vector": None}, "[encode-vector] fields [terms] and [vector] are missing"),
    "too short": ({"vector": [1, 2, 3]}, "[encode-vector] field [vector] has 3 dimensions" + EXPECTED),
    "too long": ({"vector": [1, 2, 3, 4, 5]}, "[encode-vector] field [vector] has 5 dimensions" + EXPECTED),
    "empty": ({"vector": []}, "[encode-vector] field [vector] has 0 dimensions" + EXPECTED),
    "text inside": ({"vector": [1, "2", 3, 4]}, "[encode-vector] field [vector] has [2] as component 1" + EXPECTED),
    "NaN as text": ({"vector": [1, 2, 3, "NaN"]}, "[encode-vector] field [vector] has [NaN] as component 3" + EXPECTED),
    "null inside": ({"vector": [None, 2, 3, 4]}, "[encode-vector] field [vector] has [null] as component 0" + EXPECTED),
    "boolean inside": (
        {"vector": [1, 2, True, 4]},
        "[encode-vector] field [vector] has [true] as component 2" + EXPECTED,
    ),
    "array inside": ({"vector": [1, [2], 3, 4]}, "[encode-vector] field [vector] has [[2]] as component 1" + EXPECTED),
    "too large": (
        {"vector": [1, 2, 3, -1e39]},
        "[encode-vector] field [vector] has [-1.0E39] as component 3" + EXPECTED,
    ),
    "zero": (
        {"vector": [0, -0.0, 0, 1e-46]},
        "[encode-vector] field [vector] is all zero, so it has no direction" + EXPECTED,
    ),
    "an object": ({"vector": {"0": 1}}, "[encode-vector] field [vector] is [{0=1}]" + EXPECTED),
    "a number": ({"vector": 7}, "[encode-vector] field [vector] is [7]" + EXPECTED),
    "text": ({"vector": "1, 2, 3, 4"}, "[encode-vector] field [vector] is [1, 2, 3, 4], which is not base64 (Illegal"),
    "long text": ({"vector": "-" * 99}, f"is [{'-' * 60}...], which is not base64"),
    "base64 of 3": ({"vector": float32(1, 2, 3)}, "[encode-vector] field [vector] has 3 dimensions" + EXPECTED),
    "base64 of 5": ({"vector": float32(1, 2, 3, 4, 5)}, "[encode-vector] field [vector] has 5 dimensions" + EXPECTED),
    "base64 cut": (
        {"vector": float32(1, 2, 3, 4)[:-4]},
        "field [vector] has 15 bytes, which is not a multiple of 4" + EXPECTED,
    ),
    "base64 of NaN": (
        {"vector": float32(1, np.nan, 3, 4)},
        "[encode-vector] field [vector] has [NaN] as component 1" + EXPECTED,
    ),
    "base64 of infinity": ({"vector": float32(1, 2, 3, -np.inf)}, "has [-Infinity] as component 3" + EXPECTED),
    "base64 of zeros": ({"vector": float32(0, 0, -0.0, 0)}, "is all zero, so it has no direction" + EXPECTED),
    "terms with another vector": (
        {"terms": {"t1": 1}, "vector": float32(1, 2, 3)},
        "[encode-vector] field [vector] has 3 dimensions" + EXPECTED,
    ),
}


def test_invalid_vectors_are_rejected_with_a_reason(cluster: Any) -> None:
    dt.deploy(cluster)
    documents = [document for document, _ in REJECTED.values()]
    found = simulate(cluster, documents, encoder=ENCODER, layout=WORDS, vectors=True)
    for name, document in zip(REJECTED, found, strict=True):
        assert REJECTED[name][1] in document.get("rejected", ""), (name, document)


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, -0.0, 1, -1, 1e-46, 3.4028235e38, 3.4028236e38, 1e39]),
)
NOT_NUMBERS = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.just([1]), st.just({"a": 1}))
ARRAYS = st.one_of(
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.lists(NUMBERS, max_size=6),
    st.lists(st.one_of(NUMBERS, NOT_NUMBERS), min_size=4, max_size=4),
)
BASE64 = st.one_of(
    st.lists(st.floats(width=32), min_size=4, max_size=4).map(lambda values: float32(*values)),
    st.binary(max_size=20).map(lambda content: base64.b64encode(content).decode()),
)
FREQUENCIES = st.one_of(st.integers(1, 600), st.sampled_from([0, -1, 65_535, 65_536, 2**40, 1.5, 2.0, "3", None, True]))
NAMES = st.one_of(st.integers(0, 8).map(lambda n: f"t{n}"), st.text("t1_-é |.\t", max_size=34))
TERMS = st.one_of(
    st.dictionaries(NAMES, st.integers(1, 600), max_size=5),
    st.dictionaries(NAMES, FREQUENCIES, max_size=3),
    st.sampled_from(["t1 t1", 3, ["t1"]]),
)
DOCUMENTS = st.one_of(
    st.fixed_dictionaries({"vector": st.one_of(ARRAYS, BASE64, NOT_NUMBERS)}),
    st.fixed_dictionaries({"terms": st.one_of(st.none(), TERMS)}, optional={"vector": BASE64}),
)


def verdict(document: Mapping[str, Any]) -> dict[str, int] | set[str]:
    """Return a document's expected terms, or the prefixes of which its reason must have one."""
    terms, vector = document.get("terms"), document.get("vector")
    if terms is not None:
        return terms_verdict(terms, vector)
    if vector is None:
        return {"[encode-vector] fields [terms] and [vector] are missing"}
    at = "[encode-vector] field [vector] "
    if isinstance(vector, str):
        try:
            content = base64.b64decode(vector, validate=True)
        except ValueError:
            return {at + "is [", at + "has "}  # Java accepts some text without padding
        if len(content) != 16:
            return {f"{at}has {len(content) // 4} dimensions", f"{at}has {len(content)} bytes"}
        vector = np.frombuffer(content, dtype="<f4")
    elif not isinstance(vector, list):
        return {at + "is ["}
    elif len(vector) != 4:
        return {f"{at}has {len(vector)} dimensions"}
    else:
        for component, number in enumerate(vector):
            if isinstance(number, bool) or not isinstance(number, int | float):
                return {f"{at}has ["}
            if not np.isfinite(as_features([float(number)] * 4, dimensions=4)).all():
                return {f"{at}has [{'-' if number < 0 else ''}"}
            assert component < 4
        vector = np.array(vector, dtype=np.float64)
    row = as_features(vector, dimensions=4)
    if find_unusable_rows(row):
        return {at + ("is all zero" if np.isfinite(row).all() else "has [")}
    return ENCODER.encode(row).to_terms()[0]


def terms_verdict(terms: Any, vector: str | None) -> dict[str, int] | set[str]:
    at = "[check-terms] field [terms] "
    if vector is not None and len(vector.rstrip("=")) != 22:
        return {"[encode-vector] field [vector] has "}
    if not isinstance(terms, dict):
        return {at + "is ["}
    if not terms:
        return {at + "has 0 codewords"}
    sentences = set()
    for name, frequency in terms.items():
        if not re.fullmatch(r"[t1é_-]{1,32}|t[0-9]", name):
            sentences.add(f"{at}has the codeword [")
        elif type(frequency) is not int or not 1 <= frequency <= 65_535:
            sentences.add(f"{at}has [")
    if not sentences and vector is not None:
        row = np.frombuffer(base64.b64decode(vector), dtype="<f4")
        if not np.isfinite(row).all():
            return {"[check-vector] field [vector] has a NaN or infinite component"}
    return sentences or terms


def agrees(document: Mapping[str, Any], terms: Any, rejected: str) -> bool:
    expected = verdict(document)
    if isinstance(expected, dict):
        return not rejected and terms == expected
    return any(f": {beginning}" in rejected for beginning in expected) and "; expected " in rejected


@BATCHES
@given(documents=st.lists(DOCUMENTS, min_size=40, max_size=60))
def test_simulate_agrees_with_python_on_any_document(cluster: Any, documents: list[dict[str, Any]]) -> None:
    dt.deploy(cluster)
    found = simulate(cluster, documents, encoder=ENCODER, layout=WORDS, vectors=True)
    for document, outcome in zip(documents, found, strict=True):
        assert agrees(document, outcome.get("terms"), outcome.get("rejected", "")), (document, outcome)


@BATCHES
@given(documents=st.lists(DOCUMENTS, min_size=40, max_size=60))
def test_bulk_agrees_with_python_on_any_document(
    cluster: Any, unique_name: str, documents: list[dict[str, Any]]
) -> None:
    own = Cluster(cluster)
    if not own.request("HEAD", f"/{unique_name}"):
        dt.deploy(cluster)
        dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, layout="words", replicas=0)
    lines = [({"index": {"_id": str(n)}}, json.dumps(document)) for n, document in enumerate(documents)]
    outcomes = own.bulk(lines, index=unique_name).outcomes
    own.request("POST", f"/{unique_name}/_refresh")
    body = {"size": 100, "_source": ["terms"]}
    hits = own.request("POST", f"/{unique_name}/_search", body=body)["hits"]["hits"]
    stored = {hit["_id"]: hit["_source"]["terms"] for hit in hits}
    for document, (identifier, rejected) in zip(documents, outcomes, strict=True):
        assert agrees(document, stored.get(identifier) if not rejected else None, rejected), (document, rejected)


GOOD = {"vector": [0.5, -1, 2, 0.25]}
POISON: list[tuple[dict[str, Any], str]] = [
    *[
        REJECTED[name]
        for name in (
            "neither",
            "too short",
            "too long",
            "text inside",
            "NaN as text",
            "null inside",
            "array inside",
            "too large",
            "zero",
            "an object",
            "text",
            "base64 of 3",
            "base64 cut",
            "base64 of NaN",
            "base64 of infinity",
        )
    ],
    ({"terms": {"t1": 0}}, "[check-terms] field [terms] has [0] for the codeword [t1]"),
    ({"terms": {"t1": 1.5}}, "[check-terms] field [terms] has [1.5] for the codeword [t1]"),
    ({"terms": {"t1 t2": 1}}, "[check-terms] field [terms] has the codeword [t1 t2]"),
    ({"terms": {f"t{n}": 1 for n in range(5_001)}}, "[check-terms] field [terms] has 5001 codewords"),
    ({"terms": {"t1": 1}, "vector_bytes": 16}, "[check-vector] field [vector] is missing, but"),
]


def test_five_hundred_bad_documents_affect_no_others(cluster: Any, unique_name: str) -> None:
    assert len(POISON) == 20
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    poison = {f"d{number}": POISON[number // 20 % 20] for number in range(0, 10_000, 20)}
    good, source = json.dumps(GOOD), {name: json.dumps(document) for name, (document, _) in poison.items()}
    ids = [f"d{number}" for number in range(10_000)]
    outcomes: dict[str, str] = {}
    for start in range(0, 10_000, 2_500):
        lines = [({"index": {"_id": id}}, source.get(id, good)) for id in ids[start : start + 2_500]]
        outcomes.update(index.cluster.bulk(lines, index=index.name).outcomes)
    index.refresh()
    assert index.count() == 9_500
    rejected = {id: reason for id, reason in outcomes.items() if reason}
    assert rejected.keys() == poison.keys()
    assert len(rejected) == 500
    for id, reason in rejected.items():
        assert poison[id][1] in reason


def test_a_source_that_is_not_json_fails_its_whole_request(cluster: Any, unique_name: str) -> None:
    """NaN is not JSON, and both engines read all sources of a request before its pipelines."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    lines = [({"index": {"_id": str(n)}}, json.dumps(GOOD)) for n in range(5)]
    lines.insert(2, ({"index": {"_id": "NaN"}}, '{"vector": [NaN, 1, 2, 3]}'))
    try:
        rejected = [reason for _, reason in index.cluster.bulk(lines, index=index.name).outcomes]
    except RequestRejected as error:  # Elasticsearch
        rejected = [str(error)]
    assert all("NaN" in reason for reason in rejected)
    index.refresh()
    assert index.count() == 0
