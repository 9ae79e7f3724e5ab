"""Types of metadata fields on real clusters: learnt, declared, kept and changed by a migration, counted as facets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from numpy.typing import NDArray
from typer.testing import CliRunner

import deepterms as dt
from deepterms.cli.app import app
from deepterms.cluster.cluster import Cluster
from deepterms.errors import InvalidInput
from deepterms.migration import migrate, repivot_encoder
from deepterms.web.facets import count_facets
from deepterms.web.filters import ValueRange

DIMENSIONS = 8
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=3)
SCHEMA: dict[str, Any] = {
    "taken": {"type": "date", "format": "dd.MM.yyyy"},
    "caption": "text",
    "views": "long",
    "place.at": "geo_point",
    "parts": {"type": "nested", "properties": {"name": {"type": "keyword"}, "count": {"type": "integer"}}},
}


def rows(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((count, DIMENSIONS)).astype(np.float32)


def add(index: Any, metadata: list[dict[str, Any]]) -> dict[str, str]:
    """Add documents d0, d1, …; return the reasons of those that are rejected."""
    report = index.add([f"d{number}" for number in range(len(metadata))], rows(len(metadata)), metadata)
    index.refresh()
    return {failure.id: failure.reason for failure in report.failed}


def mapped(index: dt.SurrogateIndex) -> dict[str, Any]:
    """The mapping of the metadata fields."""
    (answer,) = index.cluster.request("GET", f"/{index.name}/_mapping").values()
    fields: dict[str, Any] = answer["mappings"]["properties"]["metadata"].get("properties", {})
    return fields


@pytest.fixture
def index(cluster: Any, unique_name: str) -> dt.SurrogateIndex:
    dt.deploy(cluster)
    return dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)


@pytest.mark.parametrize("values", [(40, 40.5), (40.5, 40)])
def test_the_type_of_numbers_does_not_depend_on_the_first(index: dt.SurrogateIndex, values: tuple[float, ...]) -> None:
    assert add(index, [{"price": value} for value in values]) == {}
    assert index.count(filter={"range": {"metadata.price": {"gt": 40}}}) == 1
    assert index.count(filter={"term": {"metadata.price": 40.5}}) == 1


def test_dates_are_compared_as_times(index: dt.SurrogateIndex) -> None:
    moments = ["2024-01-01T23:30:00-05:00", "2024-01-02T04:30:00Z", "2024-01-02", "2018"]
    assert add(index, [{"at": moment} for moment in moments]).keys() == {"d3"}
    for query, ids in (
        ({"term": {"metadata.at": "2024-01-02T04:30:00Z"}}, 2),
        ({"range": {"metadata.at": {"gte": "2024-01-02", "time_zone": "-05:00"}}}, 0),
        ({"range": {"metadata.at": {"lt": "now-1d"}}}, 3),
        ({"range": {"metadata.at": {"gte": "02/01/2024", "format": "dd/MM/yyyy"}}}, 3),
    ):
        assert index.count(filter=query) == ids, query


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (40, "40", "the field 'f' has the type double in this index, which cannot hold this value; got '40'"),
        (40, True, "the field 'f' has the type double"),
        (True, 1, "the field 'f' has the type boolean"),
        ("2024-01-01", "soon", "the field 'f' has the type date"),
        ("2024-01-01", 2018, "the field 'f' has the type date"),
        ({"a": 1}, 3, "the field 'f' holds objects"),
        ("x", {"a": 1}, "the field 'f' has the type keyword"),
        (1, 2**53 + 1, "integer 9007199254740993, which the type of undeclared numbers"),
        (1, 2**64, "both engines hold integers from"),
        ("x", "x" * 32_767, "text of 32,767 bytes"),
        ("x", [{"g": 1}, {"g": "a"}], "the field 'f' has the type keyword"),
        (None, [1, "a"], "values of two types in one document, double and keyword"),
    ],
)
def test_values_that_do_not_fit_are_rejected_by_id(
    index: dt.SurrogateIndex, first: Any, second: Any, reason: str
) -> None:
    memory = dt.MemoryIndex(ENCODER)
    for target in (index, memory):
        rejected = add(target, [{"f": first}, {"f": second}, {"g": 1}])
        assert rejected.keys() == {"d1"}
        assert reason in rejected["d1"]
        assert target.count() == 2


def test_update_metadata_rejects_them_too(index: dt.SurrogateIndex) -> None:
    memory = dt.MemoryIndex(ENCODER)
    for target in (index, memory):
        assert add(target, [{"f": 1}, {"f": 2}]) == {}
        report = target.update_metadata(["d0", "d1"], [{"f": "a"}, {"f": 2**60}])
        reasons = {failure.id: failure.reason for failure in report.failed}
        assert "type double" in reasons["d0"]
        assert "would round" in reasons["d1"]
        assert (report.succeeded, target.count(filter={"range": {"metadata.f": {"lt": 5}}})) == (0, 2)


def test_the_limit_of_fields(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, field_limit=40)
    many = {f"k{number}": 1 for number in range(50)}
    assert "field_limit=" in add(index, [{"a": 1}, many])["d1"]
    migrate(cluster, unique_name, shards=2)
    assert "more than 40 fields" in add(index, [{"a": 1}, many])["d1"]
    index.drop()
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, field_limit=2_000)
    assert add(index, [{f"k{number}": 1 for number in range(1_200)}]) == {}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"a": "dat"}, "has no type 'dat' for metadata, which the schema declares for 'a'"),
        ({"a": {"type": "text", "analyzer": "missing"}}, "cannot create the schema.*missing"),
        ({"a": 5}, "schema declares 'a' as 5"),
        ({"metadata.a": "long"}, "without 'metadata.'"),
        ({"a": {"type": "long", "formatt": 1}}, "cannot create the schema.*formatt"),
        (["a"], "schema is a mapping"),
    ],
)
def test_a_bad_schema_creates_nothing(cluster: Any, unique_name: str, schema: Any, message: str) -> None:
    dt.deploy(cluster)
    pivots = dt.sample_pivots(rows(64), 16)
    encoder = dt.PivotPermutation(pivots, top_k=4, query_top_k=8)
    with pytest.raises(InvalidInput, match=message):
        dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, schema=schema)
    assert not Cluster(cluster).request("GET", f"/deepterms-*-{unique_name}-*")


DECLARED: list[dict[str, Any]] = [
    {"taken": "31.01.2024", "caption": "A Tower", "views": 2**60 + 1, "place": {"at": "43.7,10.4"}},
    {"taken": "01.02.2024", "caption": "the sea", "views": 3, "parts": [{"name": "a", "count": 2}]},
]
DECLARED_FILTERS: list[dict[str, Any]] = [
    {"range": {"metadata.taken": {"lt": "01.02.2024"}}},
    {"match": {"metadata.caption": "tower"}},
    {"term": {"metadata.views": 2**60 + 1}},
    {"geo_distance": {"distance": "1km", "metadata.place.at": "43.7,10.4"}},
]
PARTS: dict[str, Any] = {"nested": {"path": "metadata.parts", "query": {"term": {"metadata.parts.count": 2}}}}


def test_declared_types(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, schema=SCHEMA)
    assert index.spec != dt.SurrogateIndex.create(cluster, f"{unique_name}-plain", encoder=ENCODER, replicas=0).spec
    assert dt.SurrogateIndex.open(cluster, unique_name).spec == index.spec
    rejected = add(index, [*DECLARED, {"views": 40.5}, {"taken": "2024-01-31"}, {"place": {"at": "nowhere"}}])
    assert rejected.keys() == {"d2", "d3", "d4"}
    assert "schema={'views': 'double'}" in rejected["d2"]
    for query in (*DECLARED_FILTERS, PARTS):
        assert index.count(filter=query) == 1, query
    memory = dt.MemoryIndex(ENCODER, schema=SCHEMA)
    assert add(memory, [*DECLARED, {"views": 40.5}, {"taken": "2024-01-31"}]).keys() == {"d2", "d3"}
    assert [memory.count(filter=query) for query in (DECLARED_FILTERS[0], DECLARED_FILTERS[2])] == [1, 1]
    assert memory.count(filter={"exists": {"field": "metadata.caption"}}) == 2
    inner = {"term": {"metadata.parts.count": 2}}
    refused: list[dict[str, Any]] = [{"term": {"metadata.caption": "tower"}}, inner, DECLARED_FILTERS[3]]
    for query in refused:
        with pytest.raises(InvalidInput, match="Use SurrogateIndex"):
            memory.count(filter=query)


def test_migrations_keep_and_change_the_schema(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, schema=SCHEMA)
    assert add(index, [*DECLARED, {"when": "01.03.2024"}]) == {}
    migrate(cluster, unique_name, to=dt.IndexSpec.choose(index.cluster.engine, ENCODER, layout="rank_features").layout)
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert index.spec.schema.keys() == {"taken", "caption", "views", "place", "parts"}
    assert [index.count(filter=query) for query in (*DECLARED_FILTERS, PARTS)] == [1] * 5
    assert mapped(index)["when"]["type"] == "keyword"
    done = migrate(cluster, unique_name, schema={"when": SCHEMA["taken"], "caption": None})
    assert done.old
    assert not migrate(cluster, unique_name, schema={"when": SCHEMA["taken"]}).old  # nothing changes
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert "caption" not in index.spec.schema
    assert mapped(index)["caption"]["type"] == "keyword"
    assert index.count(filter={"range": {"metadata.when": {"gte": "01.02.2024"}}}) == 1
    copy = dt.SurrogateIndex.create(cluster, f"{unique_name}-copy", spec=index.spec)
    assert copy.spec == index.spec
    assert mapped(copy)["when"]["type"] == "date"


def test_repivoting_keeps_the_schema(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    encoder = dt.PivotPermutation(dt.sample_pivots(rows(64), 16), top_k=4, query_top_k=8)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, schema={"n": "long"}, replicas=0)
    assert add(index, [{"n": number, "x": 1.5} for number in range(64)]) == {}
    migrate(cluster, unique_name, encoder=repivot_encoder(cluster, unique_name, 8))
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert index.spec.schema == {"n": {"type": "long", "coerce": False}}
    assert index.count(filter={"range": {"metadata.x": {"gt": 1}}}) == 64


def test_an_index_with_the_former_types_takes_the_new_ones(index: dt.SurrogateIndex, cluster: Any) -> None:
    former = {"price": {"type": "long"}, "share": {"type": "float"}, "place": {"properties": {"n": {"type": "long"}}}}
    body = {"properties": {"metadata": {"properties": former}}}
    (concrete,) = index.concrete
    index.cluster.request("PUT", f"/{concrete}/_mapping", body=body)
    assert add(index, [{"price": 40}, {"price": 40.5, "share": 0.1, "place": {"n": "7"}}]) == {}
    wanted = {"range": {"metadata.price": {"gt": 40}}}
    assert index.count(filter=wanted) == 0
    migrate(cluster, index.name, shards=2)
    assert {mapped(index)[name]["type"] for name in ("price", "share")} == {"double"}
    assert index.count(filter=wanted) == 1
    assert index.count(filter={"term": {"metadata.share": 0.1}}) == 1
    assert index.count(filter={"term": {"metadata.place.n": 7}}) == 1


def test_keywords_are_not_compared_as_dates(index: dt.SurrogateIndex) -> None:
    memory = dt.MemoryIndex(ENCODER)
    for target in (index, memory):
        add(target, [{"when": "spring", "at": "2024-01-01"}, {"when": "2024-01-01"}])
        for bounds in ({"lt": "now-1d"}, {"gte": "2024-01-01", "format": "yyyy-MM-dd"}, {"lt": "2024-01-01||/M"}):
            query = {"bool": {"must_not": [{"range": {"metadata.when": bounds}}]}}
            for call in (
                lambda query=query, target=target: target.count(filter=query),
                lambda query=query, target=target: target.search(rows(1)[0], filter=query),
                lambda query=query, target=target: target.search_many(rows(2), filter=query),
                lambda query=query, target=target: list(target.search_all(rows(1)[0], filter=query)),
                lambda query=query, target=target: target.delete_by_filter(query),
            ):
                try:
                    found = call()
                except InvalidInput as error:
                    message = str(error)
                else:
                    message = found[0].error  # MemoryIndex.search_many reports it per query
                assert "has the type keyword" in message
                assert "schema={'when': 'date'}" in message
        assert target.count(filter={"range": {"metadata.at": {"lt": "now-1d"}}}) == 1
        assert target.count(filter={"range": {"metadata.none": {"lt": "now-1d"}}}) == 0
        assert target.count() == 2


def test_facets_of_dates_and_decimals(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    schema = {"parts": SCHEMA["parts"], "hidden": {"type": "keyword", "doc_values": False}, "views": "long"}
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, schema=schema)
    memory = dt.MemoryIndex(ENCODER, schema=schema)
    metadata = [
        {
            "taken": f"2024-01-{number + 1:02}T12:00:00Z",
            "size": [40, 40.5, 41][number % 3],
            "price": number + 0.5,
            "views": number % 2,
            "flag": number % 2 == 0,
            "parts": [{"name": "a"}],
            "hidden": f"h{number % 2}",
        }
        for number in range(20)
    ]
    for target in (index, memory):
        assert add(target, metadata) == {}
    for filters in ({}, {"taken": ValueRange(gte="2024-01-05", lte="2024-01-10")}, {"size": [40.5]}):
        found, expected = (
            {facet.field: (sorted(facet.values), facet.least, facet.most) for facet in count_facets(target, filters)}
            for target in (index, memory)
        )
        assert found == {name: facet for name, facet in expected.items() if name != "hidden"}
    facets = {facet.field: facet for facet in count_facets(index, {"taken": ValueRange(gte="2024-01-05", lt="now")})}
    assert (facets["taken"].least, facets["taken"].most) == ("2024-01-01", "2024-01-20")
    assert json.dumps(sorted(value for value, _ in facets["size"].values)) == "[40, 40.5, 41]"
    assert (facets["price"].least, facets["price"].most) == (4.5, 19.5)


def test_the_command_line(cluster: Any, unique_name: str, url: str, tmp_path: Path) -> None:
    source, schema, names = tmp_path / "rows.npy", tmp_path / "schema.json", tmp_path / "names.txt"
    np.save(source, rows(3))
    names.write_text("a\nb\nc\n")
    schema.write_text('{"caption": "text", "taken": "keyword"}')

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--url", url])

    options = ("--schema", str(schema), "--field", "taken=date", "--field-limit", "50")
    done = run("index", unique_name, str(source), "--ids", str(names), "--top-k", "3", *options)
    assert done.exit_code == 0, done.output
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert index.spec.schema == {"caption": {"type": "text"}, "taken": {"type": "date"}}
    (settings,) = index.cluster.request("GET", f"/{unique_name}/_settings").values()
    assert settings["settings"]["index"]["mapping"]["total_fields"]["limit"] == "50"
    assert run("index", unique_name, str(source), "--ids", str(names), *options).exit_code == 0
    other = run("index", unique_name, str(source), "--ids", str(names), "--field", "taken=text")
    assert other.exit_code != 0
    done = run("migrate", unique_name, "--field", "taken=", "--field", "views=long")
    assert done.exit_code == 0, done.output
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert index.spec.schema == {"caption": {"type": "text"}, "views": {"type": "long", "coerce": False}}


def test_read_schema(cluster: Any, unique_name: str) -> None:
    engine = Cluster(cluster)
    fields = {"v": {"type": "float"}, **{f"k{number}": {"type": "keyword"} for number in range(990)}}
    engine.request("PUT", f"/{unique_name}-old", body={"mappings": {"properties": fields}})
    read = dt.read_schema(cluster, f"{unique_name}-old", leave_out=["v"])
    assert len(read["schema"]) == 990
    assert read["field_limit"] > 1_000
    dt.deploy(cluster)
    dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, **read).drop()
    with pytest.raises(InvalidInput, match="has no field 'w'"):
        dt.read_schema(cluster, f"{unique_name}-old", leave_out=["w"])


def test_types_of_one_engine_only(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    here, there = ("flattened", "flat_object") if isinstance(cluster, Elasticsearch) else ("flat_object", "flattened")
    with pytest.raises(InvalidInput, match=f"has no type '{there}'"):
        dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, schema={"tags": there})
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, schema={"tags": here})
    assert add(index, [{"tags": {"a": "x", "b": "y"}}]) == {}
    assert index.count(filter={"term": {"metadata.tags.a": "x"}}) == 1
