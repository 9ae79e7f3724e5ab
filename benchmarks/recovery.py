"""What `recovery_source_enabled: false` costs a replica: a whole new copy, and one that was away for a while.

Two nodes of OpenSearch on this machine, an index of pivots with int8 vectors and sketches. The replica is made; its
node stops, documents are added, it comes back. Of both: seconds, operations replayed, megabytes copied as files, and
whether the replica then holds every vector.

python benchmarks/recovery.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import typer

import deepterms as dt
from common.contenders import Surrogate
from common.descriptors import DEFAULT_FOLDER, mixed, real
from deepterms.cli.connection import connect
from deepterms.cluster.cluster import Cluster
from deepterms.paper.tables.local_cluster import LocalCluster
from engine_options import made_anew

HEAP = "1500m"


def main(documents: int = 50_000, away: int = 5_000) -> None:
    """Print what each recovery took."""
    features = mixed(real(DEFAULT_FOLDER).features, 100_000)[: documents + away]
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
                made_anew(client, index.opened())
            client.indices.put_settings(index=index.name, body={"index.routing.allocation.require._name": "bench-0"})
            index.fill(features, draws, range(documents))
            index.refresh()
            nodes.settle(Cluster(client))
            client.indices.put_settings(
                index=index.name, body={"index.routing.allocation.require._name": None, "number_of_replicas": 1}
            )
            report(client, index, nodes, f"{name}, a new copy")
            nodes.stop(1)
            index.fill(features, draws, range(documents, documents + away))
            index.refresh()
            nodes.start(1)
            report(client, index, nodes, f"{name}, back after {away:,} documents")


def report(client: Any, index: Surrogate, nodes: LocalCluster, said: str) -> None:
    """Wait until the replica is there, and print how it came."""
    started = time.perf_counter()
    nodes.settle(Cluster(client))
    taken = time.perf_counter() - started
    (found,) = client.indices.recovery(index=index.name).values()
    (copy,) = (shard for shard in found["shards"] if not shard["primary"])
    index.refresh()
    query = {"query": {"exists": {"field": "vector"}}, "size": 0, "track_total_hits": True}
    held = client.search(index=index.name, body=query, params={"preference": "_only_nodes:bench-1"})
    print(
        f"{said}: {taken:.1f} s until green, {copy['total_time_in_millis'] / 1e3:.1f} s of it {copy['type']}; "
        f"{copy['translog']['recovered']:,} operations, {copy['index']['size']['recovered_in_bytes'] / 1e6:,.0f} MB of "
        f"files; {held['hits']['total']['value']:,} vectors there",
        flush=True,
    )


if __name__ == "__main__":
    typer.run(main)
