"""Compare native comparison with scripts and with the engine's own graph: one Elasticsearch node, methods taking turns.

Kinds of descriptors: ``mixed``, generated mixtures of 1,280 dimensions, as `deepterms.advice` uses them; ``patches``,
16 × 16 patches of photographs, reduced to 100 dimensions by principal components: natural and not clustered.

python benchmarks/native.py --url http://localhost:9200 --kind mixed
python benchmarks/native.py --url http://localhost:9200 --kind patches --photographs FOLDER --graph
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer
from numpy.typing import NDArray
from PIL import Image

import deepterms as dt
from common.contenders import DRAWS, Contender, EngineKnn, Features, Options, Surrogate
from common.measuring import CoreSeconds, find_exact, measure_seconds, search_in_turn
from common.pivot_counts import choose_pivot_count
from deepterms.advice.probe import generate_descriptors
from deepterms.cache import cache_folder
from deepterms.cli.connection import connect
from deepterms.encoders.inputs import normalise_rows

K = 10
SIDE = 16  # of a patch, in pixels
REDUCED = 100  # dimensions of a patch's descriptor
MIN_CONTRAST = 12.0  # standard deviation of the grey values of a patch
HELD_OUT = 10  # one in so many photographs gives queries only


class Kind(str, Enum):
    """Kind of descriptors."""

    mixed = "mixed"
    patches = "patches"


@dataclass
class Graph(EngineKnn):
    """Elasticsearch's default vector index, HNSW over binary quantization, with oversampling."""

    settings: Mapping[str, Options] = field(
        default_factory=lambda: {f"{found} found": {"found": found} for found in (20, 50, 100, 200, 400)}
    )

    def create(self) -> None:
        """Create the index, empty."""
        vector = {"type": "dense_vector", "dims": self.dimensions, "similarity": "cosine"}
        vector["index_options"] = {"type": "bbq_hnsw"}
        body = {
            "settings": {"index": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}},
            "mappings": {"properties": {"vector": vector, "draw": {"type": "long"}}},
        }
        self.client.transport.perform_request("PUT", f"/{self.name}", headers=_JSON, body=body)

    def _send(self, lines: list[Any]) -> None:
        body = b"\n".join(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) for line in lines) + b"\n"
        headers = {"content-type": "application/x-ndjson", "accept": "application/json"}
        answer = self.client.options(request_timeout=600).transport.perform_request(
            "POST", f"/{self.name}/_bulk", headers=headers, body=body
        )
        if answer.body["errors"]:
            raise RuntimeError(str(next(item for item in answer.body["items"] if "error" in next(iter(item.values())))))

    def merge(self) -> None:
        """Merge the index into one segment."""
        _merge(self.client, self.name)

    def search(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """Run one search; the score increases with the cosine."""
        clause = {"field": "vector", "query_vector": query, "k": k, "num_candidates": max(int(options["found"]), k)}
        body = {"size": k, "_source": False, "track_total_hits": False, "query": {"knn": clause}}
        sent = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self.client.transport.perform_request("POST", f"/{self.name}/_search", headers=_JSON, body=sent)
        return [(int(hit["_id"]), hit["_score"]) for hit in answer.body["hits"]["hits"]]

    def stored_bytes(self) -> int:
        """Return the size of the store."""
        return _read_store_size(self.client, self.name)

    def drop(self) -> None:
        """Delete the index if it exists."""
        self.client.transport.perform_request("DELETE", f"/{self.name}?ignore_unavailable=true", headers=_JSON)


@dataclass
class Pivots(Surrogate):
    """A deepterms index on Elasticsearch."""

    def merge(self) -> None:
        """Merge the index into one segment."""
        _merge(self.client, self.name)

    def stored_bytes(self) -> int:
        """Return the size of the index without its pivots."""
        return _read_store_size(self.client, self.name)


_JSON = {"content-type": "application/json", "accept": "application/json"}


def _merge(client: Any, name: str) -> None:
    patient = client.options(request_timeout=3_600).transport
    patient.perform_request("POST", f"/{name}/_flush", headers=_JSON)
    patient.perform_request("POST", f"/{name}/_forcemerge?max_num_segments=1", headers=_JSON)
    patient.perform_request("POST", f"/{name}/_refresh", headers=_JSON)


def _read_store_size(client: Any, name: str) -> int:
    answer = client.transport.perform_request("GET", f"/{name}/_stats/store", headers=_JSON).body
    return int(answer["_all"]["primaries"]["store"]["size_in_bytes"])


def cut_patches(folder: Path, count: int, queries: int, *, seed: int = 0) -> tuple[Features, Features]:
    """Cut patches at random places of photographs: descriptors (count, 100) and, of other photographs, queries."""
    rng = np.random.default_rng(seed)
    photographs: list[NDArray[np.float32]] = []
    for path in sorted(folder.iterdir()):
        try:
            with Image.open(path) as image:
                picture = image.convert("RGB")
                picture.thumbnail((512, 512))
                photographs.append(np.asarray(picture, dtype=np.float32))
        except OSError:
            continue  # not a photograph
    usable = [picture for picture in photographs if min(picture.shape[:2]) > 2 * SIDE]
    apart = usable[::HELD_OUT]
    rest = [picture for place, picture in enumerate(usable) if place % HELD_OUT]

    def cut(pictures: list[NDArray[np.float32]], wanted: int) -> NDArray[np.float32]:
        kept: list[NDArray[np.float32]] = []
        while len(kept) < wanted:
            picture = pictures[rng.integers(len(pictures))]
            y, x = (rng.integers(size - SIDE) for size in picture.shape[:2])
            patch = picture[y : y + SIDE, x : x + SIDE]
            if patch.mean(axis=2).std() >= MIN_CONTRAST:
                kept.append(patch.ravel())
        rows = np.stack(kept)
        centred: NDArray[np.float32] = rows - rows.mean(axis=1, keepdims=True)
        return centred

    documents, asked = cut(rest, count), cut(apart, queries)
    sample = documents[:20_000]
    _, axes = np.linalg.eigh(np.cov((sample - sample.mean(axis=0)).T))
    projection = axes[:, -REDUCED:].astype(np.float32)
    return normalise_rows(documents @ projection), normalise_rows(asked @ projection)


def main(
    url: Annotated[str, typer.Option(help="Address of Elasticsearch 9.2 or later.")] = "http://localhost:9200",
    kind: Kind = Kind.mixed,
    documents: int = 50_000,
    queries: int = 300,
    photographs: Annotated[Path | None, typer.Option(help="Folder of photographs. Default: those of the demo.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Also measure bbq_hnsw.")] = False,
    pid: Annotated[int, typer.Option(help="Process id of the node, to measure its CPU time.")] = 0,
) -> None:
    """Fill the indices, and print recall, milliseconds and bytes."""
    client = connect(url)
    if kind is Kind.mixed:
        rows = normalise_rows(generate_descriptors(documents, 1_280))
        asked = normalise_rows(generate_descriptors(queries, 1_280, seed=1))
    else:
        rows, asked = cut_patches(photographs or cache_folder() / "photographs", documents, queries)
    draws = np.random.default_rng(7).integers(0, DRAWS, documents)
    true = find_exact(rows, asked, k=K, draws=draws, below=(None,))[None]
    pivots = choose_pivot_count(documents)
    encoder = dt.PivotPermutation(dt.sample_pivots(rows, pivots), top_k=4, query_top_k=64)
    contenders: list[Contender] = [
        Pivots(
            client,
            "benchmark-script",
            lambda: encoder,
            "int8",
            {
                f"{words} words, {depth}": {"effort": words / 64, "rerank": depth}
                for words, depth in ((16, 1_000), (32, 1_000), (64, 1_000), (64, 4_000))
            },
            compare="script",
        ),
        Pivots(
            client,
            "benchmark-native",
            lambda: encoder,
            "int8",
            {f"{words} words": {"effort": words / 64, "rerank": 1_000} for words in (4, 8, 16, 32, 64)},
            compare="native",
        ),
    ]
    if graph:
        contenders.append(Graph(client, "benchmark-graph", rows.shape[1]))
    print(f"{kind.value}: {documents:,} × {rows.shape[1]}, {pivots} pivots, {queries} queries")
    contestants: dict[str, tuple[Contender, Options]] = {}
    for contender in contenders:
        contender.drop()
        contender.create()
        seconds = measure_seconds(lambda one=contender: one.fill(rows, draws))  # type: ignore[misc]
        contender.refresh()
        filled = contender.stored_bytes()
        seconds += measure_seconds(contender.merge)
        print(
            f"{contender.name:18} {documents / seconds:8,.0f} documents/s merged   "
            f"{filled / documents:7,.0f} bytes a document, {contender.stored_bytes() / documents:,.0f} merged"
        )
        contestants |= {f"{contender.name}, {label}": (contender, one) for label, one in contender.settings.items()}
    found = search_in_turn(contestants, asked, true, k=K)
    for label, (contender, options) in contestants.items():
        cores = ""
        if pid:
            spent = CoreSeconds(pid)
            for query in asked:
                contender.search(query, options, k=K)
            cores = f"   {spent() / len(asked) * 1e3:6.2f} core ms"
        own = found[label]
        print(f"{label:36} R@10 {own['recall']:.3f}   p50 {own['p50']:6.2f}   p95 {own['p95']:6.2f} ms{cores}")
    for contender in contenders:
        contender.drop()


if __name__ == "__main__":
    typer.run(main)
