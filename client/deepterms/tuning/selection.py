"""Selection: chooses the encoder of a new index by measuring, on a sample of its descriptors, what searches would find.

Some rows of the sample are queries; pivots are fitted to others, and up to 16,384 rows stand for the documents. Each
combination of pivots, words and candidates is simulated (`deepterms.tuning.simulation`) and costed
(`deepterms.tuning.figures`), and the cheapest that reaches the recall is taken, with the very pivots it was tried with.

Where the rows are fewer than the documents that the index will hold, each stands for several: lists are as many times
longer, and every document that is ahead of a neighbour counts as often. The neighbours themselves are taken to lie as
far away as the nearest of the sample do. In the full collection they lie nearer, and share more pivots with the query,
so recall is underestimated, and never extrapolated upwards.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import normalise_rows
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.sampling import check_rows, sample_pivots
from deepterms.errors import InvalidInput
from deepterms.schema.sketches import MIN_CANDIDATES, count_survivors, wants_sketch
from deepterms.schema.tuning import DEFAULT_RECALL, PROMISED_HITS, SearchSetting, Tuning, check_recall
from deepterms.tuning.bounds import bound_recall
from deepterms.tuning.figures import REFERENCE, Figures, predict_find_ms, predict_search_ms
from deepterms.tuning.frontier import keep_cheapest
from deepterms.tuning.simulation import Collection, Outcome, simulate_searches

__all__ = ["MAX_PIVOTS", "MIN_PIVOTS", "SelectedEncoder", "choose_pivot_counts", "count_sample_rows", "select_encoder"]

logger = logging.getLogger("deepterms")

MIN_PIVOTS = 256
MAX_PIVOTS = 65_536  # 168 MB at 1,280 dimensions, in the memory of every client
DOCUMENTS_PER_PIVOT = (10, 20, 40)
WORDS_PER_DOCUMENT = (4, 8)
QUERY_WORDS = (8, 16, 32, 64, 128, 256, 512)
CANDIDATES = (100, 200, 500, 1_000, 2_000, 4_000, 8_000)
MAX_QUERIES = 200
# With fewer rows than this, a tenth of which are queries, nothing can be said about recall.
MIN_ROWS = 200
# Rows that stand for the documents. More would underestimate recall less, and take longer.
MAX_DOCUMENTS = 16_384
# Rows that pivots are fitted to: eight per centroid.
MAX_TRAINING = 65_536
# An encoder that costs searches up to this much more than the cheapest is still chosen if it has fewer words or pivots.
NEARLY = 1.1
# Where no recall can be measured, an index of so few documents compares all of them.
FEW_DOCUMENTS = 10_000


@dataclass(frozen=True)
class SelectedEncoder:
    """An encoder, and how searches with it are done.

    Attributes:
        encoder: the encoder, as given by the caller or chosen.
        rerank: the number of candidates to re-rank; None for the encoder's default.
        tuning: the settings that reach each recall, as simulated; None if the encoder was given.
        sketch: whether the index should have sketches; None for the default.
    """

    encoder: Encoder
    rerank: int | None = None
    tuning: Tuning | None = None
    sketch: bool | None = None


@dataclass(frozen=True, eq=False)
class _Design:
    """An encoder that was tried.

    Attributes:
        encoder: the encoder, whose queries have one codeword.
        tuning: what each setting found, as simulated.
    """

    encoder: PivotPermutation
    tuning: Tuning


def select_encoder(
    encoder: Encoder | Literal["auto"],
    *,
    features: Features | None = None,
    documents: int | None = None,
    recall: float | None = None,
    sketch: bool | None = None,
    stores_vectors: bool = True,
    int8: bool = False,
    native: bool = False,
    seed: int = 0,
    figures: Figures = REFERENCE,
) -> SelectedEncoder:
    """Return the given encoder, or choose one for ``auto``.

    Args:
        encoder: an encoder for documents and queries, or ``auto``.
        features: for ``auto``: (n, D), the collection or a random sample of it; up to 65,736 rows are read.
        documents: for ``auto``: the number of documents that the index will hold; default: n.
        recall: for ``auto``: the share of the ten nearest that searches find; default: .95.
        sketch: for ``auto``: whether the index has sketches; None for the default.
        stores_vectors: for ``auto``: whether the index stores vectors. Without them no recall can be promised.
        int8: for ``auto``: whether they are stored as int8.
        native: for ``auto``: whether the engine compares them, and so all documents that share a codeword.
        seed: for ``auto``: seed of the sampling.
        figures: for ``auto``: costs of the engine.

    Raises:
        InvalidInput: ``auto`` has fewer than two features; an encoder is given together with features, documents or
            recall; or `encoder` is a string other than ``auto``.
    """
    if isinstance(encoder, str):
        if encoder != "auto":
            raise InvalidInput(f"encoder is {encoder!r}; expected an encoder, or 'auto'")
    elif features is None and documents is None and recall is None:
        return SelectedEncoder(encoder)
    else:
        raise InvalidInput(
            f"features, documents and recall are for encoder='auto'; got encoder {encoder}: omit them, and call tune() "
            "on the filled index"
        )
    wanted = DEFAULT_RECALL if recall is None else check_recall(recall)
    if features is None:
        raise InvalidInput(
            "encoder='auto' samples pivots from features; pass features=, the collection or a few thousand rows of it"
        )
    rows = check_rows(features)
    expected = len(rows) if documents is None else documents
    if expected < 1:
        raise InvalidInput(f"documents is {expected}; expected the number that the index will hold, at least 1")
    choice = _Choice(
        rows,
        expected,
        wanted,
        sketch=sketch if stores_vectors and not native else False,
        int8=int8,
        native=native,
        seed=seed,
        figures=figures,
    )
    return choice.select() if stores_vectors and choice.is_measurable else choice.fall_back(promised=stores_vectors)


def count_sample_rows(documents: int) -> int:
    """Count the rows that `select_encoder` makes use of, if the collection has as many."""
    return min(MAX_TRAINING, max(2 * MAX_DOCUMENTS, 8 * max(choose_pivot_counts(documents)))) + MAX_QUERIES


def choose_pivot_counts(documents: int) -> list[int]:
    """Choose the numbers of pivots to try for a collection: powers of two from 256 to 65,536, most first.

    Args:
        documents: N, the expected number of documents.
    """
    shares = [2 ** round(math.log2(max(1.0, documents / share))) for share in DOCUMENTS_PER_PIVOT]
    return sorted({max(MIN_PIVOTS, min(share, MAX_PIVOTS)) for share in shares}, reverse=True)


class _Choice:
    """One choice of an encoder, for one sample."""

    def __init__(
        self,
        rows: NDArray[Any],
        documents: int,
        recall: float,
        *,
        sketch: bool | None,
        int8: bool,
        native: bool,
        seed: int,
        figures: Figures,
    ) -> None:
        self.rows, self.documents, self.recall = rows, documents, recall
        self.int8, self.native, self.seed, self.figures = int8, native, seed, figures
        # From this number of candidates on, they are compared by sketch first.
        self.sketched_from = next(
            (
                count
                for count in (*CANDIDATES, MIN_CANDIDATES)
                if wants_sketch(sketch, dimensions=rows.shape[1], stores_vectors=True, rerank=count)
            ),
            None,
        )
        drawn = np.random.default_rng([seed, 2]).permutation(len(rows))[: count_sample_rows(documents)]
        sample = np.asarray(rows[np.sort(drawn)], dtype=np.float32)
        sample = sample[np.isfinite(sample).all(axis=1) & sample.any(axis=1)]
        sample = sample[np.random.default_rng([seed, 3]).permutation(len(sample))]
        self.usable = len(sample)
        queries = min(MAX_QUERIES, len(sample) // 10)
        # No query is a document, and none had a part in the pivots.
        self.queries, rest = normalise_rows(sample[:queries]), sample[queries:]
        if documents > 2 * len(rest):
            # Most documents will have had no part in the pivots either, so those that stand for them have none.
            self.training, standing = rest[len(rest) // 2 :], rest[: len(rest) // 2]
        else:
            self.training, standing = rest, rest
        self.sample = normalise_rows(standing[: min(MAX_DOCUMENTS, max(documents, MIN_ROWS))])

    @property
    def is_measurable(self) -> bool:
        """Whether there are enough rows to measure recall with."""
        return self.usable >= MIN_ROWS

    def fall_back(self, *, promised: bool) -> SelectedEncoder:
        """Choose without measuring: because there are few rows, or no vectors to find the nearest with."""
        pivots = choose_pivot_counts(self.documents)
        sampled = sample_pivots(self.rows, pivots[len(pivots) // 2], method="auto", seed=self.seed)
        encoder = _build(sampled, top_k=WORDS_PER_DOCUMENT[0], query_top_k=32)
        tuning = None
        if promised and self.documents <= FEW_DOCUMENTS:
            tuning = Tuning(recall=self.recall, documents=self.documents, queries=0, source="sample")
        elif promised:
            logger.warning(
                "%d usable rows are too few to promise a recall; pass %d or more, or call tune() on the filled index",
                self.usable,
                MIN_ROWS,
            )
        return SelectedEncoder(encoder, 1_000, tuning)

    def select(self) -> SelectedEncoder:
        """Try each number of pivots with few words per document, and the best of them with more."""
        scale = max(1.0, self.documents / len(self.sample))
        collection = Collection.build(self.sample, self.queries, scale=scale)
        few, many = WORDS_PER_DOCUMENT
        designs = [self._try(collection, pivots, few) for pivots in self._sample_pivots()]
        best = min(designs, key=_cost)
        # More words cost bytes and time of ingestion, so they have to save more than a little.
        richer = self._try(collection, best.encoder.pivots, many)
        if _cost(richer) < _cost(best) and not _cost(best)[1] <= NEARLY * _cost(richer)[1]:
            best = richer
        else:  # so do more pivots
            near = [design for design in designs if _cost(design)[1] <= NEARLY * _cost(best)[1] and _reaches(design)]
            best = min(near, key=lambda design: len(design.encoder.pivots), default=best)
        tuning = best.tuning
        setting = tuning.choose()
        if setting.compares == "all" and self.documents > FEW_DOCUMENTS:
            logger.warning(
                "no number of pivots finds %g of the ten nearest of these descriptors, so searches compare all "
                "documents: about %.0f ms each among %s. A lower recall= takes less",
                self.recall,
                tuning.exhaustive_ms,
                f"{self.documents:,}",
            )
        encoder = replace(best.encoder, query_top_k=min(setting.words or 32, len(best.encoder.pivots)))
        sketch = self._is_sketched(setting)
        if sketch:  # the index then compares by sketch for every number of candidates
            survivors, least = count_survivors(PROMISED_HITS), self.sketched_from or 0
            kept = [one for one in tuning.settings if not survivors < one.candidates < least]
            tuning = tuning.model_copy(update={"settings": tuple(kept)})
        return SelectedEncoder(encoder, setting.candidates or 1_000, tuning, sketch)

    def _is_sketched(self, setting: SearchSetting) -> bool:
        """Whether the candidates of a setting are compared by sketch first."""
        return self.sketched_from is not None and setting.candidates >= self.sketched_from

    def _sample_pivots(self) -> Iterator[Pivots]:
        """Sample each number of pivots to try."""
        for count in choose_pivot_counts(self.documents):
            yield sample_pivots(self.training, count, method="auto", seed=self.seed)

    def _try(self, collection: Collection, pivots: Pivots, top_k: int) -> _Design:
        """Simulate an index with these pivots and so many words per document."""
        encoder = _build(pivots, top_k=top_k, query_top_k=1)
        outcomes = simulate_searches(
            collection,
            encoder,
            encoder.encode(collection.documents),
            words=[words for words in QUERY_WORDS if words <= len(pivots)],
            candidates=() if self.native else CANDIDATES,
            sketched_from=self.sketched_from,
        )
        find_ms = predict_find_ms(len(pivots), self.rows.shape[1], self.figures)
        return _Design(encoder, self._tune(outcomes, find_ms))

    def _tune(self, outcomes: Iterable[Outcome], find_ms: float) -> Tuning:
        """Turn what was found into settings with their recall and milliseconds."""
        D = self.rows.shape[1]
        settings = []
        for outcome in outcomes:
            reached = bound_recall(outcome.shares)  # nothing verifies it, so the mean would be too high
            compared = outcome.listed if outcome.candidates is None else min(outcome.candidates, outcome.listed)
            survivors = count_survivors(PROMISED_HITS)
            sketched = (
                self.sketched_from is not None
                and outcome.candidates is not None
                and outcome.candidates >= self.sketched_from
                and compared > survivors
            )
            ms = find_ms + predict_search_ms(
                self.figures,
                dimensions=D,
                words=outcome.words,
                postings=outcome.postings,
                scored=outcome.candidates is not None,
                vectors=survivors if sketched else compared,
                sketches=compared if sketched else 0,
                int8=self.int8,
                native=self.native,
            )
            settings.append(
                SearchSetting(
                    compares="listed" if outcome.candidates is None else "candidates",
                    words=outcome.words,
                    candidates=outcome.candidates or 0,
                    recall=reached,
                    bound=reached,
                    ms=ms,
                )
            )
        exhaustive_ms = predict_search_ms(
            self.figures, dimensions=D, vectors=self.documents, int8=self.int8, native=self.native
        )
        return Tuning(
            recall=self.recall,
            documents=self.documents,
            queries=len(self.queries),
            source="sample",
            settings=keep_cheapest(setting for setting in settings if setting.ms < exhaustive_ms),
            exhaustive_ms=exhaustive_ms,
        )


def _cost(design: _Design) -> tuple[bool, float, float]:
    """What a design costs: at most the milliseconds of its setting; if none reaches the recall, all documents compared.

    Of several that do not reach it, the one that comes nearest is the cheapest.
    """
    most = max((setting.recall for setting in design.tuning.settings), default=0.0)
    return not _reaches(design), design.tuning.choose().ms, -most


def _reaches(design: _Design) -> bool:
    return design.tuning.choose().compares != "all"


def _build(pivots: Pivots, *, top_k: int, query_top_k: int) -> PivotPermutation:
    """Build the encoder that ``auto`` chooses, of the index and of its simulations."""
    return PivotPermutation(pivots, top_k=top_k, query_top_k=query_top_k)
