"""Results of `pivots_against_knn.py` to the tables and the plot of R@10 against milliseconds.

python benchmarks/common/frontier.py                  # every result there is: NAME.md and NAME.svg beside NAME.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

RESULTS = Path(__file__).parents[1] / "results"
LEVELS = (0.95, 0.98, 0.99)  # of R@10
BASELINE = "knn"
TIMES = "p50 / p95 / p99 ms"
SHARES = {"500": "50 %", "200": "20 %", "100": "10 %", "10": "1 %", "1": "0.1 %"}

Results = Mapping[str, Any]
Row = list[str]


def quickest(settings: Mapping[str, Any], level: float) -> tuple[str, Mapping[str, float]] | None:
    """The setting of least p50 among those that reach a recall, and what it measured."""
    good = [(label, found) for label, found in settings.items() if found["recall"] >= level]
    return min(good, key=lambda each: float(each[1]["p50"]), default=None)


def summary(results: Results) -> Iterator[Row]:
    """A row for each contender: ingest, bytes, and the milliseconds at which each recall is reached."""
    yield [
        "",
        "docs/s, merged",
        "docs a core second",
        "GB",
        *(f"R@10 ≥ {level}: p50 / p95 / p99 ms" for level in LEVELS),
    ]
    for name, filled in results.get("fill", {}).items():
        row = [
            name,
            f"{filled['docs_per_second_merged']:,.0f}",
            f"{results['about']['documents'] / filled['core_seconds']:,.0f}" if "core_seconds" in filled else "–",
            f"{filled['bytes'] / 1e9:.2f}",
        ]
        settings = results.get("search", {}).get(name, {})
        for level in LEVELS:
            best = quickest(settings, level)
            most = max((found["recall"] for found in settings.values()), default=0.0)
            row.append(_times(best[1]) + f" ({best[0]})" if best else f"– (at most {most:.3f})")
        yield row


def everything(results: Results) -> Iterator[Row]:
    """A row for each setting."""
    yield ["", "setting", "R@10", "p50", "p95", "p99 ms"]
    for name, settings in results.get("search", {}).items():
        for label, found in settings.items():
            yield [
                name,
                label,
                f"{found['recall']:.3f}",
                *(f"{found[at]:.1f}" for at in ("p50", "p95", "p99")),
            ]


def qualities(results: Results) -> Iterator[Row]:
    """A row for each setting: mAP."""
    yield ["", "setting", "mAP", "p50 / p95 / p99 ms, 100 hits"]
    for name, settings in results.get("quality", {}).items():
        for label, found in settings.items():
            yield [name, label, f"{found['map']:.4f}", _times(found) if "p50" in found else ""]


def clients(results: Results) -> Iterator[Row]:
    """A row for each contender: one client and four."""
    yield [
        "",
        "setting",
        "1 client: queries/s",
        TIMES,
        "core ms a query",
        "4: queries/s",
        TIMES,
    ]
    for name, found in results.get("clients", {}).items():
        one, four = found.get("1"), found.get("4")
        if one and four:
            yield [
                name,
                one["setting"],
                f"{one['queries_per_second']:,.0f}",
                _times(one),
                f"{one['core_ms']:.1f}",
                f"{four['queries_per_second']:,.0f}",
                _times(four),
            ]


def filters(results: Results) -> Iterator[Row]:
    """A row for each contender: filters."""
    measured = results.get("filters", {})
    shares = [share for share in SHARES if any(share in found for found in measured.values())]
    yield ["", *(f"{SHARES[share]} kept: R@10, p50 / p95 / p99 ms" for share in shares)]
    for name, found in measured.items():
        yield [name, *(f"{found[s]['recall']:.3f}, {_times(found[s])}" if s in found else "" for s in shares)]


def changes(results: Results) -> Iterator[Row]:
    """A row for each contender: updates, deletes, restart."""
    yield [
        "",
        "updates/s",
        "deletes/s",
        "after updates: R@10, p50",
        "first after a restart",
        "mean of the next 20",
    ]
    restarts = results.get("restart", {})
    for name, found in results.get("changes", {}).items():
        after, cold = found["after_updates"], restarts.get(name)
        yield [
            name,
            f"{found['updates_per_second']:,.0f}",
            f"{found['deletes_per_second']:,.0f}",
            f"{after['recall']:.3f}, {after['p50']:.1f} ms",
            *([f"{cold['first_ms']:,.0f} ms", f"{cold['next_twenty_mean_ms']:.1f} ms"] if cold else ["", ""]),
        ]


def ratios(results: Results) -> Iterator[Row]:
    """A row for each contender: how many times better than the engine's k-NN it is."""
    yield [
        "against k-NN",
        "ingest",
        "ingest, core seconds",
        "bytes",
        *(f"p50 at {level}" for level in LEVELS),
    ]
    fills, searches = results.get("fill", {}), results.get("search", {})
    if BASELINE not in fills or BASELINE not in searches:
        return
    base = fills[BASELINE]
    for name, filled in fills.items():
        if name == BASELINE or name not in searches:
            continue
        row = [
            name,
            f"{filled['docs_per_second_merged'] / base['docs_per_second_merged']:.1f} ×",
            f"{base['core_seconds'] / filled['core_seconds']:.1f} ×" if "core_seconds" in filled else "–",
            f"{base['bytes'] / filled['bytes']:.1f} ×",
        ]
        for level in LEVELS:
            ours, theirs = quickest(searches[name], level), quickest(searches[BASELINE], level)
            row.append(f"{theirs[1]['p50'] / ours[1]['p50']:.2f} ×" if ours and theirs else "–")
        yield row


def choices(rows: list[Mapping[str, Any]]) -> Iterator[Row]:
    """A row for each way of sampling and number of pivots: what some choices of the other numbers find."""
    picked = [(4, 16, 200), (4, 32, 500), (8, 32, 500), (8, 64, 1_000), (16, 64, 1_000)]
    yield ["pivots", "how many", *(f"{words} words, query {query}, re-rank {depth}" for words, query, depth in picked)]
    by_choice = {(row["method"], row["pivots"], row["words"], row["query_words"], row["depth"]): row for row in rows}
    for method, count in dict.fromkeys((row["method"], row["pivots"]) for row in rows):
        cells = []
        for choice in picked:
            key = (method, count, *choice)
            row = by_choice[key]
            quality = f" / {row['map']:.3f}" if "map" in row else ""
            cells.append(f"{row['recall']:.3f}{quality} ({row['postings']:.3f})")
        yield [method, f"{count:,}", *cells]


def markdown(rows: Iterator[Row]) -> str:
    """A table; empty if there is only its head."""
    head, *body = rows
    if not body:
        return ""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def draw(results: Results, path: Path, *, title: str) -> None:
    """R@10 against milliseconds, a curve for each contender: of its settings those that none beats in both."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and the same points give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "frontier"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for name, settings in results["search"].items():
            points = sorted((found["p50"], found["recall"]) for found in settings.values())
            best = [point for place, point in enumerate(points) if all(point[1] > one[1] for one in points[:place])]
            style = "--" if name.startswith(("knn", "faiss")) else "-"
            axes.plot(*zip(*best, strict=True), style, marker="o", markersize=4, label=name)
        axes.set(xscale="log", xlabel="milliseconds a query, p50", ylabel="R@10", title=title)
        axes.set_ylim(0.8, 1.003)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small", loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _times(found: Mapping[str, float]) -> str:
    return " / ".join(f"{found[at]:.1f}" for at in ("p50", "p95", "p99"))


def main(folder: Path = RESULTS) -> None:
    """Write the tables and the plot of each result."""
    for path in sorted([*folder.glob("mixed-*.json"), *folder.glob("real-*.json")]):
        results = json.loads(path.read_text(encoding="utf-8"))
        about = results["about"]
        title = f"{about['documents']:,} {about['kind']} descriptors, {about['dimensions']:,} dimensions"
        said = (
            f"{title}; {about['pivots']:,} pivots, {about['words_per_document']} words a document; "
            f"{about['queries']} queries; "
            f"{about['engine']}; {about['cores']} cores, {about['processor']}."
        )
        tables = (summary, ratios, qualities, filters, clients, changes, everything)
        text = "".join(markdown(table(results)) for table in tables)
        path.with_suffix(".md").write_text(f"# {title}\n\n{said}\n\n{text}", encoding="utf-8")
        if results.get("search"):
            draw(results, path.with_suffix(".svg"), title=title)
        print(path.with_suffix(".md"))
    for path in sorted(folder.glob("choice-*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        scored = "R@10 / mAP" if "map" in rows[0] else "R@10"
        said = f"# {path.stem}\n\n{scored} (postings of a query in units of the collection).\n\n"
        path.with_suffix(".md").write_text(said + markdown(choices(rows)), encoding="utf-8")
        print(path.with_suffix(".md"))


if __name__ == "__main__":
    typer.run(main)
