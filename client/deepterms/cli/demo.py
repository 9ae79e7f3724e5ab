"""deepterms demo: photographs in, ranked photographs out, on a real OpenSearch, in one command."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.gallery import GalleryRow, write_gallery
from deepterms.cli.indexing import add_store
from deepterms.cli.node import started_node
from deepterms.cli.photos import extract_folder, name_failures
from deepterms.cli.serve import run_server
from deepterms.cli.terminal import note, print_table, progress
from deepterms.deployment import deploy
from deepterms.encoders.deep_permutation import DEFAULT_TOP_K, DeepPermutation
from deepterms.errors import IndexNotFound, InvalidInput
from deepterms.index import SurrogateIndex
from deepterms.results import Hits
from deepterms.schema.index_spec import DEFAULT_RERANK

if TYPE_CHECKING:
    from deepterms.evaluation import JudgedCollection
    from deepterms.features import FeatureStore

__all__ = ["demo"]

INDEX = "deepterms-demo"
SHOWN = 12  # queries on the page and in the table
HITS_SHOWN = 8


def demo(
    photos: Annotated[
        Path | None,
        typer.Argument(
            help="Your own photographs; mAP too if they are named as INRIA Holidays. Default: 320 out of packages.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where photographs, descriptors and the page go.")] = Path("deepterms-demo"),
    top_k: Annotated[int, typer.Option(help="K, codewords a document.")] = DEFAULT_TOP_K,
    serve: Annotated[
        bool | None,
        typer.Option(help="Search on in the browser at the end. Default: in a terminal.", show_default=False),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Index photographs in a real OpenSearch, look at what it finds, and search on in the browser.

    Without --url it starts a node of its own, which goes on until `deepterms node stop`.
    """
    from deepterms.features import RMACExtractor

    collection = _package_photos(out / "photos") if photos is None else _judged(photos)
    folder = (collection.folder if collection is not None else photos or Path()).resolve()
    if url is None:
        url = started_node().url
    client = connect(url)
    deploy(client)
    extractor = RMACExtractor()
    described = extract_folder(extractor, folder, out / ("features" if photos is None else "own-features"))
    name_failures(described.failures)
    store = described.store
    if not len(store):
        raise InvalidInput(f"no photograph in {folder} could be read")
    index = _fresh_index(client, store, top_k=top_k)
    report = add_store(index, store, about=_about(collection))
    index.refresh()
    note(
        f"{report.succeeded} photographs in {index.cluster.engine} at {url}, index {INDEX!r}, "
        f"layout {index.layout.name}"
    )

    found = _Found(index, store)
    facts = {"photographs": f"{len(store):,}", "engine": str(index.cluster.engine), "encoder": str(index.encoder)}
    titles = {} if collection is None else collection.titles
    if collection is not None and collection.queries:
        facts |= _evaluate(collection, found)
        chosen = list(collection.natural_queries or collection.queries)
        relevant = {query: frozenset(f"{id}.jpg" for id in collection.qrels[query]) for query in chosen}
        queries = [f"{query}.jpg" for query in chosen]
    else:
        queries = random.Random(0).sample(store.ids, min(SHOWN, len(store)))
        relevant = {}
    page = out / "results.html"
    rows = [
        GalleryRow(
            query=folder / query,
            title=titles.get(query.removesuffix(".jpg"), query),
            hits=found.hits(query, k=HITS_SHOWN),
            relevant=relevant.get(query.removesuffix(".jpg"), frozenset()),
            terms=found.largest_terms(query),
        )
        for query in queries
    ]
    write_gallery(rows, page, title="What the engine found", facts=facts)
    print_table(_summary(rows[:SHOWN], judged=bool(relevant)))
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, f"[bold]{escape(value)}")
    print_table(table)
    note(f"\nLook at the results: [bold]{escape(str(page.resolve()))}")
    some = escape(str(folder / queries[0]))
    note(
        "Now your own photographs:\n"
        "  deepterms demo ~/Pictures                  the same page for them\n"
        "  deepterms index mine ~/Pictures            an index that stays; run it again to go on after a cut\n"
        f"  deepterms search {INDEX} {some}\n"
        f"  deepterms serve {INDEX} --photos {escape(str(folder))}\n"
        "  deepterms node stop                        when you are done; the data stays"
    )
    if serve or (serve is None and sys.stdin.isatty() and sys.stdout.isatty()):
        note("\nSearch on with any photograph, in the browser:")
        run_server(index, extractor, photographs=[folder], query=queries[0], browser=True)


def _judged(photos: Path) -> JudgedCollection | None:
    """The folder as a collection, if its files are named as those of INRIA Holidays."""
    from deepterms.evaluation import read_holidays

    try:
        return read_holidays(photos)
    except InvalidInput:
        return None


def _about(collection: JudgedCollection | None) -> dict[str, dict[str, str]]:
    """Id of a document → what its photograph shows, and whether there are other views of it."""
    if collection is None:
        return {}
    views = dict.fromkeys(collection.ids, "none")
    for query, others in collection.qrels.items():
        kind = "photographs" if query in collection.natural_queries else "made from one"
        views |= dict.fromkeys([query, *others], kind)
    return {
        f"{id}.jpg": {"views": views[id], **({"title": collection.titles[id]} if id in collection.titles else {})}
        for id in collection.ids
    }


def _package_photos(folder: Path) -> JudgedCollection:
    from deepterms.evaluation import build_photos

    with progress("Collecting photographs") as report:
        collection = build_photos(folder, on_progress=report)
    for sentence in collection.left_out:
        note(f"[yellow]left out[/yellow] {escape(sentence)}")
    return collection


def _fresh_index(client: Any, store: FeatureStore, *, top_k: int) -> SurrogateIndex:
    with suppress(IndexNotFound):
        SurrogateIndex.open(client, INDEX).drop()
    encoder = DeepPermutation(store.dimensions, top_k=top_k)
    return SurrogateIndex.create(client, INDEX, encoder=encoder, replicas=0, extractor=store.spec)


class _Found:
    """What the index, and exact search, find for a photograph that is in the collection; never that one itself."""

    def __init__(self, index: SurrogateIndex, store: FeatureStore) -> None:
        self._index = index
        self._ids = store.ids
        self._features: NDArray[np.float32] = store.features_of(store.ids)
        self._rows = {id: row for row, id in enumerate(self._ids)}

    def hits(self, query: str, *, k: int, rerank: int | None = None) -> Hits:
        return self._index.search_by_id(query, k=k, rerank=rerank)

    def exact(self, query: str) -> dict[str, float]:
        scores = self._features @ self._features[self._rows[query]]
        return {id: float(score) for id, score in zip(self._ids, scores, strict=True) if id != query}

    def largest_terms(self, query: str) -> dict[str, int]:
        (terms,) = self._index.encoder.encode_queries(self._features[self._rows[query]]).to_terms()
        return dict(sorted(terms.items(), key=lambda term: -term[1]))


def _evaluate(collection: JudgedCollection, found: _Found) -> dict[str, str]:
    """MAP of the paper's score, of re-ranking and of exact cosine, over all queries and over those of natural views."""
    from deepterms.evaluation import mean_average_precision

    def run(ranking: Callable[[str], dict[str, float]]) -> dict[str, dict[str, float]]:
        answers = {query: ranking(f"{query}.jpg") for query in collection.queries}
        return {
            query: {id.removesuffix(".jpg"): score for id, score in hits.items()} for query, hits in answers.items()
        }

    def scores(hits: Hits) -> dict[str, float]:
        return {hit.id: hit.score for hit in hits}

    everything = len(collection.ids)
    runs = {
        "mAP, surrogate text": run(lambda query: scores(found.hits(query, k=everything, rerank=0))),
        f"mAP, {DEFAULT_RERANK} re-ranked": run(lambda query: scores(found.hits(query, k=DEFAULT_RERANK))),
        "mAP, exact cosine": run(found.exact),
    }
    natural = collection.natural_qrels
    return {
        name: f"{mean_average_precision(run, collection.qrels):.3f}"
        + (f" (natural views {mean_average_precision(run, natural):.3f})" if natural else "")
        for name, run in runs.items()
    }


def _summary(rows: Sequence[GalleryRow], *, judged: bool) -> Table:
    table = Table(box=None)
    table.add_column("query", no_wrap=True, overflow="ellipsis", max_width=18)
    for name in ("first", "second", "third"):
        table.add_column(name, no_wrap=True)
    if judged:
        table.add_column("right at", justify="right")
    for row in rows:
        cells = [escape(row.title)] + [f"{escape(hit.id)} [dim]{hit.score:.3f}[/dim]" for hit in row.hits[:3]]
        cells += [""] * (4 - len(cells))
        if judged:
            ranks = [str(rank) for rank, hit in enumerate(row.hits, start=1) if hit.id in row.relevant]
            cells.append("[green]" + ", ".join(ranks) if ranks else f"[red]beyond {len(row.hits)}")
        table.add_row(*cells)
    return table
