"""Compare re-ranking by Elasticsearch's unindexed dense_vector with the script: complete searches, interleaved.

Also measures the node's CPU time, which other programs on the machine affect less than wall-clock time.

Needs Elasticsearch:

python benchmarks/dense_vector.py --url http://localhost:9200
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

import deepterms as dt
from common.corpus import Corpus, format_milliseconds, merge
from deepterms.encoders.inputs import normalise_rows
from deepterms.schema.scripts import COSINE_OFFSET
from deepterms.schema.vectors import VectorType, encode_vectors
from deepterms.search.body import search_body
from deepterms.search.rerank import rescore

WARM_UP = 150  # untimed queries of each kind, while the JIT compiles the script
STATISTICS_KEPT = 1.1  # seconds that a node caches its statistics
BLOCK = 50  # queries in one way before the next way's turn
DOCUMENTS_PER_BULK = 200
MAX_BYTE = 127

WAYS = ("none", "script", "dense_vector")

# Stored type → (element type of the dense_vector, the script that gives the same cosine).
SCORES: Mapping[VectorType, tuple[str, str]] = {
    "float32": ("float", "dotProduct(params.query, 'dense')"),  # rows have norm 1
    "int8": ("byte", "cosineSimilarity(params.query, 'dense')"),
}


def quantize(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantize rows (N, D) to integers from −127 to 127, each scaled by its largest component."""
    scaled: NDArray[np.float32] = np.rint(rows / np.abs(rows).max(axis=1, keepdims=True) * MAX_BYTE)
    return scaled


def to_list(row: NDArray[np.float32], vectors: VectorType) -> list[Any]:
    """Convert a row (D,) to the list that a dense_vector accepts."""
    return [int(value) for value in row] if vectors == "int8" else [round(value, 9) for value in row.tolist()]


def fill_index(corpus: Corpus, name: str, vectors: VectorType) -> dt.SurrogateIndex:
    """Fill an index whose documents hold each descriptor twice: as deepterms stores it, and as a dense_vector."""
    index = corpus.create(name, store_vectors=vectors)
    field = {
        "type": "dense_vector",
        "index": False,
        "dims": corpus.encoder.dimensions,
        "element_type": SCORES[vectors][0],
    }
    index.cluster.request("PUT", f"/{name}/_mapping", body={"properties": {"dense": field}})
    for start in range(0, len(corpus.ids), DOCUMENTS_PER_BULK):
        ids, rows = corpus.ids[start : start + DOCUMENTS_PER_BULK], corpus.features[start : start + DOCUMENTS_PER_BULK]
        dense = quantize(rows) if vectors == "int8" else normalise_rows(rows)
        stored, terms = encode_vectors(rows, vectors), corpus.encoder.encode(rows).to_json()
        lines = (
            (
                {"index": {"_id": id}},
                f'{{"terms":{term},"vector":"{text}","dense":{json.dumps(to_list(row, vectors))}}}',
            )
            for id, term, text, row in zip(ids, terms, stored, dense, strict=True)
        )
        rejected = index.cluster.bulk(lines, index=name).failed
        assert not rejected, rejected[0]
    merge(index)
    return index


def build_bodies(
    corpus: Corpus, index: dt.SurrogateIndex, feature: NDArray[np.float32], vectors: VectorType, *, window: int, k: int
) -> dict[str, dict[str, Any]]:
    """Build the same search without re-ranking, re-ranked by the script, and re-ranked by the field."""
    (query,) = normalise_rows(feature[np.newaxis])
    terms = corpus.encoder.encode_queries(feature)
    ours = rescore(query, window=window, vector_type=vectors)
    asked = quantize(query[np.newaxis])[0] if vectors == "int8" else query
    source = f"double score = {SCORES[vectors][1]}; return score + {COSINE_OFFSET};"
    script = {"lang": "painless", "source": source, "params": {"query": to_list(asked, vectors)}}
    theirs = json.loads(json.dumps(ours))
    theirs["query"]["rescore_query"]["script_score"]["script"] = script
    return {
        "none": search_body(terms, layout=index.layout, k=k),
        "script": search_body(terms, layout=index.layout, k=k, rescore=ours),
        "dense_vector": search_body(terms, layout=index.layout, k=k, rescore=theirs),
    }


def read_cpu_ms(index: dt.SurrogateIndex) -> float:
    """Read the CPU milliseconds that all nodes have spent so far."""
    time.sleep(STATISTICS_KEPT)
    nodes = index.cluster.request("GET", "/_nodes/stats/process")["nodes"]
    return float(sum(node["process"]["cpu"]["total_in_millis"] for node in nodes.values()))


def main(
    url: str = "http://localhost:9200",
    documents: int = 5_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    queries: int = 200,
    candidates: int = 500,
    k: int = 10,
) -> None:
    """Fill an index of each type, then run every query on each of them in every way."""
    corpus = Corpus(
        url, documents=documents, dimensions=dimensions, top_k=top_k, queries=queries + WARM_UP, centres=documents // 20
    )
    indices = {vectors: fill_index(corpus, f"dense-{vectors}", vectors) for vectors in SCORES}
    spent: dict[tuple[str, str], list[float]] = {}
    worked: dict[tuple[str, str], float] = {}
    asked = {
        (vectors, way): [
            made[way]
            for feature in corpus.queries
            if (made := build_bodies(corpus, index, feature, vectors, window=candidates, k=k))
        ]
        for vectors, index in indices.items()
        for way in WAYS
    }
    for start in range(0, len(corpus.queries), BLOCK):
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for vectors, index in indices.items():
            for way in WAYS:
                before = read_cpu_ms(index)
                for body in asked[vectors, way][start : start + BLOCK]:
                    started = time.perf_counter()
                    answer = index.cluster.request("POST", f"/{index.name}/_search", body=body)
                    if start >= WARM_UP:
                        spent.setdefault((vectors, way), []).append((time.perf_counter() - started) * 1e3)
                    found.setdefault((vectors, way), []).append(
                        {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}
                    )
                if start >= WARM_UP:
                    worked[vectors, way] = worked.get((vectors, way), 0.0) + read_cpu_ms(index) - before
            for ours, theirs in zip(found[vectors, "script"], found[vectors, "dense_vector"], strict=True):
                off = [abs(ours[id] - theirs[id]) for id in ours.keys() & theirs.keys()]
                assert off and max(off) < (1e-5 if vectors == "float32" else 0.02), off
    print(f"{corpus}, {queries} queries, {candidates} candidates, milliseconds per complete search")
    for vectors in indices:
        ways = "   ".join(
            f"{way} {format_milliseconds(spent[vectors, way])}, CPU {worked[vectors, way] / queries:.2f}"
            for way in WAYS
        )
        print(f"  {vectors:>7}   {ways}")
    for index in indices.values():
        index.drop()


if __name__ == "__main__":
    typer.run(main)
