"""Measure recall and postings by the number of pivots, words, query words and candidates, without a cluster.

Rankings are those of an index with layout `codewords`; candidates are re-ranked by exact cosine. Postings are those of
the query's codewords divided by the number of documents, so 1 means reading as much as looking at each document once.

python benchmarks/pivot_choice.py --kind real
python benchmarks/pivot_choice.py --documents 100000 --method mixtures --method kmeans
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import sparse

import deepterms as dt
from common.contenders import Features
from common.descriptors import DEFAULT_FOLDER, generate_mixtures, load_foreign, load_mixed, load_real
from common.measuring import compute_recall, find_exact
from deepterms.evaluation import mean_average_precision

RESULTS = Path(__file__).parent / "results"
WORDS = (4, 8, 16)
QUERY_WORDS = (16, 32, 64)
DEPTHS = (100, 200, 500, 1_000)
DEEP = 100  # hits used to compute mAP
ROWS = 20_000  # per call of encode


def main(
    kind: str = "mixed",
    documents: int = 100_000,
    per_pivot: list[int] = typer.Option([64, 16, 4], help="documents per pivot"),  # noqa: B008
    method: list[str] = typer.Option(["mixtures", "rows", "kmeans", "foreign"], help="how to sample pivots"),  # noqa: B008
    queries: int = 200,
    folder: Path = DEFAULT_FOLDER,
) -> None:
    """Encode with each set of pivots and record the results for each combination of the other parameters."""
    described = load_real(folder)
    if kind == "real":
        features, asked = described.features, described.queries[:queries]
    else:
        features = load_mixed(described.features, documents, folder).astype(np.float32)
        asked = np.concatenate(list(generate_mixtures(described.features, count=queries, seed=1)))
    draws = np.zeros(len(features), dtype=np.int64)
    qrels = {query: relevant for query, relevant in described.qrels.items() if int(query) < len(asked)}
    best = find_exact(features, asked, k=DEEP, draws=draws, below=[None])[None]
    rows: list[dict[str, object]] = []
    if kind == "real":
        print(f"exact cosine: mAP {compute_map(best, qrels):.4f}")
    for how, few in itertools.product(method, per_pivot):
        count = 2 ** round(np.log2(len(features) / few))
        pivots = sample(features, count, how, kind, folder)
        documents_terms = encode(pivots, features)
        query_terms = dt.PivotPermutation(pivots, top_k=1, query_top_k=max(QUERY_WORDS)).encode_queries(asked).matrix
        for words, words_per_query in itertools.product(WORDS, QUERY_WORDS):
            lists = keep_above(documents_terms, max(WORDS) - words).T.tocsr()  # (P, N)
            lists.data[:] = 1
            query = keep_largest(query_terms, words_per_query)
            lengths = np.diff(lists.indptr)
            postings = float(np.mean([lengths[query.indices[a:b]].sum() for a, b in itertools.pairwise(query.indptr)]))
            ranked = [find_candidates(query[[row]], lists, max(DEPTHS)) for row in range(len(asked))]
            cosines = [compute_cosines(features, asked[row], ranked[row]) for row in range(len(asked))]
            for depth in DEPTHS:
                found = [
                    some[:depth][np.argsort(-scores[:depth], kind="stable")[:DEEP]]
                    for some, scores in zip(ranked, cosines, strict=True)
                ]
                noted: dict[str, object] = {
                    "method": how,
                    "pivots": count,
                    "words": words,
                    "query_words": words_per_query,
                    "depth": depth,
                    "postings": postings / len(features),
                    "recall": float(
                        np.mean(
                            [
                                compute_recall(some[:10].tolist(), true[:10])
                                for some, true in zip(found, best, strict=True)
                            ]
                        )
                    ),
                }
                if kind == "real":
                    noted["map"] = compute_map(found, qrels)
                rows.append(noted)
            print(json.dumps(rows[-3]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"choice-{kind}-{len(features)}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")


def sample(features: Features, count: int, method: str, kind: str, folder: Path) -> dt.Pivots:
    """Sample pivots with the named method; `foreign` samples from descriptors of other photographs."""
    if method == "foreign":
        others = load_foreign(folder)
        features = (
            others if kind == "real" else np.concatenate(list(generate_mixtures(others, count=2 * count, seed=2)))
        )
        method = "mixtures"
    return dt.sample_pivots(features, count, method=method)  # type: ignore[arg-type]


def encode(pivots: dt.Pivots, features: Features) -> sparse.csr_array:
    """Encode the nearest pivots of each document: int32 (N, P), where the nearest pivot has the largest value."""
    encoder = dt.PivotPermutation(pivots, top_k=max(WORDS), query_top_k=1, weights="ranks")
    parts = [encoder.encode(features[start : start + ROWS]).matrix for start in range(0, len(features), ROWS)]
    return sparse.csr_array(sparse.vstack(parts))


def keep_above(matrix: sparse.csr_array, above: int) -> sparse.csr_array:
    """Keep the entries above a threshold."""
    copied = matrix.copy()
    copied.data[copied.data <= above] = 0
    copied.eliminate_zeros()
    return copied


def keep_largest(matrix: sparse.csr_array, count: int) -> sparse.csr_array:
    """Keep the largest entries of each row."""
    indices, data = [], []
    for start, end in itertools.pairwise(matrix.indptr):
        order = np.argsort(-matrix.data[start:end], kind="stable")[:count]
        indices.append(matrix.indices[start:end][order])
        data.append(matrix.data[start:end][order])
    indptr = np.arange(0, len(indices) * count + 1, count)
    return sparse.csr_array((np.concatenate(data), np.concatenate(indices), indptr), shape=matrix.shape)


def find_candidates(query: sparse.csr_array, lists: sparse.csr_array, count: int) -> NDArray[np.int64]:
    """Rank documents by their dot product with a query, ties by number."""
    scores = (query @ lists).tocsr()
    order = np.lexsort((scores.indices, -scores.data))[:count]
    found: NDArray[np.int64] = scores.indices[order].astype(np.int64)
    return found


def compute_cosines(features: Features, query: Features, rows: NDArray[np.int64]) -> Features:
    """Compute the cosines of some rows with a query."""
    order = np.argsort(rows)  # ascending, for sequential disk access
    scores = np.empty(len(rows), dtype=np.float32)
    scores[order] = features[rows[order]] @ query
    return scores


def compute_map(found: object, qrels: dict[str, dict[str, int]]) -> float:
    """Compute the mAP of rankings of rows, one per query."""
    rankings: list[NDArray[np.int64]] = list(found)  # type: ignore[call-overload]
    run = {query: {str(row): float(DEEP - place) for place, row in enumerate(rankings[int(query)])} for query in qrels}
    return mean_average_precision(run, qrels)


if __name__ == "__main__":
    typer.run(main)
