"""Measure how engine options affect searches of pivot codewords, one option at a time, with interleaved searches.

Needs OpenSearch: run `deepterms node start`, then

python benchmarks/engine_options.py --url http://localhost:9200

Compares the segments left by indexing with a single one, sequential with concurrent segment search, counting hits with
not counting, ids from the stored field `_id` with the doc value `id`, and an index that keeps no recovery copy of the
fields left out of `_source`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import typer

import deepterms as dt
from common.contenders import DRAWS, Features, Surrogate
from common.descriptors import DEFAULT_FOLDER, generate_mixtures, load_mixed, load_real
from deepterms.cli.connection import connect
from deepterms.encoders.inputs import normalise_rows
from deepterms.search.options import SearchOptions
from deepterms.search.request import Search

WARM_UP = 30
DEPTH = 1_000


@dataclass(frozen=True)
class ModifiedSearch:
    """Searches one index with some options of the request changed."""

    client: Any
    index: dt.SurrogateIndex
    changed: Mapping[str, Any]

    def __call__(self, query: Features) -> None:
        """Run one search; every variant includes the time to find pivots."""
        index = self.index
        search = Search.build(
            index.encoder.encode_queries(query[np.newaxis]),
            normalise_rows(query[np.newaxis])[0],
            index=index.state,
            options=SearchOptions(k=10, rerank=DEPTH, fields=[]),
        )
        self.client.transport.perform_request("POST", f"/{index.name}/_search", body={**search.body, **self.changed})


def time_alternately(asked: Mapping[str, Callable[[Features], None]], queries: Features) -> None:
    """Run all kinds of search alternately and print their milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in asked}
    for number, query in enumerate(np.concatenate([queries[:WARM_UP], queries])):
        for name in list(asked)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            asked[name](query)
            if number >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - started))
    for name, taken in times.items():
        p50, p95 = np.quantile(taken, (0.5, 0.95))
        print(f"  {name}: {p50:.2f} ms (p95 {p95:.2f})", flush=True)


def recreate_without_recovery_source(client: Any, index: dt.SurrogateIndex) -> None:
    """Recreate the index, empty, so that it keeps no recovery copy of the fields left out of `_source`."""
    (concrete,) = index.concrete
    mappings = client.indices.get_mapping(index=concrete)[concrete]["mappings"]
    mappings["_source"]["recovery_source_enabled"] = False
    settings = {"index": {"number_of_shards": 1, "number_of_replicas": 0, "default_pipeline": concrete}}
    client.indices.delete(index=concrete)
    client.indices.create(
        index=concrete, body={"settings": settings, "mappings": mappings, "aliases": {index.name: {}}}
    )


def _read_megabytes(client: Any, name: str) -> float:
    stats = client.indices.stats(index=name, metric="store")
    return float(stats["_all"]["primaries"]["store"]["size_in_bytes"]) / 1e6


def main(url: str = "http://localhost:9200", documents: int = 100_000, queries: int = 150) -> None:
    """Fill two indices, and search one of them in every way."""
    client = connect(url)
    base = load_real(DEFAULT_FOLDER)
    features = load_mixed(base.features, documents)
    asked = np.concatenate(list(generate_mixtures(base.features, count=queries, seed=1)))
    draws = np.random.default_rng(7).integers(0, DRAWS, documents)
    encoder = dt.PivotPermutation(dt.sample_pivots(features, max(256, documents // 32)), top_k=4, query_top_k=32)
    contenders = {
        name: Surrogate(client, f"options-{name}", lambda: encoder, "int8", {}, layout="codewords")
        for name in ("kept", "left")
    }
    for name, contender in contenders.items():
        contender.drop()
        contender.create()
        if name == "left":
            recreate_without_recovery_source(client, contender.open())
        started = time.perf_counter()
        contender.fill(features, draws)
        contender.refresh()
        taken = time.perf_counter() - started
        client.indices.flush(index=contender.name)
        label = "kept for recovery" if name == "kept" else "recovery_source_enabled: false"
        size = _read_megabytes(client, contender.name)
        print(f"fields left out of _source, {label}: {documents / taken:,.0f} docs/s, {size:,.0f} MB")
    index = contenders["kept"].open()
    ways = {
        "unchanged": ModifiedSearch(client, index, {}),
        "track_total_hits: true": ModifiedSearch(client, index, {"track_total_hits": True}),
        "ids from the doc value": ModifiedSearch(client, index, {"stored_fields": "_none_", "docvalue_fields": ["id"]}),
    }
    setting = "index.search.concurrent_segment_search.mode"
    for segments in ("as indexed", "merged"):
        if segments == "merged":
            contenders["kept"].merge()
        count = len(client.cat.segments(index=index.name, format="json"))
        for mode in ("none", "all"):
            client.indices.put_settings(index=index.name, body={setting: mode})
            print(f"{count} segments ({segments}), concurrent segment search: {mode}")
            time_alternately(ways, asked)
    for contender in contenders.values():
        contender.drop()


if __name__ == "__main__":
    typer.run(main)
