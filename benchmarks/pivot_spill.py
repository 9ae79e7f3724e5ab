"""Measure SOAR words against the nearest pivots: what lists that are read in full find, and what the choice costs.

python benchmarks/pivot_spill.py recall --kind mixed --documents 40000 --pivots 1024
python benchmarks/pivot_spill.py recall --kind real
python benchmarks/pivot_spill.py recall --features FILE.npy --pivots 4096
python benchmarks/pivot_spill.py encode
python benchmarks/pivot_spill.py ingest URL

`recall` compares every document that shares a codeword with the query, by exact cosine, so R@10 is the share of the ten
nearest that have one of its codewords. Queries are not in the collection: additional crops for `real`, mixtures of
another seed for `mixed`, and rows held out at random for a file. `ingest` takes turns, and counts the processor time of
the client and that of the node, as its statistics report it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any, get_args

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import sparse

import deepterms as dt
from common.descriptors import DEFAULT_FOLDER, generate_mixtures
from deepterms.cli.connection import connect
from deepterms.encoders.pivots.permutation import Spill
from deepterms.evaluation.photos.crops import MAX_CROPS, describe_crops
from pivot_assignment import generate_descriptors

RESULTS = Path(__file__).parent / "results"
WORDS = ((4, "nearest"), (3, "soar"), (4, "soar"), (8, "nearest"), (8, "soar"))
QUERY_WORDS = (8, 16, 32)
ROUNDS = 5

app = typer.Typer(help=__doc__, add_completion=False)


@app.command()
def recall(
    kind: str = "mixed",
    documents: int = 40_000,
    pivots: int | None = None,
    queries: int = 300,
    crops: int = MAX_CROPS,
    features: Annotated[Path | None, typer.Option(help="A float array (N, D) to read instead.")] = None,
    folder: Path = DEFAULT_FOLDER,
) -> None:
    """Record R@10 of all documents in a query's lists, and their postings, for both spills."""
    if features is not None:
        rows = np.load(features).astype(np.float32)
        rows = rows[np.random.default_rng(0).permutation(np.flatnonzero(rows.any(axis=1)))]
        asked, rows, kind = rows[:queries], rows[queries:], features.stem
    else:
        described = describe_crops(folder, crops=crops)
        rows, asked = described.features, described.queries[:queries]
        if kind == "mixed":
            asked = np.concatenate(list(generate_mixtures(rows, count=queries, seed=1)))
            rows = np.concatenate(list(generate_mixtures(rows, count=documents, seed=0)))
    rows, asked = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, asked))
    count = pivots or 2 ** round(np.log2(len(rows) / 16))
    chosen = dt.sample_pivots(rows, count, method="auto")
    best = np.argpartition(-(asked @ rows.T), 10, axis=1)[:, :10]
    noted: list[dict[str, Any]] = []
    for words, spill in WORDS:
        encoder = dt.PivotPermutation(chosen, top_k=words, query_top_k=1, spill=spill)  # type: ignore[arg-type]
        lists = sparse.csr_array(encoder.encode(rows).matrix > 0, dtype=np.int32).T.tocsr()
        for query_words in QUERY_WORDS:
            query = sparse.csr_array(encoder.encode_wider_queries(asked, words_per_query=query_words).matrix > 0)
            shared = sparse.csr_array(query.astype(np.int32) @ lists)
            noted.append(
                {
                    "kind": kind,
                    "documents": len(rows),
                    "dimensions": rows.shape[1],
                    "pivots": count,
                    "spill": spill,
                    "words": words,
                    "query_words": query_words,
                    "recall": compute_found(shared, best),
                    "postings": float(shared.sum()) / len(asked),
                    "compared": shared.nnz / len(asked),
                }
            )
            print(json.dumps(noted[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"spill-{kind}-{len(rows)}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in noted) + "\n]\n", encoding="utf-8")


def compute_found(shared: sparse.csr_array, best: NDArray[np.int64]) -> float:
    """Compute the share of the best rows (Q, k) that share a codeword with their query, from shared words (Q, N)."""
    found = [
        np.isin(best[row], shared.indices[shared.indptr[row] : shared.indptr[row + 1]]).mean()
        for row in range(len(best))
    ]
    return float(np.mean(found))


def build_encoders(pivots: int, dimensions: int) -> dict[str, dt.PivotPermutation]:
    """Build encoders with both spills; the search tables are built before anything is timed."""
    chosen = dt.sample_pivots(generate_descriptors(2 * pivots, dimensions, 1), pivots)
    encoders = {
        f"{spill} {words}": dt.PivotPermutation(chosen, top_k=words, query_top_k=32, spill=spill)
        for words in (3, 4, 8)
        for spill in get_args(Spill)
    }
    for encoder in encoders.values():
        encoder.encode(generate_descriptors(10, dimensions, 3))
    return encoders


@app.command()
def encode(documents: int = 20_000, dimensions: int = 1_280, pivots: int = 8_192, rounds: int = ROUNDS) -> None:
    """Print the processor time that encoding takes per document, in turns: medians of rounds."""
    encoders, rows = build_encoders(pivots, dimensions), generate_descriptors(documents, dimensions, 2)
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds):
        for name, encoder in encoders.items():
            started = time.process_time()
            encoder.encode(rows)
            times[name].append(1e6 * (time.process_time() - started) / documents)
    for name, microseconds in times.items():
        print(f"{name}: {median(microseconds):.0f} µs of processor time per document")


@app.command()
def ingest(url: str, documents: int = 20_000, dimensions: int = 1_280, pivots: int = 8_192, rounds: int = 3) -> None:
    """Print the processor time per document of client and node for filling an index, in turns: medians of rounds."""
    client = connect(url)
    dt.deploy(client)
    encoders, rows = build_encoders(pivots, dimensions), generate_descriptors(documents, dimensions, 2)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("nearest 4", "soar 3", "soar 4")}
    ids = [str(row) for row in range(documents)]
    for _ in range(rounds):
        for name, taken in times.items():
            index = dt.SurrogateIndex.create(
                client, "spill-benchmark", encoder=encoders[name], layout="codewords", store_vectors="int8", replicas=0
            )
            node, started = read_node_seconds(client), time.process_time()
            index.add(ids, rows)
            index.refresh()
            own = time.process_time() - started
            taken.append((1e6 * own / documents, 1e6 * (read_node_seconds(client) - node) / documents))
            index.drop()
    for name, taken in times.items():
        own, whole = median(one for one, _ in taken), median(one + other for one, other in taken)
        print(f"{name}: {whole:.0f} µs of processor time per document, {own:.0f} of them in the client")


def read_node_seconds(client: Any) -> float:
    """Read the processor time of the cluster's node, in seconds."""
    nodes = client.nodes.stats(metric="process")["nodes"]
    return sum(float(node["process"]["cpu"]["total_in_millis"]) for node in nodes.values()) / 1_000


if __name__ == "__main__":
    app()
