"""Measure how pivots age when a collection grows tenfold, without a cluster: R@10, postings, and the doctor's figures.

Pivots are sampled from the first tenth of the documents, in the number of `common.pivot_counts` for that size; then the
other nine tenths are added. With real descriptors, these are crops of other photographs, so they show scenes
that no pivot has seen; with mixtures, they come from the same distribution. For comparison: the same number of pivots
sampled from all documents (the cost of growth without drift), and that for all documents (the result of
`deepterms migrate --repivot`).

python benchmarks/pivot_growth.py                       # 16,992 crops
python benchmarks/pivot_growth.py --documents 100000    # mixtures
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

import deepterms as dt
from common.contenders import Features
from common.descriptors import DEFAULT_FOLDER, generate_mixtures, load_mixed, load_real
from common.measuring import compute_recall, find_exact
from common.pivot_counts import choose_pivot_count
from deepterms.encoders.pivots.pivots import measure_nearest_cosines
from deepterms.evaluation import mean_average_precision

RESULTS = Path(__file__).parent / "results"
TOP_K, QUERY_TOP_K, RERANK = 4, 32, 1_000
GROWTH = 10
DEEP = 100  # hits used to compute mAP
JUDGED = 5_000  # documents whose nearest pivot is checked


def main(
    documents: int = typer.Option(0, help="number of mixtures; 0 uses crops of photographs"),
    queries: int = 200,
    folder: Path = DEFAULT_FOLDER,
) -> None:
    """Record what each set of pivots finds in the whole collection."""
    described = load_real(folder)
    if documents:
        features: Features = load_mixed(described.features, documents, folder).astype(np.float32)
        asked = np.concatenate(list(generate_mixtures(described.features, count=queries, seed=1)))
    else:
        features, asked = described.features, described.queries
    qrels = {} if documents else described.qrels
    N = len(features)
    first = features[: N // GROWTH]
    few, many = (choose_pivot_count(n) for n in (len(first), N))
    best = find_exact(features, asked, k=DEEP, draws=np.zeros(N, dtype=np.int64), below=[None])[None]
    rows = []
    choices = (("a tenth", first, few), ("all, as many", features, few), ("all, as for all", features, many))
    for name, sample, count in choices:
        found = measure_pivots(dt.sample_pivots(sample, count, method="auto"), features, asked, best, qrels)
        rows.append({"sampled_of": name, "documents": N} | found)
        print(json.dumps(rows[-1]), flush=True)
    path = RESULTS / f"growth-{'mixed' if documents else 'real'}-{N}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")


def measure_pivots(
    pivots: dt.Pivots, features: Features, asked: Features, best: NDArray[np.int64], qrels: dict[str, dict[str, int]]
) -> dict[str, float]:
    """Measure recall, postings and balance of an index with these pivots."""
    encoder = dt.PivotPermutation(pivots, top_k=TOP_K, query_top_k=QUERY_TOP_K)
    index = dt.MemoryIndex(encoder, store_vectors="int8", rerank=RERANK)
    step = 10_000
    for start in range(0, len(features), step):
        some = features[start : start + step]
        index.add([str(row) for row in range(start, start + len(some))], some)
    found = [index.search(query, k=DEEP) for query in asked]
    parts = [encoder.encode(features[start : start + step]).matrix.indices for start in range(0, len(features), step)]
    lengths = np.bincount(np.concatenate(parts), minlength=len(pivots))
    postings = [int(lengths[encoder.encode_queries(query).matrix.indices].sum()) for query in asked]
    judged = features[:: max(1, len(features) // JUDGED)]
    recalls = [
        compute_recall([int(i) for i in hits.ids[:10]], true[:10]) for hits, true in zip(found, best, strict=True)
    ]
    values = {
        "pivots": len(pivots),
        "recall": float(np.mean(recalls)),
        "postings": float(np.mean(postings)),
        "unevenness": float(np.mean(lengths**2.0) / np.mean(lengths) ** 2),  # as defined by the doctor
        "far": float((measure_nearest_cosines(judged, pivots) < pivots.reach.low).mean()) if pivots.reach else 0.0,
    }
    if qrels:
        run = {q: {hit.id: hit.score for hit in found[int(q)]} for q in qrels}
        values["map"] = mean_average_precision(run, qrels)
    return values


if __name__ == "__main__":
    typer.run(main)
