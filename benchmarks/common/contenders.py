"""What is compared: indices of a cluster and of this process's memory, filled and asked alike."""

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
from deepterms.schema.vectors import VectorType
from deepterms.storage.pivot_index import COMPANIONS

Features = NDArray[np.float32]
Stored = NDArray[np.float16] | NDArray[np.float32]
Options = Mapping[str, float]

DRAWS = 1_000  # each document has a number below it, by which filters choose
BULK = 250  # documents: six megabytes of 1,280 dimensions as JSON
THREADS = 2
PATIENCE = 7_200  # seconds that a merge may take


class Contender(Protocol):
    """An index of rows, each known by its number.

    Attributes:
        name: in tables.
        settings: label → what is set for a search.
    """

    name: str
    settings: Mapping[str, Options]

    def create(self) -> None:
        """The index, empty."""
        ...

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """Add every row, or those given, each replacing what has its number."""
        ...

    def merge(self) -> None:
        """Make one segment of it, visible to search."""
        ...

    def refresh(self) -> None:
        """Make what was written visible to search."""
        ...

    def delete(self, rows: Sequence[int]) -> None:
        """Take rows out."""
        ...

    def stored_bytes(self) -> int:
        """On the disk; of an index in memory, there."""
        ...

    def ask(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """The k rows nearest to a query, best first, of those whose draw is below a number: (row, score)."""
        ...

    def drop(self) -> None:
        """Remove it."""
        ...


@dataclass
class EngineKnn:
    """The engine's own vector index: HNSW of Lucene, by the k-NN plugin.

    Rows are L2-normalised, so the inner product orders as the cosine does, and is computed quicker. They travel as JSON
    that orjson writes, several times faster than the client's own; nothing but them is stored.

    `links` (m) and `beam` (ef_construction) are the engine's defaults: more of both find more, for a longer ingest.
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
        """The index, empty."""
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
        """In bulk requests, two under way at once."""
        chosen = range(len(features)) if rows is None else rows
        with ThreadPoolExecutor(THREADS) as pool:
            under_way: deque[Future[None]] = deque()
            for lines in _bulks(features, draws, chosen):
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
        """To one segment."""
        path = f"/{self.name}/_forcemerge"
        self.client.transport.perform_request("POST", path, params={"max_num_segments": "1", **_patient()})
        self.refresh()

    def refresh(self) -> None:
        """By request: the index does not do it by itself."""
        self.client.transport.perform_request("POST", f"/{self.name}/_refresh", params=_patient())

    def delete(self, rows: Sequence[int]) -> None:
        """In bulk requests."""
        for start in range(0, len(rows), 4 * BULK):
            self._send([{"delete": {"_id": str(row)}} for row in rows[start : start + 4 * BULK]])

    def stored_bytes(self) -> int:
        """Of the store."""
        return _store_size(self.client, self.name)

    def ask(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """One search; the score grows with the cosine."""
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
        """Deletes it, if it is there."""
        self.client.transport.perform_request("DELETE", f"/{self.name}", params={"ignore_unavailable": "true"})


@dataclass
class Surrogate:
    """An index of deepterms, through its own Python API: encoding, finding pivots and re-ranking included.

    Its encoder is made with the index, and not to search one: pivots are sampled all over a file of descriptors, which
    would take the page cache from the indices.
    """

    client: Any
    name: str
    encoder: Callable[[], Encoder]
    vectors: VectorType
    settings: Mapping[str, Options]
    layout: str | None = None
    sketch: bool | None = None
    index: dt.SurrogateIndex | None = None

    def create(self) -> None:
        """The index, empty."""
        dt.deploy(self.client)
        self.index = dt.SurrogateIndex.create(
            self.client,
            self.name,
            encoder=self.encoder(),
            layout=self.layout,
            store_vectors=self.vectors,
            sketch=self.sketch,
            replicas=0,
        )

    def opened(self) -> dt.SurrogateIndex:
        """The index, as it was made by this run or an earlier one."""
        if self.index is None:
            self.index = dt.SurrogateIndex.open(self.client, self.name)
        return self.index

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """By `add_batches`."""
        chosen = range(len(features)) if rows is None else rows
        batches = (
            (
                [str(row) for row in some],
                features[_slice(some)].astype(np.float32),
                [{"draw": int(draws[row])} for row in some],
            )
            for some in (chosen[start : start + 1_000] for start in range(0, len(chosen), 1_000))
        )
        report = self.opened().add_batches(batches, threads=THREADS)
        if report.succeeded != len(chosen):
            raise RuntimeError(str(report.failed[:1]))

    def merge(self) -> None:
        """To one segment."""
        path = f"/{self.name}/_forcemerge"
        self.client.transport.perform_request("POST", path, params={"max_num_segments": "1", **_patient()})
        self.refresh()

    def refresh(self) -> None:
        """By request; the engine does it by itself each second too."""
        self.opened().refresh()

    def delete(self, rows: Sequence[int]) -> None:
        """By the API."""
        self.opened().delete([str(row) for row in rows])

    def stored_bytes(self) -> int:
        """Of the store, and of its pivots beside it."""
        return _store_size(self.client, f"{self.name},{COMPANIONS}*-{self.name}-*")

    def ask(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """One search; the score is the cosine."""
        hits = self.opened().search(
            query,
            k=k,
            filter=None if below is None else {"range": {"metadata.draw": {"lt": below}}},
            rerank=int(options["rerank"]),
            effort=options.get("effort", 1.0),
            fields=[],
        )
        return [(int(hit.id), hit.score) for hit in hits]

    def drop(self) -> None:
        """Deletes it, if it is there."""
        with suppress(IndexNotFound):
            self.opened().drop()
        self.index = None


def pivot_settings(query_top_k: int, depths: Sequence[int] = (200, 500, 1_000, 2_000, 4_000)) -> dict[str, Options]:
    """Query words and candidates to re-rank."""
    return {
        f"{words} words, {depth}": {"effort": words / query_top_k, "rerank": depth}
        for words in (16, 32, 64)
        if words <= query_top_k
        for depth in depths
    }


def depth_settings() -> dict[str, Options]:
    """Candidates to re-rank."""
    return {f"{depth}": {"rerank": depth} for depth in (200, 500, 1_000)}


def _bulks(features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range) -> Iterator[list[Any]]:
    for start in range(0, len(rows), BULK):
        some = rows[start : start + BULK]
        lines: list[Any] = []
        for row, vector in zip(some, np.ascontiguousarray(features[_slice(some)], dtype=np.float32), strict=True):
            lines += [{"index": {"_id": str(row)}}, {"vector": vector, "draw": int(draws[row])}]
        yield lines


def _slice(rows: Sequence[int] | range) -> slice | Sequence[int]:
    """A piece of a memory-mapped array is read at once if it is a slice."""
    return slice(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


def _patient() -> dict[str, Any]:
    return {"request_timeout": PATIENCE}


def _store_size(client: Any, name: str) -> int:
    answer = client.transport.perform_request("GET", f"/{name}/_stats/store")
    return int(answer["_all"]["primaries"]["store"]["size_in_bytes"])
