"""Compare pivot codewords with the engine's own k-NN and other alternatives: one node, one run, interleaved.

Starts OpenSearch 3.6.0 with the k-NN plugin (Lucene HNSW) and generates the descriptors. Each part adds its
measurements to benchmarks/results/KIND-DOCUMENTS.json or KIND-DOCUMENTS-RUN.json; at the end, common/frontier.py turns
them into tables and a plot.

python benchmarks/pivots_against_knn.py --documents 100000                 # all parts: half an hour on two cores
python benchmarks/pivots_against_knn.py --documents 100000 --part search   # repeats one part
python benchmarks/pivots_against_knn.py --kind real                        # crops of photographs instead of mixtures
python benchmarks/pivots_against_knn.py --documents 2000000 --apart --only knn --only "pivots int8"   # 23 GB of memory
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import typer
from numpy.typing import NDArray

import deepterms as dt
from common import frontier
from common.contenders import (
    DRAWS,
    Contender,
    EngineKnn,
    Features,
    Stored,
    Surrogate,
    build_depth_settings,
    build_pivot_settings,
)
from common.descriptors import DEFAULT_FOLDER, RealDescriptors, generate_mixtures, load_foreign, load_mixed, load_real
from common.knn_node import VERSION, create_knn_node
from common.measuring import (
    CoreSeconds,
    find_exact,
    measure_seconds,
    search_concurrently,
    search_in_turn,
    summarize_times,
)
from common.pivot_counts import choose_pivot_count
from deepterms.cli.connection import connect
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.sampling import SamplingMethod
from deepterms.evaluation import mean_average_precision
from deepterms.schema.vectors import VectorType

RESULTS = Path(__file__).parent / "results"
K = 10
DEEP = 100  # hits used to compute mAP
SHARES = (500, 200, 100, 10, 1)  # documents per thousand that a filter keeps
CHANGED = 0.01  # share of the documents that is updated and deleted
GOOD = 0.98  # recall required of the setting that represents a contender when not all settings are tried
DOCUMENT_WORDS = 4
QUERY_WORDS = 64


class Kind(str, Enum):
    """Kind of descriptors."""

    real = "real"
    mixed = "mixed"


class Benchmark:
    """The descriptors, the node and the measurements so far."""

    def __init__(
        self,
        kind: Kind,
        documents: int,
        *,
        queries: int,
        pivots: int,
        folder: Path,
        data: Path,
        heap: str,
        run: str = "",
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.base: RealDescriptors = load_real(folder)
        if kind is Kind.real:
            self.features: Stored = self.base.features
            self.queries: Features = self.base.queries[:queries]
        else:
            self.features = load_mixed(self.base.features, documents, folder)
            self.queries = np.concatenate(list(generate_mixtures(self.base.features, count=queries, seed=1)))
        self.documents = len(self.features)
        self.draws: NDArray[np.int64] = np.random.default_rng(7).integers(0, DRAWS, self.documents)
        self.pivots = pivots or choose_pivot_count(self.documents)
        self.node = create_knn_node(data)
        self.heap = heap
        self.path = RESULTS / f"{'-'.join(filter(None, (kind.value, str(self.documents), run)))}.json"

    @cached_property
    def client(self) -> Any:
        """Client of the node, which is started on first access."""
        url = self.node.start(port=0, heap=self.heap).url
        return connect(str(url))

    @property
    def pid(self) -> int:
        """Process id of the node, which is started if necessary."""
        assert self.client
        return int(self.node.status().pid or 0)

    @cached_property
    def truth(self) -> dict[int | None, NDArray[np.int64]]:
        """Exact answers without a filter (None) and with each filter."""
        cached = self.folder / f"truth-{self.kind.value}-{self.documents}-{len(self.queries)}.npz"
        limits = (None, *SHARES)
        if not cached.exists():
            found = find_exact(self.features, self.queries, k=K, draws=self.draws, below=limits)
            np.savez(cached, *(found[limit] for limit in limits))
        with np.load(cached) as stored:
            return {limit: stored[f"arr_{place}"] for place, limit in enumerate(limits)}

    @cached_property
    def others(self) -> Features:
        """Descriptors of photographs that show no scene of the collection."""
        return load_foreign(self.folder)

    def sample(self, method: str, count: int = 0) -> Pivots:
        """Sample pivots from the collection or, for ``foreign``, from photographs that show none of its scenes."""
        if method != "foreign":
            return dt.sample_pivots(self.features, count or self.pivots, method=cast(SamplingMethod, method))
        features = self.others
        if self.kind is Kind.mixed:
            features = np.concatenate(list(generate_mixtures(features, count=2 * self.pivots, seed=2)))
        return dt.sample_pivots(features, self.pivots)

    def contenders(self) -> dict[str, Callable[[], Contender]]:
        """Map names to functions that create the contenders."""
        tag = f"{self.kind.value}-{self.documents}"
        D = self.features.shape[1]

        def knn(bits: int | None) -> Contender:
            return EngineKnn(self.client, f"bench-{tag}-knn{bits or ''}", D, bits)

        def pivots(
            vectors: VectorType,
            method: str = "mixtures",
            *,
            count: int = 0,
            sketch: bool = True,
            words: int = DOCUMENT_WORDS,
        ) -> Contender:
            def encoder() -> Encoder:
                return dt.PivotPermutation(self.sample(method, count), top_k=words, query_top_k=QUERY_WORDS)

            name = f"bench-{tag}-pivots-{vectors}-{method}-{count or self.pivots}{'' if sketch else '-plain'}"
            name += f"-{words}" if words != DOCUMENT_WORDS else ""
            settings = build_pivot_settings(QUERY_WORDS)
            return Surrogate(self.client, name, encoder, vectors, settings, layout="codewords", sketch=sketch)

        def pivot_pairs() -> Contender:
            def encoder() -> Encoder:
                return dt.PivotPairs(self.sample("mixtures"))

            name = f"bench-{tag}-pivot-pairs"
            return Surrogate(self.client, name, encoder, "int8", build_depth_settings(), layout="codewords")

        def pairs() -> Contender:
            name = f"bench-{tag}-pairs"
            return Surrogate(
                self.client, name, lambda: dt.PairCodewords(D), "int8", build_depth_settings(), layout="codewords"
            )

        def components(top_k: int) -> Contender:
            name = f"bench-{tag}-components-{top_k}"
            return Surrogate(
                self.client,
                name,
                lambda: dt.DeepPermutation(D, top_k=top_k),
                "int8",
                build_depth_settings(),
                "frequencies",
            )

        return {
            "knn": lambda: knn(None),
            "knn 7-bit": lambda: knn(7),
            "knn m 32, ef_construction 256": lambda: EngineKnn(
                self.client, f"bench-{tag}-knn-m32", D, links=32, beam=256
            ),
            "pivots int8": lambda: pivots("int8"),
            "pivots float32": lambda: pivots("float32"),
            "pivots int8, half of them": lambda: pivots("int8", count=self.pivots // 2),
            "pivots int8, a quarter of them": lambda: pivots("int8", count=self.pivots // 4),
            "pivots int8, twice as many words": lambda: pivots("int8", words=2 * DOCUMENT_WORDS),
            "pivots int8, no sketches": lambda: pivots("int8", sketch=False),
            "pivots int8, foreign": lambda: pivots("int8", "foreign"),
            "pivots int8, k-means": lambda: pivots("int8", "kmeans"),
            "pivot pairs": pivot_pairs,
            "pairs": pairs,
            "components K=42": lambda: components(42),
            "components K=100": lambda: components(100),
        }

    def read_results(self) -> dict[str, Any]:
        """Read the measurements of earlier parts."""
        try:
            noted: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            noted = {}
        return noted

    def note(self, part: str, contender: str, values: Mapping[str, Any]) -> None:
        """Add measurements to the results."""
        noted = self.read_results()
        noted["about"] = {
            "kind": self.kind.value,
            "documents": self.documents,
            "dimensions": int(self.features.shape[1]),
            "queries": len(self.queries),
            "pivots": self.pivots,
            "document_words": DOCUMENT_WORDS,
            "engine": f"OpenSearch {VERSION}, one node, one shard, {self.heap} heap",
            "cores": os.cpu_count(),
            "processor": _read_processor(),
        }
        noted.setdefault(part, {}).setdefault(contender, {}).update(values)
        RESULTS.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
        print(f"{part:>8}  {contender}: {_shorten(values)}", flush=True)

    def create_filled(self, chosen: Sequence[str]) -> dict[str, Contender]:
        """Create the contenders whose index was filled by an earlier part."""
        noted = self.read_results().get("fill", {})
        return {name: make() for name, make in self.contenders().items() if name in noted and name in chosen}

    def choose_setting(self, name: str, contender: Contender) -> str:
        """Choose the fastest setting that reaches `GOOD`, or else the one with the highest recall."""
        searched = self.read_results()["search"][name]
        good = [label for label in contender.settings if searched[label]["recall"] >= GOOD]
        if good:
            return min(good, key=lambda label: float(searched[label]["p50"]))
        return max(contender.settings, key=lambda label: float(searched[label]["recall"]))


def fill(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Fill each index from scratch: documents per second until they are merged and searchable, and bytes."""
    for name, make in benchmark.contenders().items():
        if name not in chosen:
            continue
        if name.endswith("foreign"):
            assert len(benchmark.others)  # loads them before the clock starts
        load = os.getloadavg()[0]
        spent = CoreSeconds(benchmark.pid)
        started = time.perf_counter()  # sampling pivots is included
        contender = make()
        contender.drop()
        contender.create()
        contender.fill(benchmark.features, benchmark.draws)
        adding = time.perf_counter() - started
        # Vectors left out of _source are kept for recovery. A merge drops them once the shard copies have synchronized
        # their global checkpoint, which happens every 30 seconds.
        time.sleep(35)
        benchmark.client.transport.perform_request("POST", f"/{contender.name}/_flush")
        merging = measure_seconds(contender.merge)
        benchmark.note(
            "fill",
            name,
            {
                "docs_per_second_added": benchmark.documents / adding,
                "docs_per_second_merged": benchmark.documents / (adding + merging),
                "core_seconds": spent(),
                "bytes": contender.stored_bytes(),
                "load": [load, os.getloadavg()[0]],
            },
        )


def sizes(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure bytes on disk again, because right after a merge the engine may still hold the replaced segments."""
    benchmark.client.transport.perform_request("POST", "/_flush")
    for name, contender in benchmark.create_filled(chosen).items():
        benchmark.note("fill", name, {"bytes": contender.stored_bytes()})


def search(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure milliseconds and R@10 for every setting of every index, interleaved."""
    contenders = benchmark.create_filled(chosen)
    for contender in contenders.values():
        _preload(benchmark, contender)
    contestants = {
        f"{name}|{label}": (contender, options)
        for name, contender in contenders.items()
        for label, options in contender.settings.items()
    }
    for _ in ("warm-up", "measurement"):  # a newly started engine takes 50 % longer
        found = search_in_turn(contestants, benchmark.queries, benchmark.truth[None], k=K)
    for name, contender in contenders.items():
        benchmark.note("search", name, {label: found[f"{name}|{label}"] for label in contender.settings})


def quality(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure the mAP of the first hundred hits and of exact cosine, if the collection has relevance judgements."""
    if benchmark.kind is not Kind.real:
        return
    asked = len(benchmark.queries)
    qrels = {query: relevant for query, relevant in benchmark.base.qrels.items() if int(query) < asked}
    best = find_exact(benchmark.features, benchmark.queries, k=DEEP, draws=benchmark.draws, below=[None])[None]
    ranked = {query: {str(row): float(DEEP - place) for place, row in enumerate(best[int(query)])} for query in qrels}
    benchmark.note("quality", "exact cosine", {"all": {"map": mean_average_precision(ranked, qrels)}})
    contenders = benchmark.create_filled(chosen)
    contestants = [(name, label) for name, contender in contenders.items() for label in contender.settings]
    times: dict[tuple[str, str], list[float]] = {each: [] for each in contestants}
    runs: dict[tuple[str, str], dict[str, dict[str, float]]] = {each: {} for each in contestants}
    for query in qrels:  # alternating, so that a load spike affects all of them
        for name, label in contestants if int(query) % 2 else reversed(contestants):
            contender = contenders[name]
            started = time.perf_counter()
            hits = contender.search(benchmark.queries[int(query)], contender.settings[label], k=DEEP)
            times[name, label].append((time.perf_counter() - started) * 1e3)
            runs[name, label][query] = {str(row): score for row, score in hits}
    for name, label in contestants:
        values = summarize_times(times[name, label]) | {"map": mean_average_precision(runs[name, label], qrels)}
        benchmark.note("quality", name, {label: values})


def clients(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure throughput with one client and with four."""
    contenders = benchmark.create_filled(chosen)
    for count in (1, 4):
        for name, contender in contenders.items():
            label = benchmark.choose_setting(name, contender)
            contender.search(benchmark.queries[0], contender.settings[label], k=K)  # one-time setup
            spent = CoreSeconds(benchmark.pid)
            found = search_concurrently(contender, contender.settings[label], benchmark.queries, k=K, clients=count)
            found["core_ms"] = 1e3 * spent() / found["queries"]
            benchmark.note("clients", name, {str(count): found | {"setting": label}})


def filters(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure filters that keep between a half and a thousandth, at the setting chosen without filters."""
    contenders = benchmark.create_filled(chosen)
    for below in SHARES:
        contestants = {
            name: (contender, contender.settings[benchmark.choose_setting(name, contender)])
            for name, contender in contenders.items()
        }
        found = search_in_turn(contestants, benchmark.queries, benchmark.truth[below], k=K, below=below)
        for name in contestants:
            benchmark.note("filters", name, {str(below): found[name]})


def changes(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure updates and deletes of one document in a hundred, and searches after the updates, before a merge."""
    rng = np.random.default_rng(13)
    rows = sorted(
        int(row) for row in rng.choice(benchmark.documents, int(CHANGED * benchmark.documents), replace=False)
    )
    for name, contender in benchmark.create_filled(chosen).items():

        def update(contender: Contender = contender) -> None:
            contender.fill(benchmark.features, benchmark.draws, rows)
            contender.refresh()

        def delete(contender: Contender = contender) -> None:
            contender.delete(rows)
            contender.refresh()

        options = contender.settings[benchmark.choose_setting(name, contender)]
        updating = measure_seconds(update)
        after = search_in_turn({name: (contender, options)}, benchmark.queries, benchmark.truth[None], k=K)[name]
        deleting = measure_seconds(delete)
        update()  # restores the deleted documents
        benchmark.note(
            "changes",
            name,
            {
                "updates_per_second": len(rows) / updating,
                "deletes_per_second": len(rows) / deleting,
                "after_updates": after,
            },
        )


def restart(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Restart the node with a cold page cache, and measure the first query and the next twenty of each contender."""
    names = benchmark.create_filled(chosen)
    settings = {name: benchmark.choose_setting(name, contender) for name, contender in names.items()}
    for name in names:
        benchmark.node.stop()
        benchmark.__dict__.pop("client", None)
        _evict(benchmark.node.data_dir)
        starting = measure_seconds(lambda: benchmark.client)
        contender = benchmark.contenders()[name]()
        options = contender.settings[settings[name]]
        times = []
        for query in benchmark.queries[:21]:
            times.append(measure_seconds(lambda: contender.search(query, options, k=K)) * 1e3)  # noqa: B023
        benchmark.note(
            "restart",
            name,
            {
                "node_seconds": starting,
                "first_ms": times[0],
                "next_twenty_mean_ms": float(np.mean(times[1:])),
                "setting": settings[name],
            },
        )


def memory(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Measure FAISS in this process: fill and search in one part, because the indices are not saved."""
    from common.faiss_indices import create_faiss_indices, faiss

    for contender in create_faiss_indices():
        load = os.getloadavg()[0]
        spent = time.process_time()
        building = measure_seconds(lambda: contender.fill(benchmark.features, benchmark.draws))  # noqa: B023
        benchmark.note(
            "fill",
            contender.name,
            {
                "docs_per_second_added": benchmark.documents / building,
                "docs_per_second_merged": benchmark.documents / building,
                "core_seconds": time.process_time() - spent,
                "bytes": contender.stored_bytes(),
                "load": [load, os.getloadavg()[0]],
            },
        )
        faiss.omp_set_num_threads(1)  # a single query occupies only one thread
        contestants = {label: (contender, options) for label, options in contender.settings.items()}
        found = search_in_turn(contestants, benchmark.queries, benchmark.truth[None], k=K)
        benchmark.note("search", contender.name, found)
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        contender.drop()


PARTS = {part.__name__: part for part in (fill, sizes, search, quality, clients, filters, changes, restart, memory)}


def _evict(folder: Path) -> None:
    """Drop files from the page cache, if the system supports it."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _preload(benchmark: Benchmark, contender: Contender) -> None:
    """Read an index's files into the page cache."""
    for found in benchmark.client.indices.get_settings(index=contender.name).values():
        for path in benchmark.node.data_dir.rglob(f"indices/{found['settings']['index']['uuid']}/*/index/*"):
            with path.open("rb") as file:
                while file.read(2**24):
                    pass


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _shorten(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, default=str)
    return text if len(text) < 400 else text[:400] + " …"


def main(
    kind: Kind = Kind.mixed,
    documents: int = 100_000,
    part: list[str] = typer.Option([], help=f"one of {', '.join(PARTS)}; default: all"),  # noqa: B008
    only: list[str] = typer.Option([], help="a contender; default: all"),  # noqa: B008
    queries: int = 200,
    pivots: int = typer.Option(0, help="number of pivots; default: one per 32, or 64 of many documents"),
    folder: Path = typer.Option(DEFAULT_FOLDER, help="folder for descriptors"),  # noqa: B008
    data: Path = typer.Option(Path(tempfile.gettempdir()) / "deepterms-benchmark", help="folder for the node's data"),  # noqa: B008
    heap: str = "4g",
    run: str = typer.Option("", help="suffix for the results, to keep them apart from another run of the same size"),
    apart: bool = typer.Option(False, help="one contender at a time, if the page cache cannot hold all of them"),
    stop: bool = typer.Option(True, help="stop the node at the end; its data is kept"),
) -> None:
    """Run the parts and record their measurements."""
    if unknown := set(part) - PARTS.keys():
        sys.exit(f"unknown part {', '.join(sorted(unknown))}; expected one of {', '.join(PARTS)}")
    benchmark = Benchmark(kind, documents, queries=queries, pivots=pivots, folder=folder, data=data, heap=heap, run=run)
    try:
        chosen = only or list(benchmark.contenders())
        for name in part or PARTS:
            for group in [[each] for each in chosen] if apart else [chosen]:
                PARTS[name](benchmark, group)
    finally:
        if stop:
            benchmark.node.stop()
    frontier.main(RESULTS)


if __name__ == "__main__":
    typer.run(main)
