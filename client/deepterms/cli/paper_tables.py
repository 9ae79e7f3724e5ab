"""deepterms paper table1 and table2: measures the timings of the paper's tables on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.node import start_node
from deepterms.cli.signals import sigterm_as_interrupt
from deepterms.cli.terminal import format_command, note, print_table, progress
from deepterms.cluster.cluster import Cluster
from deepterms.errors import InvalidInput
from deepterms.paper.tables.latency_model import describe_shortfall
from deepterms.paper.tables.local_cluster import LocalCluster, list_cores
from deepterms.paper.tables.machine import describe_engine
from deepterms.paper.tables.posting_index import choose_layout
from deepterms.paper.tables.synthetic import SyntheticCollection
from deepterms.paper.tables.table1 import PAPER_DOCUMENTS, Table1
from deepterms.paper.tables.table2 import Table2
from deepterms.paper.tables.table_report import build_table, format_cells, list_headers, write_table

__all__ = ["table1", "table2"]

OutputOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", help="File to write the report to, .json or .md; may be repeated.", show_default=False
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the synthetic documents and queries.", min=0)]


def table1(
    documents: Annotated[int, typer.Option(help="Number of documents; the paper has a million.", min=1)] = 20_000,
    top_k: Annotated[
        list[int] | None, typer.Option(help="K; may be repeated. Default: the paper's five values.")
    ] = None,
    dimensions: Annotated[int, typer.Option(help="D of the descriptors; there are twice as many codewords.")] = 2_048,
    queries: Annotated[int, typer.Option(help="Number of timed queries per K.", min=1)] = 100,
    hits: Annotated[int, typer.Option(help="Number of hits per search.", min=1)] = 100,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Layout of the indices. Default: frequencies if the engine supports it, else rank_features.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    load_only: Annotated[
        bool, typer.Option("--load-only", help="Fill the indices and stop; rerun to measure them.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the indices instead of deleting them.")] = False,
    output: OutputOption = None,
    heap: Annotated[str, typer.Option(help="Java heap size of the node, if this command starts one.")] = "2g",
    url: UrlOption = None,
) -> None:
    """Measure Table 1: milliseconds per query by K, on one node, compared with the limit of the processor.

    Fills an index per K with the same synthetic documents, searches each exhaustively and without re-ranking, and adds
    up the same posting lists in compiled loops. Both must find the same hits.

    Without --url, uses the node of `deepterms node`, or starts it for the duration of the command.
    """
    _check_output(output)
    top_ks = {} if top_k is None else {"top_ks": tuple(sorted(set(top_k)))}
    collection = SyntheticCollection(documents, dimensions, seed=seed, **top_ks)
    with sigterm_as_interrupt(), _running_cluster(url, heap=heap, keep_running=keep or load_only) as cluster:
        table = Table1(cluster, collection, choose_layout(cluster, layout))
        with _step_progress() as on_progress:
            loaded = table.load(on_progress=on_progress)
        if loaded:
            note(f"loaded {documents:,} documents for K = {', '.join(map(str, loaded))}")
        if load_only:
            return
        with _step_progress() as on_progress:
            rows = table.measure(queries=queries, hits=hits, on_progress=on_progress)
        options = {"documents": documents, "dimensions": dimensions, "top-k": collection.top_ks, "queries": queries}
        result = build_table(
            "table1",
            engine=describe_engine(cluster),
            command=format_command(
                "paper", "table1", options=options | {"hits": hits, "seed": seed, "layout": table.layout.name}
            ),
            rows=rows,
            documents=documents,
            dimensions=dimensions,
            seed=seed,
            queries=queries,
            hits=hits,
            layout=table.layout.name,
            paper_documents=PAPER_DOCUMENTS,
            notes=[
                f"{documents:,} synthetic documents of {dimensions:,} dimensions, {queries} queries per K, "
                f"interleaved, {hits} hits, layout {table.layout.name}, one shard with one segment, exhaustive, "
                "no re-ranking. Times are measured in the client, over HTTP. The limit: one core adds up the same "
                "posting lists in compiled loops, 16,384 documents at a time, so that their scores stay in its cache; "
                "both find the same hits.",
                f"The paper's times are for {PAPER_DOCUMENTS:,} images in plain Lucene, on another machine.",
            ],
        )
        if not keep:
            table.drop()
    _show(result, output)


def table2(
    documents: Annotated[
        int, typer.Option(help="Number of documents per share; the paper has a million.", min=1)
    ] = 50_000,
    nodes: Annotated[int, typer.Option(help="Largest number of nodes.", min=1)] = 4,
    shares: Annotated[int, typer.Option(help="Number of shares of the documents.", min=1)] = 4,
    top_k: Annotated[int, typer.Option(help="K.", min=1)] = 100,
    dimensions: Annotated[int, typer.Option(help="D of the descriptors; there are twice as many codewords.")] = 2_048,
    queries: Annotated[int, typer.Option(help="Number of timed queries per row.", min=1)] = 50,
    hits: Annotated[int, typer.Option(help="Number of hits per search.", min=1)] = 100,
    seed: SeedOption = 0,
    output: OutputOption = None,
    heap: Annotated[str, typer.Option(help="Java heap size of each node.")] = "1g",
) -> None:
    """Measure Table 2: milliseconds per query by number of nodes and shares, and model machines with a billion images.

    Starts the nodes on this machine one after the other, each pinned to one core, and removes them at the end. The
    model is fitted to the searches of one node, so the other rows show its error.
    """
    _check_output(output)
    collection = SyntheticCollection(shares * documents, dimensions, (top_k,), seed=seed)
    table = Table2(collection, shares=shares, nodes=nodes)
    available = len(list_cores())
    with sigterm_as_interrupt(), _step_progress() as on_progress, LocalCluster(heap=heap) as running:
        result = table.run(running, connect, queries=queries, hits=hits, on_progress=on_progress)
    options = {"documents": documents, "nodes": nodes, "shares": shares, "top-k": top_k, "dimensions": dimensions}
    notes = [
        f"{shares} shares of {documents:,} synthetic documents each, {dimensions:,} dimensions, K = {top_k}, "
        f"{queries} queries per row, {hits} hits, exhaustive, no re-ranking. Each node is a separate process, "
        f"pinned to one core, with a heap of {heap}; the first one coordinates. Times are measured in the client, over "
        "HTTP, on the same machine.",
    ]
    if nodes > available:
        notes.append(
            f"This machine has {available} cores, so with {available + 1} or more nodes, some share a core: they add "
            "no computing power, and searches get no faster. Read those rows as the overhead of more nodes, not their "
            "benefit."
        )
    notes.append(_describe_model(result["model"], predicted=bool(result["predictions"])))
    notes += describe_shortfall(result["rows"])
    report_data = build_table(
        "table2",
        engine=result.pop("engine"),
        command=format_command(
            "paper", "table2", options=options | {"queries": queries, "hits": hits, "seed": seed, "heap": heap}
        ),
        documents=collection.documents,
        documents_per_share=documents,
        dimensions=dimensions,
        top_k=top_k,
        seed=seed,
        queries=queries,
        hits=hits,
        notes=notes,
        **result,
    )
    _show(report_data, output)


@contextmanager
def _running_cluster(url: str | None, *, heap: str, keep_running: bool) -> Iterator[Cluster]:
    """Connect to the cluster at an address, or to the local node, which is started and stopped if necessary."""
    from deepterms.node import Node

    started = url is None and not Node().status().running
    if started:
        start_node(heap=heap)
    try:
        client = connect(url)
        try:
            yield Cluster(client)
        finally:
            client.close()
    finally:
        if started and not keep_running:
            Node().stop()


@contextmanager
def _step_progress() -> Iterator[Any]:
    with progress("Measuring") as report_step:
        yield lambda what, done, total: report_step(done, total, what)


def _describe_model(model: Mapping[str, float], *, predicted: bool) -> str:
    description = (
        f"The model: {model['fixed_ms']:.2f} ms per search, and in each shard {model['clause_us']:.2f} µs per codeword "
        f"and {model['posting_ns']:.1f} ns per posting; cores work in parallel, the shards of one core sequentially. "
        f"It is fitted to the p50 of one node, with an error of at most {100 * model['error']:.0f} %. "
    )
    if not predicted:
        return description + "There are too few documents to fit the cost of a posting: no predictions without more."
    return description + (
        "Predictions beyond the measurements leave out the network between machines, the merging of hits from many "
        "shards, and contention between cores for memory."
    )


def _check_output(output: list[Path] | None) -> None:
    """Reject an invalid --output before measuring, not an hour later."""
    for path in output or ():
        if path.suffix not in {".json", ".md"}:
            raise InvalidInput(f"--output {path}: expected a .json or a .md file")


def _show(result: Mapping[str, Any], output: list[Path] | None) -> None:
    for kind, rows in ((result["kind"], result["rows"]), ("predictions", result.get("predictions", ()))):
        if rows:
            table = Table(box=None)
            for header in list_headers(kind):
                table.add_column(header, justify="right")
            for row in format_cells(kind, rows):
                table.add_row(*row)
            print_table(table)
    for sentence in result["notes"]:
        note(sentence)
    for path in output or ():
        write_table(result, path)
        note(f"wrote {path}")
