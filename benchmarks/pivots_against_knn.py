"""Pivot codewords against the engine's own k-NN and what else a user would take: one node, one run, in turn.

It starts an OpenSearch 3.6.0 with the k-NN plugin (Lucene HNSW) and makes the descriptors; each part adds to
benchmarks/results/KIND-DOCUMENTS.json, or KIND-DOCUMENTS-RUN.json. The tables and the plot are made of it at the end
(frontier.py).

python benchmarks/pivots_against_knn.py --documents 100000                 # all parts: half an hour on two cores
python benchmarks/pivots_against_knn.py --documents 100000 --part search   # one of them again
python benchmarks/pivots_against_knn.py --kind real                        # crops of photographs, not mixtures
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
from common.contenders import DRAWS, Contender, EngineKnn, Features, Stored, Surrogate, depth_settings, pivot_settings
from common.descriptors import DEFAULT_FOLDER, Real, foreign, mixed, mixtures, real
from common.knn_node import VERSION, knn_node
from common.measuring import CoreSeconds, exact, in_turn, summary, timed, together
from deepterms.cli.connection import connect
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.sampling import SamplingMethod
from deepterms.encoders.presets import PRESETS
from deepterms.evaluation import mean_average_precision
from deepterms.schema.vectors import VectorType

RESULTS = Path(__file__).parent / "results"
K = 10
DEEP = 100  # hits by which mAP is computed
SHARES = (500, 200, 100, 10, 1)  # of a thousand, that a filter keeps
CHANGED = 0.01  # of the documents
GOOD = 0.98  # recall at which a setting stands for its contender where not all are tried
DOCUMENT_WORDS = 4
QUERY_WORDS = 64


class Kind(str, Enum):
    """Which descriptors."""

    real = "real"
    mixed = "mixed"


class Benchmark:
    """The descriptors, the node and the results so far."""

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
        self.base: Real = real(folder)
        if kind is Kind.real:
            self.features: Stored = self.base.features
            self.queries: Features = self.base.queries[:queries]
        else:
            self.features = mixed(self.base.features, documents, folder)
            self.queries = np.concatenate(list(mixtures(self.base.features, count=queries, seed=1)))
        self.documents = len(self.features)
        self.draws: NDArray[np.int64] = np.random.default_rng(7).integers(0, DRAWS, self.documents)
        self.pivots = pivots or PRESETS["balanced"].choose_pivot_count(self.documents)
        self.node = knn_node(data)
        self.heap = heap
        self.path = RESULTS / f"{'-'.join(filter(None, (kind.value, str(self.documents), run)))}.json"

    @cached_property
    def client(self) -> Any:
        """Of the node, which is started."""
        url = self.node.start(port=0, heap=self.heap).url
        return connect(str(url))

    @property
    def pid(self) -> int:
        """Of the node, which is started."""
        assert self.client
        return int(self.node.status().pid or 0)

    @cached_property
    def truth(self) -> dict[int | None, NDArray[np.int64]]:
        """Exact answers, without a filter (None) and with each."""
        cached = self.folder / f"truth-{self.kind.value}-{self.documents}-{len(self.queries)}.npz"
        limits = (None, *SHARES)
        if not cached.exists():
            found = exact(self.features, self.queries, k=K, draws=self.draws, below=limits)
            np.savez(cached, *(found[limit] for limit in limits))
        with np.load(cached) as stored:
            return {limit: stored[f"arr_{place}"] for place, limit in enumerate(limits)}

    @cached_property
    def others(self) -> Features:
        """Descriptors of photographs that show no scene of the collection."""
        return foreign(self.folder)

    def sampled(self, method: str, count: int = 0) -> Pivots:
        """Pivots of the collection, or ``foreign`` ones: of photographs that show none of its scenes."""
        if method != "foreign":
            return dt.sample_pivots(self.features, count or self.pivots, method=cast(SamplingMethod, method))
        features = self.others
        if self.kind is Kind.mixed:
            features = np.concatenate(list(mixtures(features, count=2 * self.pivots, seed=2)))
        return dt.sample_pivots(features, self.pivots)

    def contenders(self) -> dict[str, Callable[[], Contender]]:
        """Name → how to make it."""
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
                return dt.PivotPermutation(self.sampled(method, count), top_k=words, query_top_k=QUERY_WORDS)

            name = f"bench-{tag}-pivots-{vectors}-{method}-{count or self.pivots}{'' if sketch else '-plain'}"
            name += f"-{words}" if words != DOCUMENT_WORDS else ""
            settings = pivot_settings(QUERY_WORDS)
            return Surrogate(self.client, name, encoder, vectors, settings, layout="codewords", sketch=sketch)

        def pivot_pairs() -> Contender:
            def encoder() -> Encoder:
                return dt.PivotPairs(self.sampled("mixtures"))

            name = f"bench-{tag}-pivot-pairs"
            return Surrogate(self.client, name, encoder, "int8", depth_settings(), layout="codewords")

        def pairs() -> Contender:
            name = f"bench-{tag}-pairs"
            return Surrogate(
                self.client, name, lambda: dt.PairCodewords(D), "int8", depth_settings(), layout="codewords"
            )

        def components(top_k: int) -> Contender:
            name = f"bench-{tag}-components-{top_k}"
            return Surrogate(
                self.client, name, lambda: dt.DeepPermutation(D, top_k=top_k), "int8", depth_settings(), "frequencies"
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

    def results(self) -> dict[str, Any]:
        """What earlier parts noted."""
        try:
            noted: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            noted = {}
        return noted

    def note(self, part: str, contender: str, values: Mapping[str, Any]) -> None:
        """Add to the results."""
        noted = self.results()
        noted["about"] = {
            "kind": self.kind.value,
            "documents": self.documents,
            "dimensions": int(self.features.shape[1]),
            "queries": len(self.queries),
            "pivots": self.pivots,
            "document_words": DOCUMENT_WORDS,
            "engine": f"OpenSearch {VERSION}, one node, one shard, {self.heap} heap",
            "cores": os.cpu_count(),
            "processor": _processor(),
        }
        noted.setdefault(part, {}).setdefault(contender, {}).update(values)
        RESULTS.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
        print(f"{part:>8}  {contender}: {_short(values)}", flush=True)

    def filled(self, chosen: Sequence[str]) -> dict[str, Contender]:
        """The contenders that an earlier part has filled."""
        noted = self.results().get("fill", {})
        return {name: make() for name, make in self.contenders().items() if name in noted and name in chosen}

    def representative(self, name: str, contender: Contender) -> str:
        """The quickest setting that reaches `GOOD`, or else the one that finds most."""
        searched = self.results()["search"][name]
        good = [label for label in contender.settings if searched[label]["recall"] >= GOOD]
        if good:
            return min(good, key=lambda label: float(searched[label]["p50"]))
        return max(contender.settings, key=lambda label: float(searched[label]["recall"]))


def fill(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Each index anew: documents a second until they are merged and searchable; bytes."""
    for name, make in benchmark.contenders().items():
        if name not in chosen:
            continue
        if name.endswith("foreign"):
            assert len(benchmark.others)  # they are read before the clock starts
        load = os.getloadavg()[0]
        spent = CoreSeconds(benchmark.pid)
        started = time.perf_counter()  # sampling pivots counts
        contender = make()
        contender.drop()
        contender.create()
        contender.fill(benchmark.features, benchmark.draws)
        adding = time.perf_counter() - started
        # Vectors left out of _source are kept for recovery, and go with a merge once the shard's copies have agreed on
        # how far they are, which they do each half minute.
        time.sleep(35)
        benchmark.client.transport.perform_request("POST", f"/{contender.name}/_flush")
        merging = timed(contender.merge)
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
    """Bytes on the disk once more: just after a merge the engine may still hold what it replaced."""
    benchmark.client.transport.perform_request("POST", "/_flush")
    for name, contender in benchmark.filled(chosen).items():
        benchmark.note("fill", name, {"bytes": contender.stored_bytes()})


def search(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Every setting of every index, in turn: milliseconds and R@10."""
    contenders = benchmark.filled(chosen)
    for contender in contenders.values():
        _remember(benchmark, contender)
    contestants = {
        f"{name}|{label}": (contender, options)
        for name, contender in contenders.items()
        for label, options in contender.settings.items()
    }
    for _ in ("to be compiled", "to be measured"):  # an engine just started takes half as long again
        found = in_turn(contestants, benchmark.queries, benchmark.truth[None], k=K)
    for name, contender in contenders.items():
        benchmark.note("search", name, {label: found[f"{name}|{label}"] for label in contender.settings})


def quality(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """MAP of the first hundred hits, where it is known what is relevant, beside that of exact cosine."""
    if benchmark.kind is not Kind.real:
        return
    asked = len(benchmark.queries)
    qrels = {query: relevant for query, relevant in benchmark.base.qrels.items() if int(query) < asked}
    best = exact(benchmark.features, benchmark.queries, k=DEEP, draws=benchmark.draws, below=[None])[None]
    ranked = {query: {str(row): float(DEEP - place) for place, row in enumerate(best[int(query)])} for query in qrels}
    benchmark.note("quality", "exact cosine", {"all": {"map": mean_average_precision(ranked, qrels)}})
    contenders = benchmark.filled(chosen)
    contestants = [(name, label) for name, contender in contenders.items() for label in contender.settings]
    times: dict[tuple[str, str], list[float]] = {each: [] for each in contestants}
    runs: dict[tuple[str, str], dict[str, dict[str, float]]] = {each: {} for each in contestants}
    for query in qrels:  # in turn, so that a busy moment falls on all
        for name, label in contestants if int(query) % 2 else reversed(contestants):
            contender = contenders[name]
            started = time.perf_counter()
            hits = contender.ask(benchmark.queries[int(query)], contender.settings[label], k=DEEP)
            times[name, label].append((time.perf_counter() - started) * 1e3)
            runs[name, label][query] = {str(row): score for row, score in hits}
    for name, label in contestants:
        values = summary(times[name, label]) | {"map": mean_average_precision(runs[name, label], qrels)}
        benchmark.note("quality", name, {label: values})


def clients(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """One client and four."""
    contenders = benchmark.filled(chosen)
    for count in (1, 4):
        for name, contender in contenders.items():
            label = benchmark.representative(name, contender)
            contender.ask(benchmark.queries[0], contender.settings[label], k=K)  # makes what is made once
            spent = CoreSeconds(benchmark.pid)
            found = together(contender, contender.settings[label], benchmark.queries, k=K, clients=count)
            found["core_ms"] = 1e3 * spent() / found["queries"]
            benchmark.note("clients", name, {str(count): found | {"setting": label}})


def filters(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Filters that keep a half to a thousandth, at the setting that is good without."""
    contenders = benchmark.filled(chosen)
    for below in SHARES:
        contestants = {
            name: (contender, contender.settings[benchmark.representative(name, contender)])
            for name, contender in contenders.items()
        }
        found = in_turn(contestants, benchmark.queries, benchmark.truth[below], k=K, below=below)
        for name in contestants:
            benchmark.note("filters", name, {str(below): found[name]})


def changes(benchmark: Benchmark, chosen: Sequence[str]) -> None:
    """Updates and deletes of one document in a hundred; and searches after them, before a merge."""
    rng = np.random.default_rng(13)
    rows = sorted(
        int(row) for row in rng.choice(benchmark.documents, int(CHANGED * benchmark.documents), replace=False)
    )
    for name, contender in benchmark.filled(chosen).items():

        def update(contender: Contender = contender) -> None:
            contender.fill(benchmark.features, benchmark.draws, rows)
            contender.refresh()

        def delete(contender: Contender = contender) -> None:
            contender.delete(rows)
            contender.refresh()

        options = contender.settings[benchmark.representative(name, contender)]
        updating = timed(update)
        after = in_turn({name: (contender, options)}, benchmark.queries, benchmark.truth[None], k=K)[name]
        deleting = timed(delete)
        update()  # as it was
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
    """The node stopped, its files dropped from the page cache, started: the first query and the next twenty of each."""
    names = benchmark.filled(chosen)
    settings = {name: benchmark.representative(name, contender) for name, contender in names.items()}
    for name in names:
        benchmark.node.stop()
        benchmark.__dict__.pop("client", None)
        _forget(benchmark.node.data_dir)
        starting = timed(lambda: benchmark.client)
        contender = benchmark.contenders()[name]()
        options = contender.settings[settings[name]]
        times = []
        for query in benchmark.queries[:21]:
            times.append(timed(lambda: contender.ask(query, options, k=K)) * 1e3)  # noqa: B023
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
    """FAISS in this process: filled and asked at once, for it is kept nowhere."""
    from common.faiss_indices import faiss, faiss_indices

    for contender in faiss_indices():
        load = os.getloadavg()[0]
        spent = time.process_time()
        building = timed(lambda: contender.fill(benchmark.features, benchmark.draws))  # noqa: B023
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
        faiss.omp_set_num_threads(1)  # one query has work for one
        contestants = {label: (contender, options) for label, options in contender.settings.items()}
        found = in_turn(contestants, benchmark.queries, benchmark.truth[None], k=K)
        benchmark.note("search", contender.name, found)
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        contender.drop()


PARTS = {part.__name__: part for part in (fill, sizes, search, quality, clients, filters, changes, restart, memory)}


def _forget(folder: Path) -> None:
    """Drops files from the page cache, where the system can."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _remember(benchmark: Benchmark, contender: Contender) -> None:
    """Reads an index's files into the page cache."""
    for found in benchmark.client.indices.get_settings(index=contender.name).values():
        for path in benchmark.node.data_dir.rglob(f"indices/{found['settings']['index']['uuid']}/*/index/*"):
            with path.open("rb") as file:
                while file.read(2**24):
                    pass


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _short(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, default=str)
    return text if len(text) < 400 else text[:400] + " …"


def main(
    kind: Kind = Kind.mixed,
    documents: int = 100_000,
    part: list[str] = typer.Option([], help=f"one of {', '.join(PARTS)}; all by default"),  # noqa: B008
    only: list[str] = typer.Option([], help="a contender; all by default"),  # noqa: B008
    queries: int = 200,
    pivots: int = typer.Option(0, help="how many; by default the balanced preset's"),
    folder: Path = typer.Option(DEFAULT_FOLDER, help="for descriptors"),  # noqa: B008
    data: Path = typer.Option(Path(tempfile.gettempdir()) / "deepterms-benchmark", help="for the node"),  # noqa: B008
    heap: str = "4g",
    run: str = typer.Option("", help="its name, if it is kept beside another one of as many, as of another machine"),
    apart: bool = typer.Option(False, help="one contender after the other: the page cache cannot hold all of them"),
    stop: bool = typer.Option(True, help="stop the node at the end; its data stays"),
) -> None:
    """Run the parts and note what they found."""
    if unknown := set(part) - PARTS.keys():
        sys.exit(f"no part {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
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
