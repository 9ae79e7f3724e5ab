"""Turn the results of `pivots_against_knn.py` into tables and a plot of R@10 against milliseconds.

python benchmarks/common/frontier.py                  # for every NAME.json: writes NAME.md and NAME.svg
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

RESULTS = Path(__file__).parents[1] / "results"
LEVELS = (0.95, 0.98, 0.99)  # R@10
BASELINE = "knn"
TIMES = "p50 / p95 / p99 ms"
SHARES = {"500": "50 %", "200": "20 %", "100": "10 %", "10": "1 %", "1": "0.1 %"}

Results = Mapping[str, Any]
Row = list[str]


def find_fastest(settings: Mapping[str, Any], level: float) -> tuple[str, Mapping[str, float]] | None:
    """Find the setting with the lowest p50 among those that reach a recall, with its measurements."""
    good = [(label, found) for label, found in settings.items() if found["recall"] >= level]
    return min(good, key=lambda each: float(each[1]["p50"]), default=None)


def tabulate_summary(results: Results) -> Iterator[Row]:
    """One row per contender: ingest, bytes, and the milliseconds needed to reach each recall."""
    yield [
        "",
        "docs/s, merged",
        "docs per core second",
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
            best = find_fastest(settings, level)
            most = max((found["recall"] for found in settings.values()), default=0.0)
            row.append(_format_times(best[1]) + f" ({best[0]})" if best else f"– (at most {most:.3f})")
        yield row


def tabulate_settings(results: Results) -> Iterator[Row]:
    """One row per setting: recall and milliseconds."""
    yield ["", "setting", "R@10", "p50", "p95", "p99 ms"]
    for name, settings in results.get("search", {}).items():
        for label, found in settings.items():
            yield [
                name,
                label,
                f"{found['recall']:.3f}",
                *(f"{found[at]:.1f}" for at in ("p50", "p95", "p99")),
            ]


def tabulate_quality(results: Results) -> Iterator[Row]:
    """One row per setting: mAP."""
    yield ["", "setting", "mAP", "p50 / p95 / p99 ms, 100 hits"]
    for name, settings in results.get("quality", {}).items():
        for label, found in settings.items():
            yield [name, label, f"{found['map']:.4f}", _format_times(found) if "p50" in found else ""]


def tabulate_clients(results: Results) -> Iterator[Row]:
    """One row per contender: throughput with one client and four clients."""
    yield [
        "",
        "setting",
        "1 client: queries/s",
        TIMES,
        "core ms per query",
        "4 clients: queries/s",
        TIMES,
    ]
    for name, found in results.get("clients", {}).items():
        one, four = found.get("1"), found.get("4")
        if one and four:
            yield [
                name,
                one["setting"],
                f"{one['queries_per_second']:,.0f}",
                _format_times(one),
                f"{one['core_ms']:.1f}",
                f"{four['queries_per_second']:,.0f}",
                _format_times(four),
            ]


def tabulate_filters(results: Results) -> Iterator[Row]:
    """One row per contender: recall and milliseconds under each filter."""
    measured = results.get("filters", {})
    shares = [share for share in SHARES if any(share in found for found in measured.values())]
    yield ["", *(f"{SHARES[share]} kept: R@10, p50 / p95 / p99 ms" for share in shares)]
    for name, found in measured.items():
        yield [name, *(f"{found[s]['recall']:.3f}, {_format_times(found[s])}" if s in found else "" for s in shares)]


def tabulate_changes(results: Results) -> Iterator[Row]:
    """One row per contender: updates, deletes and restart."""
    yield [
        "",
        "updates/s",
        "deletes/s",
        "after updates: R@10, p50",
        "first query after a restart",
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


def tabulate_ratios(results: Results) -> Iterator[Row]:
    """One row per contender: how many times better it is than the engine's k-NN."""
    yield [
        "relative to k-NN",
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
            ours, theirs = find_fastest(searches[name], level), find_fastest(searches[BASELINE], level)
            row.append(f"{theirs[1]['p50'] / ours[1]['p50']:.2f} ×" if ours and theirs else "–")
        yield row


def tabulate_choices(rows: list[Mapping[str, Any]]) -> Iterator[Row]:
    """One row per sampling method and number of pivots: the results for a few combinations of the other parameters."""
    picked = [(4, 16, 200), (4, 32, 500), (8, 32, 500), (8, 64, 1_000), (16, 64, 1_000)]
    yield ["pivots", "count", *(f"{words} words, query {query}, re-rank {depth}" for words, query, depth in picked)]
    by_choice = {(row["method"], row["pivots"], row["words"], row["query_words"], row["depth"]): row for row in rows}
    for method, count in dict.fromkeys((row["method"], row["pivots"]) for row in rows):
        cells = []
        for choice in picked:
            key = (method, count, *choice)
            row = by_choice[key]
            quality = f" / {row['map']:.3f}" if "map" in row else ""
            cells.append(f"{row['recall']:.3f}{quality} ({row['postings']:.3f})")
        yield [method, f"{count:,}", *cells]


def format_markdown(rows: Iterator[Row]) -> str:
    """Format rows as a table; empty if there is only a header."""
    head, *body = rows
    if not body:
        return ""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def draw(results: Results, path: Path, *, title: str) -> None:
    """Plot R@10 against milliseconds, with each contender's Pareto-optimal settings as one curve."""
    import matplotlib
    from matplotlib.figure import Figure

    # Keep text as text, and make the same points give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "frontier"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for name, settings in results["search"].items():
            points = sorted((found["p50"], found["recall"]) for found in settings.values())
            best = [point for place, point in enumerate(points) if all(point[1] > one[1] for one in points[:place])]
            style = "--" if name.startswith(("knn", "faiss")) else "-"
            axes.plot(*zip(*best, strict=True), style, marker="o", markersize=4, label=name)
        axes.set(xscale="log", xlabel="milliseconds per query, p50", ylabel="R@10", title=title)
        axes.set_ylim(0.8, 1.003)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small", loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _format_times(found: Mapping[str, float]) -> str:
    return " / ".join(f"{found[at]:.1f}" for at in ("p50", "p95", "p99"))


def main(folder: Path = RESULTS) -> None:
    """Write the tables and the plot for every result."""
    for path in sorted([*folder.glob("mixed-*.json"), *folder.glob("real-*.json")]):
        results = json.loads(path.read_text(encoding="utf-8"))
        about = results["about"]
        title = f"{about['documents']:,} {about['kind']} descriptors, {about['dimensions']:,} dimensions"
        setup = (
            f"{title}; {about['pivots']:,} pivots, {about['document_words']} words per document; "
            f"{about['queries']} queries; "
            f"{about['engine']}; {about['cores']} cores, {about['processor']}."
        )
        tables = (
            tabulate_summary,
            tabulate_ratios,
            tabulate_quality,
            tabulate_filters,
            tabulate_clients,
            tabulate_changes,
            tabulate_settings,
        )
        text = "".join(format_markdown(table(results)) for table in tables)
        path.with_suffix(".md").write_text(f"# {title}\n\n{setup}\n\n{text}", encoding="utf-8")
        if results.get("search"):
            draw(results, path.with_suffix(".svg"), title=title)
        print(path.with_suffix(".md"))
    for path in sorted(folder.glob("choice-*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        metrics = "R@10 / mAP" if "map" in rows[0] else "R@10"
        head = f"# {path.stem}\n\n{metrics} (postings per query, divided by the number of documents).\n\n"
        path.with_suffix(".md").write_text(head + format_markdown(tabulate_choices(rows)), encoding="utf-8")
        print(path.with_suffix(".md"))


if __name__ == "__main__":
    typer.run(main)
