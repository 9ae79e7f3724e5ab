"""Measure the error of the advice: predictions from the probe's small indices, compared with larger ones.

The probe measures at most 20,000 documents. This benchmark fills and searches larger indices of the same synthetic
descriptors and compares p50, bytes and documents per second with the output of `predict`.

python benchmarks/advice_error.py --url http://localhost:9200
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import typer

import deepterms as dt
from deepterms.advice import CapacityPlan, Figures, Workload, predict, probe
from deepterms.advice.probe import SETTLED_SECONDS, generate_descriptors
from deepterms.cli.connection import connect

RESULTS = Path(__file__).parent / "results" / "advice_error.json"
NAME = "advice-error"
QUERIES = 60
SETTINGS = ((16, 200), (16, 1_000), (64, 500))
BATCH = 1_000


def main(
    documents: list[int] = typer.Option([50_000, 100_000], help="index sizes to predict and measure"),  # noqa: B008
    dimensions: int = 1_280,
    url: str | None = None,
) -> None:
    """Measure, predict and compare."""
    client = connect(url)
    figures = probe(client, dimensions=dimensions)
    rows = [row for count in documents for row in compare(client, count, figures)]
    RESULTS.write_text(json.dumps({"figures": figures.__dict__, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print("| documents | | predicted | measured | error |\n|---|---|---|---|---|")
    for row in rows:
        off = row["predicted"] / row["measured"] - 1
        print(
            f"| {row['documents']:,} | {row['what']} | {row['predicted']:,.4g} | {row['measured']:,.4g} | {off:+.0%} |"
        )


def compare(client: Any, count: int, figures: Figures) -> list[dict[str, Any]]:
    """Predict and measure an index of one size."""
    features = generate_descriptors(count, figures.dimensions)
    queries = generate_descriptors(QUERIES, figures.dimensions, seed=1)
    workload = Workload(count, figures.dimensions)
    encoder = dt.PivotPermutation(dt.sample_pivots(features, 4_096), top_k=4, query_top_k=64)
    index = dt.SurrogateIndex.create(client, NAME, encoder=encoder, store_vectors="int8", replicas=0)
    try:
        started = time.perf_counter()
        index.add_batches(
            ([str(start + row) for row in range(len(piece))], piece, None)
            for start in range(0, count, BATCH)
            if len(piece := features[start : start + BATCH])
        )
        adding = time.perf_counter() - started
        time.sleep(SETTLED_SECONDS)
        started = time.perf_counter()
        index.cluster.request("POST", f"/{NAME}/_flush")
        index.cluster.request("POST", f"/{NAME}/_forcemerge", params={"max_num_segments": "1"})
        index.refresh()
        adding += time.perf_counter() - started
        plan = CapacityPlan(4_096, 4, 64, 500, "int8", 1)
        predicted = predict(plan, workload, figures)
        stored = predicted.total_bytes - predicted.pivot_bytes
        rows = [
            {"documents": count, "what": "bytes", "predicted": stored, "measured": index.stats().bytes},
            {
                "documents": count,
                "what": "documents per second",
                "predicted": count / predicted.ingest_seconds,
                "measured": count / adding,
            },
        ]
        times: dict[tuple[int, int], list[float]] = {setting: [] for setting in SETTINGS}
        for query in queries:
            for words, depth in SETTINGS:
                started = time.perf_counter()
                index.search(query, rerank=depth, effort=words / 64, fields=[])
                times[words, depth].append(1e3 * (time.perf_counter() - started))
        for words, depth in SETTINGS:
            plan = CapacityPlan(4_096, 4, words, depth, "int8", 1)
            rows.append(
                {
                    "documents": count,
                    "what": f"p50 in ms, {words} query words, {depth:,} candidates",
                    "predicted": predict(plan, workload, figures).p50_ms,
                    "measured": float(np.median(times[words, depth])),
                }
            )
        return rows
    finally:
        index.drop()


if __name__ == "__main__":
    typer.run(main)
