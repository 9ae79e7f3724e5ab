"""deepterms demo: turns a folder of photographs into a page of ranked results, with OpenSearch, in one command."""

from __future__ import annotations

import random
import sys
import time
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
from deepterms.cli.node import start_node
from deepterms.cli.photos import extract_folder, report_unreadable
from deepterms.cli.serve import run_server
from deepterms.cli.store_indexing import add_store
from deepterms.cli.terminal import note, note_stage, print_table, progress
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
            help="Folder of your own photographs; also computes mAP if they are named as in INRIA Holidays. Default: "
            "320 photographs from Debian, npm and PyPI packages.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for photographs, descriptors and the results page.")] = Path(
        "deepterms-demo"
    ),
    top_k: Annotated[int, typer.Option(help="K, the number of codewords per document.")] = DEFAULT_TOP_K,
    serve: Annotated[
        bool | None,
        typer.Option(help="Serve the search page at the end. Default: if run in a terminal.", show_default=False),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Index photographs in OpenSearch, write a page of results, and serve the search page.

    Without --url, starts a local node, which runs until `deepterms node stop`.
    """
    from deepterms.features import RMACExtractor

    collection = _build_package_photos(out / "photos") if photos is None else _read_judged(photos)
    folder = (collection.folder if collection is not None else photos or Path()).resolve()
    if photos is None and collection is not None:
        note_stage(f"{len(collection.ids)} photographs fetched into {escape(str(folder))}")
    if url is None:
        url = start_node().url
        note_stage(f"OpenSearch is running at {url}")
    client = connect(url)
    deploy(client)
    started = time.perf_counter()
    extractor = RMACExtractor()
    extracted = extract_folder(extractor, folder, out / ("features" if photos is None else "own-features"))
    note_stage(
        f"descriptors of {extracted.added} photographs computed in {time.perf_counter() - started:.0f} s"
        + (f"; {extracted.skipped} from an earlier run" if extracted.skipped else "")
    )
    report_unreadable(extracted.failures)
    store = extracted.store
    if not len(store):
        raise InvalidInput(f"none of the photographs in {folder} could be read")
    index = _recreate_index(client, store, top_k=top_k)
    report = add_store(index, store, about=_collect_metadata(collection))
    index.refresh()
    note(
        f"{report.succeeded} photographs indexed in {index.cluster.engine} at {url}, index {INDEX!r}, "
        f"layout {index.layout.name}"
    )

    ranker = _Ranker(index, store)
    facts = {"photographs": f"{len(store):,}", "engine": str(index.cluster.engine), "encoder": str(index.encoder)}
    titles = {} if collection is None else collection.titles
    if collection is not None and collection.queries:
        facts |= _evaluate(collection, ranker)
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
            hits=ranker.search(query, k=HITS_SHOWN),
            relevant=relevant.get(query.removesuffix(".jpg"), frozenset()),
            terms=ranker.largest_terms(query),
        )
        for query in queries
    ]
    write_gallery(rows, page, title="Search results", facts=facts)
    print_table(_build_summary(rows[:SHOWN], judged=bool(relevant)))
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, f"[bold]{escape(value)}")
    print_table(table)
    note(f"\nResults page: [bold]{escape(str(page.resolve()))}")
    example = escape(str(folder / queries[0]))
    note(
        "Try your own photographs:\n"
        "  deepterms demo ~/Pictures                  the same page for them\n"
        "  deepterms index mine ~/Pictures            a permanent index; rerun to resume after an interruption\n"
        f"  deepterms search {INDEX} {example}\n"
        f"  deepterms serve {INDEX} --photos {escape(str(folder))}\n"
        "  deepterms node stop                        when you are done; the data is kept"
    )
    if serve or (serve is None and sys.stdin.isatty() and sys.stdout.isatty()):
        note("\nSearch with any photograph in the browser:")
        run_server(index, extractor, photographs=[folder], query=queries[0], browser=True)


def _read_judged(photos: Path) -> JudgedCollection | None:
    """Read the folder as a judged collection, if its files are named as in INRIA Holidays."""
    from deepterms.evaluation import read_holidays

    try:
        return read_holidays(photos)
    except InvalidInput:
        return None


def _collect_metadata(collection: JudgedCollection | None) -> dict[str, dict[str, str]]:
    """Map ids of documents to the titles of their photographs, and to whether there are other views of the scene."""
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


def _build_package_photos(folder: Path) -> JudgedCollection:
    from deepterms.evaluation import build_photos

    with progress("Collecting photographs") as report:
        collection = build_photos(folder, on_progress=report)
    for sentence in collection.left_out:
        note(f"[yellow]left out[/yellow] {escape(sentence)}")
    return collection


def _recreate_index(client: Any, store: FeatureStore, *, top_k: int) -> SurrogateIndex:
    with suppress(IndexNotFound):
        SurrogateIndex.open(client, INDEX).drop()
    encoder = DeepPermutation(store.dimensions, top_k=top_k)
    return SurrogateIndex.create(client, INDEX, encoder=encoder, replicas=0, extractor=store.spec)


class _Ranker:
    """Ranks the collection for one of its photographs, with the index and exactly, leaving out the query itself."""

    def __init__(self, index: SurrogateIndex, store: FeatureStore) -> None:
        self._index = index
        self._ids = store.ids
        self._features: NDArray[np.float32] = store.features_of(store.ids)
        self._rows = {id: row for row, id in enumerate(self._ids)}

    def search(self, query: str, *, k: int, rerank: int | None = None) -> Hits:
        return self._index.search_by_id(query, k=k, rerank=rerank)

    def rank_exactly(self, query: str) -> dict[str, float]:
        scores = self._features @ self._features[self._rows[query]]
        return {id: float(score) for id, score in zip(self._ids, scores, strict=True) if id != query}

    def largest_terms(self, query: str) -> dict[str, int]:
        (terms,) = self._index.encoder.encode_queries(self._features[self._rows[query]]).to_terms()
        return dict(sorted(terms.items(), key=lambda term: -term[1]))


def _evaluate(collection: JudgedCollection, ranker: _Ranker) -> dict[str, str]:
    """Compute mAP of the paper's score, of re-ranking and of exact cosine, over all and over natural queries."""
    from deepterms.evaluation import mean_average_precision

    def run(ranking: Callable[[str], dict[str, float]]) -> dict[str, dict[str, float]]:
        rankings = {query: ranking(f"{query}.jpg") for query in collection.queries}
        return {
            query: {id.removesuffix(".jpg"): score for id, score in scores.items()}
            for query, scores in rankings.items()
        }

    def scores(hits: Hits) -> dict[str, float]:
        return {hit.id: hit.score for hit in hits}

    all_documents = len(collection.ids)
    runs = {
        "mAP, surrogate text": run(lambda query: scores(ranker.search(query, k=all_documents, rerank=0))),
        f"mAP, {DEFAULT_RERANK} re-ranked": run(lambda query: scores(ranker.search(query, k=DEFAULT_RERANK))),
        "mAP, exact cosine": run(ranker.rank_exactly),
    }
    natural = collection.natural_qrels
    return {
        name: f"{mean_average_precision(run, collection.qrels):.3f}"
        + (f" (natural views {mean_average_precision(run, natural):.3f})" if natural else "")
        for name, run in runs.items()
    }


def _build_summary(rows: Sequence[GalleryRow], *, judged: bool) -> Table:
    table = Table(box=None)
    table.add_column("query", no_wrap=True, overflow="ellipsis", max_width=18)
    for name in ("first", "second", "third"):
        table.add_column(name, no_wrap=True)
    if judged:
        table.add_column("relevant at", justify="right")
    for row in rows:
        cells = [escape(row.title)] + [f"{escape(hit.id)} [dim]{hit.score:.3f}[/dim]" for hit in row.hits[:3]]
        cells += [""] * (4 - len(cells))
        if judged:
            ranks = [str(rank) for rank, hit in enumerate(row.hits, start=1) if hit.id in row.relevant]
            cells.append("[green]" + ", ".join(ranks) if ranks else f"[red]beyond {len(row.hits)}")
        table.add_row(*cells)
    return table
