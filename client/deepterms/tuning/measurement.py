"""Measurement: searches of a filled index with many settings, from queries to the recall and milliseconds of each.

The ten nearest documents of each query are found by comparing all. Half of the queries choose the settings worth
keeping; the other half, which no choice was made with, verify them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.encoder import Encoder, WideningEncoder
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Hit, Hits
from deepterms.schema.tuning import PROMISED_HITS, SearchSetting, Tuning, TuningSource
from deepterms.search.options import SearchOptions
from deepterms.search.widening import MAX_NAMED
from deepterms.tuning.bounds import bound_recall
from deepterms.tuning.frontier import keep_cheapest
from deepterms.tuning.progress import Neighbours, TuningState

__all__ = ["MIN_TUNING_QUERIES", "OnTuningProgress", "Queries", "TuningTask", "is_beaten", "list_settings"]

OnTuningProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

MIN_TUNING_QUERIES = 20
WORDS = (4, 8, 16, 32, 64, 128, 256, 512)
CANDIDATES = (100, 200, 500, 1_000, 2_000, 4_000, 8_000)
# Settings that are clearly beaten after so many queries are measured no further.
TRIAL_QUERIES = 12
CLEARLY_SLOWER = 1.3
CLEARLY_LESS = 0.01

EVERYTHING = SearchSetting(compares="all", recall=1.0, bound=1.0)


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries to measure with.

    Attributes:
        vectors: float32 (n, D).
        ids: the documents that they are, which are not among their own neighbours; None for other descriptors.
    """

    vectors: NDArray[np.float32]
    ids: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def source(self) -> TuningSource:
        """What recall is measured with."""
        return "queries" if self.ids is None else "documents"


def list_settings(encoder: Encoder, *, documents: int, native: bool = False) -> list[SearchSetting]:
    """List the settings worth trying in an index.

    Args:
        encoder: encoder of the index.
        documents: number of its documents.
        native: whether the index compares natively, and so all documents that share a codeword.
    """
    if isinstance(encoder, WideningEncoder):
        most = encoder.vocabulary_size
        counts = sorted({words for words in (*WORDS, encoder.words_per_query) if words <= most})
    else:  # its queries have so many codewords and no more
        most = getattr(encoder, "top_k", None) or encoder.vocabulary_size
        counts = sorted({max(1, most // part) for part in (8, 4, 2, 1)})
    depths = [count for count in CANDIDATES if count < documents and not native]
    settings = [
        SearchSetting(words=words, candidates=count) for words in counts if words <= MAX_NAMED for count in depths
    ]
    return settings + [SearchSetting(compares="listed", words=words) for words in counts]


@dataclass(eq=False)
class TuningTask:
    """Measures one index, one search at a time.

    Attributes:
        ask: searches with one descriptor (1, D).
        queries: queries to measure with.
        documents: number of documents of the index.
        encoder: its encoder.
        recall: the recall that its searches are to keep.
        native: whether it compares natively.
        throttle: seconds to pause after each search, per second that it took.
        on_progress: called after each search.
        state: where neighbours are kept that an interrupted call found.
    """

    ask: Callable[[NDArray[np.float32], SearchOptions], Hits]
    queries: Queries
    documents: int
    encoder: Encoder
    recall: float
    native: bool = False
    throttle: float = 0.0
    on_progress: OnTuningProgress = lambda *_: None
    state: TuningState = field(default_factory=TuningState)

    def run(self) -> Tuning:
        """Measure, choose and verify.

        Raises:
            InvalidInput: there are too few queries, or the index has too few documents to have neighbours.
            ClusterError: a search was incomplete.
        """
        if len(self.queries) < MIN_TUNING_QUERIES:
            raise InvalidInput(
                f"{len(self.queries)} queries are too few to measure recall with; expected at least "
                f"{MIN_TUNING_QUERIES}, half of which verify what the others chose"
            )
        true = self._find_neighbours()
        # Every second query, since documents drawn from a cluster come in an order of their own.
        choosing, verifying = range(0, len(true), 2), range(1, len(true), 2)
        settings = list_settings(self.encoder, documents=self.documents, native=self.native)
        trial = self._measure("trying settings", settings, choosing[:TRIAL_QUERIES], true)
        exhaustive_ms = median(neighbours.ms for neighbours in true)
        settings = [
            setting for setting in settings if trial[setting][1] < exhaustive_ms and not is_beaten(setting, trial)
        ]
        measured = self._measure("measuring settings", settings, choosing, true)
        kept = keep_cheapest(
            setting.model_copy(update={"recall": float(np.mean(shares)), "bound": bound_recall(shares), "ms": ms})
            for setting, (shares, ms) in measured.items()
            if ms < exhaustive_ms
        )
        verified = self._measure("verifying settings", kept, verifying, true)
        return Tuning(
            recall=self.recall,
            documents=self.documents,
            queries=len(choosing),
            source=self.queries.source,
            settings=tuple(
                setting.model_copy(update={"verified": float(np.mean(verified[setting][0]))}) for setting in kept
            ),
            exhaustive_ms=exhaustive_ms,
        )

    def _find_neighbours(self) -> list[Neighbours]:
        """Find the nearest documents of each query by comparing all documents."""
        found = []
        for number in range(len(self.queries)):
            known = self.state.read(number)
            if known is None:
                started = time.perf_counter()
                hits = self._search(number, EVERYTHING)
                known = Neighbours([hit.score for hit in hits], 1e3 * (time.perf_counter() - started))
                self.state.write(number, known)
                self._pause(known.ms)
            found.append(known)
            self.on_progress("comparing all documents", number + 1, len(self.queries))
        if not any(neighbours.scores for neighbours in found):
            raise InvalidInput("the queries have no neighbours in the index; fill and refresh it first")
        return found

    def _measure(
        self, what: str, settings: Sequence[SearchSetting], numbers: Sequence[int], true: Sequence[Neighbours]
    ) -> Mapping[SearchSetting, tuple[list[float], float]]:
        """Search with every setting for every query in turn, so that a load spike affects all; shares and median ms."""
        shares: dict[SearchSetting, list[float]] = {setting: [] for setting in settings}
        times: dict[SearchSetting, list[float]] = {setting: [] for setting in settings}
        for done, number in enumerate(numbers):
            for setting in reversed(settings) if done % 2 else settings:
                started = time.perf_counter()
                hits = self._search(number, setting)
                spent = 1e3 * (time.perf_counter() - started)
                times[setting].append(spent)
                shares[setting].append(true[number].count_found([hit.score for hit in hits]))
                self._pause(spent)
            self.on_progress(what, done + 1, len(numbers))
        return {setting: (shares[setting], median(times[setting])) for setting in settings}

    def _search(self, number: int, setting: SearchSetting) -> list[Hit]:
        """Return the first ten hits other than the query itself."""
        ids = self.queries.ids
        options = SearchOptions(k=PROMISED_HITS + (ids is not None), fields=(), setting=setting)
        hits = self.ask(self.queries.vectors[number : number + 1], options)
        if hits.partial:
            raise ClusterError("a shard failed or timed out, so recall cannot be measured; try again")
        own = None if ids is None else ids[number]
        return [hit for hit in hits if hit.id != own][:PROMISED_HITS]

    def _pause(self, ms: float) -> None:
        if self.throttle:
            time.sleep(self.throttle * ms / 1e3)


def is_beaten(setting: SearchSetting, trial: Mapping[SearchSetting, tuple[list[float], float]]) -> bool:
    """Whether another setting found clearly more in clearly less time.

    Of two that found everything in a few queries, the slower one may still find more in many.
    """
    shares, ms = trial[setting]
    found = float(np.mean(shares))
    return any(
        other_ms * CLEARLY_SLOWER < ms and float(np.mean(other)) >= found + CLEARLY_LESS
        for other, other_ms in trial.values()
    )
