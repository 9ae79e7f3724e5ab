"""A collection as systems see it: descriptors of queries, documents that stream, and which rows are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.collections.judgements import Averaging, Judgements
from deepterms.evaluation.streams import ArrayFeatures, FeatureStream

__all__ = ["JudgedFeatures"]


@dataclass(frozen=True, eq=False)
class JudgedFeatures:
    """Queries, judged documents and distractors. Documents are numbered: the judged ones first, then the distractors.

    Attributes:
        name: what to call the collection.
        queries: float32 (Q, D), rows L2-normalised.
        judged: the documents among which relevant and junk ones are.
        relevant: for each query, int64 (R,), rows of `judged`, ascending, one at least.
        junk: for each query, int64 (J,), rows of `judged` that do not count, ascending.
        distractors: documents that are right for no query.
        averaging: how the collection's protocol takes AP.

    Raises:
        InvalidInput: not as many of each as queries, descriptors of several lengths, or rows of another form.
    """

    name: str
    queries: NDArray[np.float32]
    judged: FeatureStream
    relevant: tuple[NDArray[np.int64], ...]
    junk: tuple[NDArray[np.int64], ...]
    distractors: tuple[FeatureStream, ...] = ()
    averaging: Averaging = "precisions"

    def __post_init__(self) -> None:
        if not len(self.queries) == len(self.relevant) == len(self.junk):
            raise InvalidInput(
                f"{len(self.queries)} queries, relevant rows for {len(self.relevant)} and junk rows for "
                f"{len(self.junk)}; expected as many of each"
            )
        for stream in (self.judged, *self.distractors):
            if stream.dimensions != self.dimensions:
                raise InvalidInput(
                    f"queries have {self.dimensions} dimensions and documents {stream.dimensions}; "
                    "expected descriptors of one extractor"
                )
        for kind, fewest, of_queries in (("relevant", 1, self.relevant), ("junk", 0, self.junk)):
            for query, rows in enumerate(of_queries):
                # Ranks are counted by bisection: rows in another order would give a wrong AP without a word.
                inside = len(rows) >= fewest and np.all((rows >= 0) & (rows < len(self.judged)))
                if not inside or np.any(np.diff(rows) <= 0):
                    raise InvalidInput(
                        f"the {kind} rows of query {query} begin with {rows[:5].tolist()}; expected {fewest} or more "
                        f"of the {len(self.judged)} judged documents, ascending"
                    )

    @classmethod
    def from_ids(
        cls,
        name: str,
        judgements: Judgements,
        *,
        ids: Sequence[str],
        features: FeatureStream,
        queries: Mapping[str, NDArray[np.float32]],
        distractors: Sequence[FeatureStream] = (),
    ) -> JudgedFeatures:
        """Look the ids of judgements up.

        Args:
            name: of the collection.
            judgements: by ids.
            ids: of the rows of `features`.
            features: the judged documents.
            queries: descriptor (D,) of each query.
            distractors: more documents.

        Raises:
            InvalidInput: a relevant id or a query has no descriptor, or an id stands twice.
        """
        rows = {id: row for row, id in enumerate(ids)}
        if len(rows) != len(ids):
            raise InvalidInput(f"{len(ids) - len(rows)} ids stand twice; expected every photograph once")
        wanted = {id for relevant in judgements.relevant.values() for id in relevant}
        if missing := sorted(wanted - rows.keys()):
            raise InvalidInput(
                f"{len(missing)} relevant photographs have no descriptor, the first is {missing[0]!r}; describe the "
                "whole collection"
            )
        if missing := [query for query in judgements.queries if query not in queries]:
            raise InvalidInput(f"{len(missing)} queries have no descriptor, the first is {missing[0]!r}")
        asked = ArrayFeatures(np.stack([queries[query] for query in judgements.queries]))
        junk = (judgements.junk.get(query, frozenset()) for query in judgements.queries)
        return cls(
            name,
            np.concatenate(list(asked.blocks())),
            features,
            tuple(np.array(sorted(rows[id] for id in judgements.relevant[query])) for query in judgements.queries),
            # Junk that the collection lacks cannot be ranked either.
            tuple(np.array(sorted(rows[id] for id in ids if id in rows), dtype=np.int64) for ids in junk),
            tuple(distractors),
            judgements.averaging,
        )

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.queries.shape[1])

    def __len__(self) -> int:
        """N, the judged documents and the distractors."""
        return len(self.judged) + sum(map(len, self.distractors))

    @property
    def streams(self) -> tuple[FeatureStream, ...]:
        """All documents."""
        return (self.judged, *self.distractors)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All documents: the number of the first, and float32 (n, D)."""
        yield from _numbered(self.streams)

    def judged_blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The judged ones alone."""
        yield from _numbered((self.judged,))


def _numbered(streams: Sequence[FeatureStream]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    start = 0
    for stream in streams:
        for block in stream.blocks():
            yield start, block
            start += len(block)
