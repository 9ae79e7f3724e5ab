"""Types of metadata fields: the same documents are accepted, and the same filters match, on engines and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import deepterms as dt
from deepterms.errors import InvalidInput

DIMENSIONS = 8
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=3)

DATES = [
    "2024-01-01",
    "2024-01-31",
    "2024-02-29",
    "2023-12-31",
    "2024-01-01T10:00",
    "2024-01-01T10:00:00",
    "2024-01-01T10:00:00.500",
    "2024-01-01T10:00:00.123456",
    "2024-01-01T10:00:00.123456789",
    "2024-01-01T10:00:00Z",
    "2024-01-01T10:00:00.5Z",
    "2024-01-01T23:30:00-05:00",
    "2024-01-02T04:30:00+00:00",
    "2024-01-01T10:00+05:30",
    "2024-01-01T10:00:00+0100",
    "2024-01-01T10:00:00.25+01",
    "1969-12-31T23:59:59.999Z",
    "9999-12-31",
]
NEARLY_DATES = ["2018", "2024-01", "2024-02-30", "2024-13-01", "20240101", "2024-01-01 10:00:00", "24:00", "2024-1-1"]
NUMBERS = [0, 1, 40, 40.0, 40.5, -1, -0.0, 0.1, 1e-5, 1e22, 12345678.5, 1e300, 2**53, 3.0000001]
TEXTS = ["", "a", "ab", "b", "B", "ä", "40", "40.0", "true", "now-1d", "\U0001f600", "\uffff"]
POOLS: dict[str, list[Any]] = {
    "number": NUMBERS,
    "date": DATES,
    "text": [*TEXTS, *NEARLY_DATES],
    "flag": [True, False],
}
ANYTHING = [None, [], {}, {"x": 1}, "true", "", *(pool[0] for pool in POOLS.values()), 2018, "x" * 40]


def values(pool: list[Any]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(pool)
    mostly = st.one_of(one, one, one, st.lists(one, max_size=3), st.just(None), st.just([]))
    return st.one_of(*[mostly] * 7, st.sampled_from(ANYTHING), st.lists(st.sampled_from(ANYTHING), max_size=2))


def documents() -> st.SearchStrategy[list[dict[str, Any]]]:
    fields: dict[str, st.SearchStrategy[Any]] = {name: values(pool) for name, pool in POOLS.items()}
    place = st.fixed_dictionaries({}, optional={"number": values(NUMBERS), "text": values(TEXTS)})
    fields |= {"place": st.one_of(place, st.lists(place, max_size=2)), "any": st.one_of(*map(values, POOLS.values()))}
    fields |= {"place.text": values(TEXTS)}
    return st.lists(st.fixed_dictionaries({}, optional=fields), min_size=5, max_size=25)


BOUNDS: list[Any] = [*NUMBERS, *DATES, *TEXTS, *NEARLY_DATES]
MATH = ["now", "now-1d/d", "now+100y", "2024-01-01||+1M", "2024-01-01||/M", "2024-01-15||/w", "2024-01-01T10:00||-1h/h"]
PATTERNS = [
    {"gte": "01/02/2024", "format": "dd/MM/yyyy"},
    {"lte": "2024", "format": "yyyy"},
    {"gt": 1704103200000, "format": "epoch_millis"},
    {"lt": "2024-01", "format": "yyyy-MM||yyyy"},
]
ZONES = ["+01:00", "-05:00", "Europe/Berlin", "Z"]


def ranges() -> st.SearchStrategy[dict[str, Any]]:
    bound = st.sampled_from(["gt", "gte"]), st.sampled_from(["lt", "lte"])
    dates = st.one_of(st.sampled_from(DATES), st.sampled_from(MATH))
    plain = [st.builds(lambda name, value: {name: value}, name, st.sampled_from(BOUNDS)) for name in bound]
    dated = [st.builds(lambda name, value: {name: value}, name, dates) for name in bound]
    both = st.builds(lambda low, high: {**low, **high}, *dated)
    zoned = st.builds(lambda bounds, zone: {**bounds, "time_zone": zone}, both, st.sampled_from(ZONES))
    return st.one_of(*plain, *dated, both, zoned, st.sampled_from(PATTERNS))


def filters() -> st.SearchStrategy[dict[str, Any]]:
    field = st.sampled_from([*POOLS, "any", "place.number", "place.text", "place", "nothing"]).map(
        lambda name: f"metadata.{name}"
    )
    wanted = st.one_of(st.sampled_from(BOUNDS), st.booleans())
    simple = st.one_of(
        st.builds(lambda name, value: {"term": {name: value}}, field, wanted),
        st.builds(lambda name, value: {"terms": {name: value}}, field, st.lists(wanted, max_size=3)),
        st.builds(lambda name, bounds: {"range": {name: bounds}}, field, ranges()),
        st.builds(lambda name: {"exists": {"field": name}}, field),
        st.builds(lambda name, text: {"prefix": {name: text}}, field, st.sampled_from(TEXTS)),
    )
    clauses = st.lists(simple, min_size=1, max_size=2)
    kinds = st.sampled_from(["must", "filter", "should", "must_not"])
    return st.one_of(simple, simple, st.dictionaries(kinds, clauses, min_size=1, max_size=2).map(lambda b: {"bool": b}))


def count_in_memory(memory: dt.MemoryIndex, ids: list[str], query: Mapping[str, Any]) -> set[str] | None:
    """Find the matching ids one by one; None if the filter is rejected."""
    try:
        memory.count(filter=query)
    except InvalidInput:
        return None
    return {
        identifier
        for identifier in ids
        if memory.count(filter={"bool": {"filter": [{"ids": {"values": [identifier]}}, query]}})
    }


def compare(
    index: dt.SurrogateIndex,
    memory: dt.MemoryIndex,
    metadata: list[dict[str, Any]],
    queries: list[dict[str, Any]],
) -> None:
    ids = [f"d{number:02}" for number in range(len(metadata))]
    rows = np.random.default_rng(1).standard_normal((len(ids), DIMENSIONS)).astype(np.float32)
    found, expected = (target.add(ids, rows, metadata=metadata) for target in (index, memory))
    rejected = [{failure.id for failure in report.failed} for report in (found, expected)]
    other = rejected[0] ^ rejected[1]
    assert not other, [failure for failure in (*found.failed, *expected.failed) if failure.id in other]
    index.refresh()
    bodies = [{"query": query, "size": len(ids), "_source": False} for query in queries]
    for query, answer in zip(queries, index.cluster.search_many(bodies, index=index.name), strict=True):
        there = None if "error" in answer else {hit["_id"] for hit in answer["hits"]["hits"]}
        here = count_in_memory(memory, ids, query)
        if here is None and there is not None:
            # A bool need not look at all its clauses; the rest the engines answer in different ways.
            assert "bool" in query or is_doubtful(query, memory), (query, there)
        elif "out of range for" not in str(answer.get("error")):  # a bound that no value of an integer type reaches
            assert here == there, (query, metadata, answer.get("error", {}).get("root_cause"))


def is_doubtful(query: Mapping[str, Any], memory: dt.MemoryIndex) -> bool:
    try:
        memory.count(filter=query)
    except InvalidInput as error:
        return any(text in str(error) for text in ("letter by letter", "read the number", "MemoryIndex cannot"))
    return False


# Shrinking a failure would take minutes.
@settings(
    max_examples=25,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(metadata=documents(), queries=st.lists(filters(), min_size=30, max_size=60))
def test_learnt_types(
    cluster: Any, unique_name: str, metadata: list[dict[str, Any]], queries: list[dict[str, Any]]
) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    try:
        compare(index, dt.MemoryIndex(ENCODER), metadata, queries)
    finally:
        index.drop()


DECLARED: dict[str, Any] = {
    "number": "double",
    "long": "long",
    "coerced": {"type": "integer"},
    "float": "float",
    "date": "date",
    "month": {"type": "date", "format": "MM/yyyy||dd/MM/yyyy HH:mm"},
    "text": {"type": "keyword", "ignore_above": 3},
    "flag": "boolean",
    "multiple": {"type": "keyword", "fields": {"number": {"type": "double", "coerce": True}}},
}
OPENSEARCH_ONLY = {  # the tests' Elasticsearch is built without the module
    "scaled": {"type": "scaled_float", "scaling_factor": 100},
    "unsigned": "unsigned_long",
}
WHOLE = [0, 1, -1, 40, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
MONTHS = ["01/2024", "02/2024", "31/01/2024 23:59", "01/02/2024 00:00", "29/02/2024 12:00"]
LOOSE = ["2018", "2024-05", "2024-01-01T10", "2024-01-01T10:00:00,5", *DATES]
DECIMALS = [0, 0.1, 19.9, 19.99, 19.994, 19.995, 19.996, 40, 40.5, -0.5, 1e-5, 65_504, 16_777_217, 3.0000001]


def declared_documents() -> st.SearchStrategy[list[dict[str, Any]]]:
    pools: dict[str, list[Any]] = {
        "number": DECIMALS,
        "long": [*WHOLE, 40.0, 40.5, "40"],
        "coerced": [*WHOLE[:4], 40.9, -1.5, "40", "40.7", " 7 "],
        "float": DECIMALS,
        "scaled": [*DECIMALS, "19.9"],
        "unsigned": [0, 1, 40, 2**63 - 1, -1],  # OpenSearch's pipelines carry no larger ones
        "date": [*LOOSE, 1704103200000, "1704103200000"],
        "month": [*MONTHS, "2024"],
        "text": ["abc", "abcd", "ab", "\U0001f600a", "\U0001f600ab", 40, 40.5],
        "flag": [True, False, "true", "false", ""],
        "multiple": ["1", "40", "40.5", 7],
    }
    one = {
        name: st.one_of(st.sampled_from(pool), st.lists(st.sampled_from(pool), max_size=2))
        for name, pool in pools.items()
    }
    return st.lists(st.fixed_dictionaries({}, optional=one), min_size=5, max_size=25)


def declared_filters() -> st.SearchStrategy[dict[str, Any]]:
    numbers = st.sampled_from([*DECIMALS, *WHOLE, 40.9, "40", "19.9"])
    dates = st.sampled_from(LOOSE)
    months = st.sampled_from(MONTHS)
    wanted = {
        **dict.fromkeys(["number", "long", "coerced", "float", "scaled", "multiple.number"], numbers),
        "unsigned": st.sampled_from([0, 1, 40, 40.5, 2**53 + 1, 2**63 - 1, "40"]),
        "date": st.one_of(dates, st.sampled_from(["2024||/y", "2024-02||-1M/M", "now"])),
        "month": months,
        "text": st.sampled_from(["a", "ab", "abc", "abcd", "40", 40.5]),
        "flag": st.booleans(),
        "multiple": st.sampled_from(["1", "40", 7]),
    }
    kinds = []
    for name, values in wanted.items():
        field, low, high = f"metadata.{name}", st.sampled_from(["gt", "gte"]), st.sampled_from(["lt", "lte"])
        kinds += [
            st.builds(lambda value, field=field: {"term": {field: value}}, values),
            st.builds(lambda a, x, b, y, field=field: {"range": {field: {a: x, b: y}}}, low, values, high, values),
            st.builds(lambda a, x, field=field: {"range": {field: {a: x}}}, st.one_of(low, high), values),
            st.just({"exists": {"field": field}}),
        ]
    return st.one_of(*kinds)


@settings(
    max_examples=25,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(metadata=declared_documents(), queries=st.lists(declared_filters(), min_size=40, max_size=80))
def test_declared_types(
    cluster: Any, unique_name: str, metadata: list[dict[str, Any]], queries: list[dict[str, Any]]
) -> None:
    dt.deploy(cluster)
    schema = DECLARED if isinstance(cluster, Elasticsearch) else DECLARED | OPENSEARCH_ONLY
    metadata = [{name: value for name, value in one.items() if name in schema} for one in metadata]
    queries = [query for query in queries if names_fields_of(query, schema)]
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, schema=schema)
    try:
        compare(index, dt.MemoryIndex(ENCODER, schema=schema), metadata, queries)
    finally:
        index.drop()


def names_fields_of(query: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    (body,) = query.values()
    field = body.get("field") or next(iter(body))
    return field.split(".")[1] in schema
