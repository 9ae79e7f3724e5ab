"""Measure what `recovery_source_enabled: false` costs a replica: a new copy, and one that was offline for a while.

Runs two OpenSearch nodes on this machine with an index of pivot codewords, int8 vectors and sketches. The replica is
created; then its node stops, documents are added, and the node returns. For both recoveries, prints seconds, operations
replayed, megabytes copied as files, and whether the replica then holds every vector.

python benchmarks/recovery.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import typer

import deepterms as dt
from common.contenders import Surrogate
from common.descriptors import DEFAULT_FOLDER, load_mixed, load_real
from deepterms.cli.connection import connect
from deepterms.cluster.cluster import Cluster
from deepterms.paper.tables.local_cluster import LocalCluster
from engine_options import recreate_without_recovery_source

HEAP = "1500m"


def main(documents: int = 50_000, away: int = 5_000) -> None:
    """Print the cost of each recovery."""
    features = load_mixed(load_real(DEFAULT_FOLDER).features, 100_000)[: documents + away]
    encoder = dt.PivotPermutation(dt.sample_pivots(features, 2_048), top_k=4, query_top_k=32)
    draws = np.zeros(len(features), dtype=np.int64)
    for name in ("kept", "left"):
        with LocalCluster(heap=HEAP) as nodes:
            nodes.add()
            nodes.add()
            client = connect(nodes.url)
            index = Surrogate(client, f"recovery-{name}", lambda: encoder, "int8", {}, layout="codewords")
            index.create()
            if name == "left":
                recreate_without_recovery_source(client, index.open())
            client.indices.put_settings(index=index.name, body={"index.routing.allocation.require._name": "bench-0"})
            index.fill(features, draws, range(documents))
            index.refresh()
            nodes.settle(Cluster(client))
            client.indices.put_settings(
                index=index.name, body={"index.routing.allocation.require._name": None, "number_of_replicas": 1}
            )
            report_recovery(client, index, nodes, f"{name}, new copy")
            nodes.stop(1)
            index.fill(features, draws, range(documents, documents + away))
            index.refresh()
            nodes.start(1)
            report_recovery(client, index, nodes, f"{name}, back after {away:,} documents")


def report_recovery(client: Any, index: Surrogate, nodes: LocalCluster, label: str) -> None:
    """Wait until the replica is complete, and print how it was recovered."""
    started = time.perf_counter()
    nodes.settle(Cluster(client))
    taken = time.perf_counter() - started
    (found,) = client.indices.recovery(index=index.name).values()
    (copy,) = (shard for shard in found["shards"] if not shard["primary"])
    index.refresh()
    query = {"query": {"exists": {"field": "vector"}}, "size": 0, "track_total_hits": True}
    held = client.search(index=index.name, body=query, params={"preference": "_only_nodes:bench-1"})
    print(
        f"{label}: {taken:.1f} s until green, including {copy['total_time_in_millis'] / 1e3:.1f} s {copy['type']}; "
        f"{copy['translog']['recovered']:,} operations, {copy['index']['size']['recovered_in_bytes'] / 1e6:,.0f} MB of "
        f"files; {held['hits']['total']['value']:,} vectors on the replica",
        flush=True,
    )


if __name__ == "__main__":
    typer.run(main)
