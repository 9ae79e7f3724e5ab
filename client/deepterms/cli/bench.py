"""deepterms bench: the timings of the paper's tables, measured on this cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.node import started_node
from deepterms.cli.signals import terminated_as_interrupted
from deepterms.cli.terminal import command_line, note, print_table, progress
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

__all__ = ["app"]

app = typer.Typer(help="The timings of the paper's tables, measured again.", no_args_is_help=True)

OutputOption = Annotated[
    list[Path] | None,
    typer.Option("--output", "-o", help="Write the report there: .json or .md; may be repeated.", show_default=False),
]
SeedOption = Annotated[int, typer.Option(help="Of the documents and queries.", min=0)]


@app.command()
def table1(
    documents: Annotated[int, typer.Option(help="How many; the paper had a million.", min=1)] = 20_000,
    top_k: Annotated[list[int] | None, typer.Option(help="K; may be repeated. Default: the paper's five.")] = None,
    dimensions: Annotated[int, typer.Option(help="D of the descriptors; the codewords are twice as many.")] = 2_048,
    queries: Annotated[int, typer.Option(help="How many are timed, of each K.", min=1)] = 100,
    hits: Annotated[int, typer.Option(help="How many a search returns.", min=1)] = 100,
    layout: Annotated[
        str | None,
        typer.Option(help="Default: frequencies where the engine has it, else features.", show_default=False),
    ] = None,
    seed: SeedOption = 0,
    load_only: Annotated[
        bool, typer.Option("--load-only", help="Fill the indices and stop; a second call measures them.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the indices; otherwise they are deleted.")] = False,
    output: OutputOption = None,
    heap: Annotated[str, typer.Option(help="Java heap, of a node that is started here.")] = "2g",
    url: UrlOption = None,
) -> None:
    """Table 1: milliseconds a query by K, on one node, beside the limit of the processor.

    Fills an index for each K with the same synthetic documents, searches all of them exhaustively and without
    re-ranking, and adds up the same posting lists in compiled loops. The hits of both must be equal.

    Without --url the node of `deepterms node` is used, or else started for the time being.
    """
    _check(output)
    chosen = {} if top_k is None else {"top_ks": tuple(sorted(set(top_k)))}
    collection = SyntheticCollection(documents, dimensions, seed=seed, **chosen)
    with terminated_as_interrupted(), _cluster(url, heap=heap, stays=keep or load_only) as cluster:
        table = Table1(cluster, collection, choose_layout(cluster, layout))
        with _steps() as on_progress:
            loaded = table.load(on_progress=on_progress)
        if loaded:
            note(f"loaded {documents:,} documents for K = {', '.join(map(str, loaded))}")
        if load_only:
            return
        with _steps() as on_progress:
            rows = table.measure(queries=queries, hits=hits, on_progress=on_progress)
        options = {"documents": documents, "dimensions": dimensions, "top-k": collection.top_ks, "queries": queries}
        made = build_table(
            "table1",
            engine=describe_engine(cluster),
            command=command_line(
                "bench", "table1", options=options | {"hits": hits, "seed": seed, "layout": table.layout.name}
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
                f"{documents:,} synthetic documents of {dimensions:,} dimensions, {queries} queries of each K in turn, "
                f"{hits} hits, layout {table.layout.name}, one shard of one segment, exhaustive, no re-ranking. "
                "Times are of the client, over HTTP. The limit: one core adds up the same posting lists in compiled "
                "loops, 16,384 documents at a time, so that their scores stay in its cache; both found the same.",
                f"The paper's milliseconds are of {PAPER_DOCUMENTS:,} images in bare Lucene, on another machine.",
            ],
        )
        if not keep:
            table.drop()
    _show(made, output)


@app.command()
def table2(
    documents: Annotated[int, typer.Option(help="Of each share; the paper had a million.", min=1)] = 50_000,
    nodes: Annotated[int, typer.Option(help="How many in the end.", min=1)] = 4,
    shares: Annotated[int, typer.Option(help="Of the documents.", min=1)] = 4,
    top_k: Annotated[int, typer.Option(help="K.", min=1)] = 100,
    dimensions: Annotated[int, typer.Option(help="D of the descriptors; the codewords are twice as many.")] = 2_048,
    queries: Annotated[int, typer.Option(help="How many are timed, of each row.", min=1)] = 50,
    hits: Annotated[int, typer.Option(help="How many a search returns.", min=1)] = 100,
    seed: SeedOption = 0,
    output: OutputOption = None,
    heap: Annotated[str, typer.Option(help="Java heap of each node.")] = "1g",
) -> None:
    """Table 2: milliseconds a query by nodes and shares of the documents; and a model of machines and a billion images.

    Starts that many nodes of its own on this machine, one after the other, each held to one core; they are gone in the
    end. The model is fitted to the searches of one node, so the other rows show how far it is off.
    """
    _check(output)
    collection = SyntheticCollection(shares * documents, dimensions, (top_k,), seed=seed)
    table = Table2(collection, shares=shares, nodes=nodes)
    here = len(list_cores())
    with terminated_as_interrupted(), _steps() as on_progress, LocalCluster(heap=heap) as running:
        result = table.run(running, connect, queries=queries, hits=hits, on_progress=on_progress)
    options = {"documents": documents, "nodes": nodes, "shares": shares, "top-k": top_k, "dimensions": dimensions}
    notes = [
        f"{shares} shares of {documents:,} synthetic documents of {dimensions:,} dimensions, K = {top_k}, {queries} "
        f"queries of each row, {hits} hits, exhaustive, no re-ranking. Every node is a process of its own, held to one "
        f"core, with a heap of {heap}; the first one answers. Times are of the client, over HTTP, on the same machine.",
    ]
    if nodes > here:
        notes.append(
            f"This machine has {here} cores, so from {here + 1} nodes on some share one: what is added there is no "
            "computer, and a search gets no faster by it. Read those rows as the price of more nodes, not as their use."
        )
    notes.append(_said_of(result["model"], predicted=bool(result["predictions"])))
    notes += describe_shortfall(result["rows"])
    made = build_table(
        "table2",
        engine=result.pop("engine"),
        command=command_line(
            "bench", "table2", options=options | {"queries": queries, "hits": hits, "seed": seed, "heap": heap}
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
    _show(made, output)


@contextmanager
def _cluster(url: str | None, *, heap: str, stays: bool) -> Iterator[Cluster]:
    """The cluster at an address, or the node of this machine; one that was started here is stopped again."""
    from deepterms.node import Node

    started = url is None and not Node().status().running
    if started:
        started_node(heap=heap)
    try:
        client = connect(url)
        try:
            yield Cluster(client)
        finally:
            client.close()
    finally:
        if started and not stays:
            Node().stop()


@contextmanager
def _steps() -> Iterator[Any]:
    with progress("Working") as shown:
        yield lambda what, done, total: shown(done, total, what)


def _said_of(model: Mapping[str, float], *, predicted: bool) -> str:
    said = (
        f"The model: {model['fixed_ms']:.2f} ms a search, {model['clause_us']:.2f} µs a codeword and "
        f"{model['posting_ns']:.1f} ns a posting of each shard; cores work at once, the shards of one core in turn. "
        f"Fitted to the p50 of one node, of which it is off by {100 * model['error']:.0f} % at most. "
    )
    if not predicted:
        return said + "There are too few documents to tell the price of a posting, so nothing is predicted; give more."
    return said + (
        "Beyond what was measured it is a calculation: it leaves out the network between machines, the merging of many "
        "shards' hits, and cores that wait for the same memory."
    )


def _check(output: list[Path] | None) -> None:
    """Refuse before an hour has gone by."""
    for path in output or ():
        if path.suffix not in {".json", ".md"}:
            raise InvalidInput(f"--output {path}: expected a .json or a .md file")


def _show(made: Mapping[str, Any], output: list[Path] | None) -> None:
    for kind, rows in ((made["kind"], made["rows"]), ("predictions", made.get("predictions", ()))):
        if rows:
            table = Table(box=None)
            for header in list_headers(kind):
                table.add_column(header, justify="right")
            for row in format_cells(kind, rows):
                table.add_row(*row)
            print_table(table)
    for sentence in made["notes"]:
        note(sentence)
    for path in output or ():
        write_table(made, path)
        note(f"written: {path}")
