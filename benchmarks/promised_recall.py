"""Measure whether searches keep the promised recall on five kinds of descriptors, by ``auto`` alone and after tuning.

For each kind (common/five_kinds.py), number of documents and cluster, an index is created with ``encoder="auto"`` and
no other choice, filled, and searched with queries that had no part in any choice: not in the pivots, not in the sample
that settings were simulated with, and not in the tuning, whose queries are documents. The same queries are then asked
behind filters that keep a half, a tenth and a hundredth of the documents, and after `SurrogateIndex.tune`.

Results are added to a file, and what it holds already is not measured again.

python benchmarks/promised_recall.py --url URL --url URL      # prints the table of docs/benchmarks.md
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import deepterms as dt
from common.corpus import merge
from common.descriptors import DEFAULT_FOLDER, Features
from common.five_kinds import KINDS, load_kind
from common.measuring import compute_recall, find_exact
from deepterms.cli.connection import connect
from deepterms.cluster.cluster import Cluster
from deepterms.schema.tuning import SearchSetting

NAME = "promised-recall"
BATCH = 5_000
PROMISE = 0.95
WITHIN = 0.01
SHARES = (0.5, 0.1, 0.01)


def main(
    url: Annotated[list[str], typer.Option(help="clusters to measure")],
    documents: Annotated[list[int], typer.Option()] = [20_000, 100_000],  # noqa: B006
    kind: Annotated[list[str], typer.Option()] = list(KINDS),  # noqa: B006
    queries: int = 150,
    sample: int = 100,
    folder: Path = DEFAULT_FOLDER,
    results: Path = Path(__file__).parent / "results" / "promised_recall.json",
) -> None:
    """Measure what is not in the results yet, and print all of them."""
    rows: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    for count in documents:
        for name in kind:
            features, asked = load_kind(name, count, queries, folder)  # type: ignore[arg-type]
            for place in url:
                client = connect(place)
                engine = str(Cluster(client).engine)
                if any((row["kind"], row["documents"], row["engine"]) == (name, count, engine) for row in rows):
                    continue
                rows.append(measure(client, name, features, asked, sample=sample) | {"engine": engine})
                results.write_text(json.dumps(rows, indent=1) + "\n")
    print_table(rows)


def measure(client: Any, kind: str, features: Features, asked: Features, *, sample: int) -> dict[str, Any]:
    """Create, fill, search, tune and search again."""
    dt.deploy(client)
    for concrete in Cluster(client).request("GET", f"/deepterms-*-{NAME}-*"):
        Cluster(client).request("DELETE", f"/{concrete}")
    started = time.perf_counter()
    index = dt.SurrogateIndex.create(client, NAME, encoder="auto", features=features, replicas=0)
    chosen = time.perf_counter() - started
    draws = np.random.default_rng(0).permutation(len(features))
    started = time.perf_counter()
    for start in range(0, len(features), BATCH):
        rows = range(start, min(start + BATCH, len(features)))
        metadata = [{"draw": int(draws[row])} for row in rows]
        report = index.add([str(row) for row in rows], features[rows.start : rows.stop], metadata=metadata)
        if report.failed:
            raise RuntimeError(report.failed[0].reason)
    index.refresh()
    merge(index)
    filled = time.perf_counter() - started
    limits = {share: round(share * len(features)) for share in SHARES}
    true = find_exact(features, asked, k=10, draws=draws, below=[None, *limits.values()])
    print(f"{kind}, {len(features):,}: {index.encoder}, {chosen:.0f} s to choose, {filled:.0f} s to fill", flush=True)
    before = search(index, asked, true[None])
    setting = index.tuning.choose() if index.tuning else None
    filtered = {
        str(share): search(index, asked, true[limit], filter={"range": {"metadata.draw": {"lt": limit}}})
        for share, limit in limits.items()
    }
    started = time.perf_counter()
    tuning = index.tune(sample=sample)
    tuned_seconds = time.perf_counter() - started
    found = {
        "kind": kind,
        "documents": len(features),
        "queries": len(asked),
        "sample": sample,
        "dimensions": features.shape[1],
        "encoder": str(index.encoder),
        "sketch": index.sketch,
        "seconds": {"choose": chosen, "fill": filled, "tune": tuned_seconds},
        "auto": before | {"setting": describe(setting)},
        "filtered": filtered,
        "tuned": search(index, asked, true[None]) | {"setting": describe(tuning.choose())},
        "tuned .99": search(index, asked, true[None], recall=0.99) | {"setting": describe(tuning.choose(0.99))},
        "exhaustive_ms": tuning.exhaustive_ms,
        "curve": tuning.to_meta(),
    }
    print({key: found[key] for key in ("auto", "filtered", "tuned", "tuned .99", "exhaustive_ms")}, flush=True)
    index.drop()
    return found


def describe(setting: SearchSetting | None) -> str:
    """Describe a setting in a few words."""
    return "" if setting is None else str(setting)


def search(index: dt.SurrogateIndex, asked: Features, true: NDArray[np.int64], **options: Any) -> dict[str, float]:
    """Search with each query: mean recall and median milliseconds."""
    shares, times = [], []
    for query, nearest in zip(asked, true, strict=True):
        started = time.perf_counter()
        hits = index.search(query, fields=[], **options)
        times.append(1e3 * (time.perf_counter() - started))
        shares.append(compute_recall([int(identifier) for identifier in hits.ids], nearest))
    return {"recall": float(np.mean(shares)), "ms": median(times)}


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the results as Markdown; what missed the promise is marked."""
    print(
        "| documents | engine | `auto`: R@10, ms | behind filters of 50, 10, 1 % | tuned: R@10, ms | tuned, .99 | all |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        behind = " · ".join(_mark(row["filtered"][str(share)]["recall"]) for share in SHARES)
        cells = [
            f"{row['documents']:,} {row['kind']}",
            row["engine"],
            _format(row["auto"]),
            behind,
            _format(row["tuned"]),
            _format(row["tuned .99"], 0.99),
            f"{row['exhaustive_ms']:.0f} ms",
        ]
        print("| " + " | ".join(cells) + " |")


def _format(found: Mapping[str, Any], promise: float = PROMISE) -> str:
    return f"{_mark(found['recall'], promise)}: {found['ms']:.1f}, {found['setting']}"


def _mark(recall: float, promise: float = PROMISE) -> str:
    text = f"{recall:.3f}".lstrip("0")
    return text if recall >= promise - WITHIN else f"**{text}**"


if __name__ == "__main__":
    typer.run(main)
