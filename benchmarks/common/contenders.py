"""The indices under comparison, with one interface to fill and search them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.encoder import Encoder
from deepterms.errors import IndexNotFound
from deepterms.schema.native_vectors import Compare
from deepterms.schema.vectors import VectorType
from deepterms.storage.pivot_index import PIVOT_INDEX_PREFIX

Features = NDArray[np.float32]
Stored = NDArray[np.float16] | NDArray[np.float32]
Options = Mapping[str, float]

DRAWS = 1_000  # each document has a random number below this, which filters compare
BULK = 250  # documents per request: 6 MB of JSON at 1,280 dimensions
THREADS = 2
PATIENCE = 7_200  # seconds to wait for a merge


class Contender(Protocol):
    """An index of rows, identified by number.

    Attributes:
        name: for tables.
        settings: label → search options.
    """

    name: str
    settings: Mapping[str, Options]

    def create(self) -> None:
        """Create the index, empty."""
        ...

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """Add all rows or the given ones; existing rows are replaced."""
        ...

    def merge(self) -> None:
        """Merge the index into one segment and make it visible to searches."""
        ...

    def refresh(self) -> None:
        """Make all writes visible to searches."""
        ...

    def delete(self, rows: Sequence[int]) -> None:
        """Delete rows."""
        ...

    def stored_bytes(self) -> int:
        """Return the size on disk, or in memory for an index in memory."""
        ...

    def search(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """Find the k nearest rows whose draw is below a limit, best first, as (row, score)."""
        ...

    def drop(self) -> None:
        """Delete the index."""
        ...


@dataclass
class EngineKnn:
    """The engine's own vector index: Lucene HNSW through the k-NN plugin.

    Rows are L2-normalised, so the inner product ranks like the cosine and is faster to compute. Requests are serialised
    by orjson, several times faster than by the client; the index stores only vectors.

    `links` (m) and `beam` (ef_construction) are the engine's defaults; larger values improve recall and slow ingest.
    """

    client: Any
    name: str
    dimensions: int
    bits: int | None = None
    links: int = 16
    beam: int = 100
    settings: Mapping[str, Options] = field(
        default_factory=lambda: {f"ef {ef}": {"ef": ef} for ef in (50, 100, 200, 400, 700, 1_000, 2_000, 4_000, 8_000)}
    )

    def create(self) -> None:
        """Create the index, empty."""
        parameters: dict[str, Any] = {"m": self.links, "ef_construction": self.beam}
        if self.bits:
            parameters["encoder"] = {"name": "sq", "parameters": {"bits": self.bits}}
        vector = {
            "type": "knn_vector",
            "dimension": self.dimensions,
            "method": {"name": "hnsw", "engine": "lucene", "space_type": "innerproduct", "parameters": parameters},
        }
        body = {
            "settings": {
                "index": {"knn": True, "number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
            },
            "mappings": {
                "_source": {"excludes": ["vector"], "recovery_source_enabled": False},
                "properties": {"vector": vector, "draw": {"type": "long"}},
            },
        }
        self.client.transport.perform_request("PUT", f"/{self.name}", body=body)

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """Send bulk requests, two at a time."""
        chosen = range(len(features)) if rows is None else rows
        with ThreadPoolExecutor(THREADS) as pool:
            under_way: deque[Future[None]] = deque()
            for lines in _build_bulks(features, draws, chosen):
                under_way.append(pool.submit(self._send, lines))
                if len(under_way) > 2 * THREADS:
                    under_way.popleft().result()
            for sent in under_way:
                sent.result()

    def _send(self, lines: list[Any]) -> None:
        body = b"\n".join(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) for line in lines) + b"\n"
        answer = self.client.transport.perform_request("POST", f"/{self.name}/_bulk", body=body, params=_patient())
        if answer["errors"]:
            raise RuntimeError(str(next(item for item in answer["items"] if "error" in next(iter(item.values())))))

    def merge(self) -> None:
        """Merge the index into one segment."""
        path = f"/{self.name}/_forcemerge"
        self.client.transport.perform_request("POST", path, params={"max_num_segments": "1", **_patient()})
        self.refresh()

    def refresh(self) -> None:
        """Refresh explicitly; automatic refresh is off."""
        self.client.transport.perform_request("POST", f"/{self.name}/_refresh", params=_patient())

    def delete(self, rows: Sequence[int]) -> None:
        """Send bulk requests."""
        for start in range(0, len(rows), 4 * BULK):
            self._send([{"delete": {"_id": str(row)}} for row in rows[start : start + 4 * BULK]])

    def stored_bytes(self) -> int:
        """Return the size of the store."""
        return _read_store_size(self.client, self.name)

    def search(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """Run one search; the score increases with the cosine."""
        clause: dict[str, Any] = {
            "vector": query,
            "k": max(k, 10),
            "method_parameters": {"ef_search": max(int(options["ef"]), k)},
        }
        if below is not None:
            clause["filter"] = {"range": {"draw": {"lt": below}}}
        body = {"size": k, "_source": False, "track_total_hits": False, "query": {"knn": {"vector": clause}}}
        sent = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self.client.transport.perform_request("POST", f"/{self.name}/_search", body=sent)
        return [(int(hit["_id"]), hit["_score"]) for hit in answer["hits"]["hits"]]

    def drop(self) -> None:
        """Delete the index if it exists."""
        self.client.transport.perform_request("DELETE", f"/{self.name}", params={"ignore_unavailable": "true"})


@dataclass
class Surrogate:
    """A deepterms index through the Python API, including encoding, pivot search and re-ranking.

    The encoder is only made when the index is created, not to search an existing one: sampling pivots reads all over
    the file of descriptors, which would push the indices out of the page cache.
    """

    client: Any
    name: str
    encoder: Callable[[], Encoder]
    vectors: VectorType
    settings: Mapping[str, Options]
    layout: str | None = None
    sketch: bool | None = None
    compare: Compare | None = None
    index: dt.SurrogateIndex | None = None

    def create(self) -> None:
        """Create the index, empty."""
        dt.deploy(self.client)
        self.index = dt.SurrogateIndex.create(
            self.client,
            self.name,
            encoder=self.encoder(),
            layout=self.layout,
            store_vectors=self.vectors,
            sketch=self.sketch,
            compare=self.compare,
            replicas=0,
        )

    def open(self) -> dt.SurrogateIndex:
        """Return the index created by this run, or open the one from an earlier run."""
        if self.index is None:
            self.index = dt.SurrogateIndex.open(self.client, self.name)
        return self.index

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """Add rows with `add_batches`."""
        chosen = range(len(features)) if rows is None else rows
        batches = (
            (
                [str(row) for row in some],
                features[_as_slice(some)].astype(np.float32),
                [{"draw": int(draws[row])} for row in some],
            )
            for some in (chosen[start : start + 1_000] for start in range(0, len(chosen), 1_000))
        )
        report = self.open().add_batches(batches, threads=THREADS)
        if report.succeeded != len(chosen):
            raise RuntimeError(str(report.failed[:1]))

    def merge(self) -> None:
        """Merge the index into one segment."""
        path = f"/{self.name}/_forcemerge"
        self.client.transport.perform_request("POST", path, params={"max_num_segments": "1", **_patient()})
        self.refresh()

    def refresh(self) -> None:
        """Refresh explicitly; the engine also refreshes every second."""
        self.open().refresh()

    def delete(self, rows: Sequence[int]) -> None:
        """Delete through the API."""
        self.open().delete([str(row) for row in rows])

    def stored_bytes(self) -> int:
        """Return the size of the index and of its pivot index."""
        return _read_store_size(self.client, f"{self.name},{PIVOT_INDEX_PREFIX}*-{self.name}-*")

    def search(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """Run one search; the score is the cosine."""
        hits = self.open().search(
            query,
            k=k,
            filter=None if below is None else {"range": {"metadata.draw": {"lt": below}}},
            rerank=int(options["rerank"]),
            effort=options.get("effort", 1.0),
            fields=[],
        )
        return [(int(hit.id), hit.score) for hit in hits]

    def drop(self) -> None:
        """Delete the index if it exists."""
        with suppress(IndexNotFound):
            self.open().drop()
        self.index = None


def build_pivot_settings(
    query_top_k: int, depths: Sequence[int] = (200, 500, 1_000, 2_000, 4_000)
) -> dict[str, Options]:
    """Combine numbers of query words with numbers of candidates to re-rank."""
    return {
        f"{words} words, {depth}": {"effort": words / query_top_k, "rerank": depth}
        for words in (16, 32, 64)
        if words <= query_top_k
        for depth in depths
    }


def build_depth_settings() -> dict[str, Options]:
    """Vary the number of candidates to re-rank."""
    return {f"{depth}": {"rerank": depth} for depth in (200, 500, 1_000)}


def _build_bulks(features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range) -> Iterator[list[Any]]:
    for start in range(0, len(rows), BULK):
        some = rows[start : start + BULK]
        lines: list[Any] = []
        for row, vector in zip(some, np.ascontiguousarray(features[_as_slice(some)], dtype=np.float32), strict=True):
            lines += [{"index": {"_id": str(row)}}, {"vector": vector, "draw": int(draws[row])}]
        yield lines


def _as_slice(rows: Sequence[int] | range) -> slice | Sequence[int]:
    """Convert a range to a slice, which reads a memory-mapped array in one piece."""
    return slice(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


def _patient() -> dict[str, Any]:
    return {"request_timeout": PATIENCE}


def _read_store_size(client: Any, name: str) -> int:
    answer = client.transport.perform_request("GET", f"/{name}/_stats/store")
    return int(answer["_all"]["primaries"]["store"]["size_in_bytes"])
