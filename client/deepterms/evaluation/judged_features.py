"""Combine judgements and descriptors into what systems are measured on: queries, streamed documents, relevant rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import as_array
from deepterms.errors import InvalidInput
from deepterms.evaluation.collections.judgements import Averaging, Judgements
from deepterms.evaluation.streams import ArrayFeatures, FeatureStream
from deepterms.schema.aligned import list_values

__all__ = ["JudgedFeatures"]


@dataclass(frozen=True, eq=False)
class JudgedFeatures:
    """Queries, judged documents and distractors. Judged documents are numbered first, then the distractors.

    Attributes:
        name: of the collection, for display.
        queries: float32 (Q, D), rows L2-normalised.
        judged: the documents that judgements refer to.
        relevant: per query, int64 (R,), ascending rows of `judged`; at least one.
        junk: per query, int64 (J,), ascending rows of `judged` that are ignored.
        distractors: documents that are relevant to no query.
        averaging: how the collection's protocol computes AP.

    Raises:
        InvalidInput: the numbers of queries, relevant and junk entries differ, descriptors differ in length, or rows
            are out of range or out of order.
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
                f"got {len(self.queries)} queries, relevant rows for {len(self.relevant)} and junk rows for "
                f"{len(self.junk)}; expected the same number of each"
            )
        for stream in (self.judged, *self.distractors):
            if stream.dimensions != self.dimensions:
                raise InvalidInput(
                    f"queries have {self.dimensions} dimensions and documents have {stream.dimensions}; "
                    "expected descriptors from the same extractor"
                )
        for kind, fewest, of_queries in (("relevant", 1, self.relevant), ("junk", 0, self.junk)):
            for query, rows in enumerate(of_queries):
                # Ranks are counted by bisection, so unsorted rows would silently give a wrong AP.
                inside = len(rows) >= fewest and np.all((rows >= 0) & (rows < len(self.judged)))
                if not inside or np.any(np.diff(rows) <= 0):
                    raise InvalidInput(
                        f"the {kind} rows of query {query} start with {rows[:5].tolist()}; expected at least {fewest} "
                        f"in ascending order, each below {len(self.judged)}, the number of judged documents"
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
        """Resolve the ids in judgements to rows of descriptors.

        Args:
            name: of the collection, for display.
            judgements: by id.
            ids: one per row of `features`.
            features: the judged documents.
            queries: query → descriptor (D,).
            distractors: additional documents.

        Raises:
            InvalidInput: a relevant id or a query has no descriptor, or an id occurs twice.
        """
        ids = list_values(ids, "ids")
        rows = {id: row for row, id in enumerate(ids)}
        if len(rows) != len(ids):
            raise InvalidInput(f"{len(ids) - len(rows)} ids are duplicates; expected every photograph once")
        wanted = {id for relevant in judgements.relevant.values() for id in relevant}
        if missing := sorted(wanted - rows.keys()):
            raise InvalidInput(
                f"{len(missing)} relevant photographs have no descriptor, starting with {missing[0]!r}; extract "
                "descriptors for the whole collection"
            )
        if missing := [query for query in judgements.queries if query not in queries]:
            raise InvalidInput(f"{len(missing)} queries have no descriptor, starting with {missing[0]!r}")
        asked = ArrayFeatures(as_array([queries[query] for query in judgements.queries]))
        junk = (judgements.junk.get(query, frozenset()) for query in judgements.queries)
        return cls(
            name,
            np.concatenate(list(asked.blocks())),
            features,
            tuple(np.array(sorted(rows[id] for id in judgements.relevant[query])) for query in judgements.queries),
            # Junk that is not in the collection cannot be ranked, so it is dropped.
            tuple(np.array(sorted(rows[id] for id in ids if id in rows), dtype=np.int64) for ids in junk),
            tuple(distractors),
            judgements.averaging,
        )

    @property
    def dimensions(self) -> int:
        """D, the descriptor length."""
        return int(self.queries.shape[1])

    def __len__(self) -> int:
        """N, the number of judged documents and distractors."""
        return len(self.judged) + sum(map(len, self.distractors))

    @property
    def streams(self) -> tuple[FeatureStream, ...]:
        """All documents, judged ones first."""
        return (self.judged, *self.distractors)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Iterate over all documents as (number of the first document, float32 (n, D))."""
        yield from _number_blocks(self.streams)

    def judged_blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Iterate over the judged documents only, in the same form as `blocks`."""
        yield from _number_blocks((self.judged,))


def _number_blocks(streams: Sequence[FeatureStream]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    start = 0
    for stream in streams:
        for block in stream.blocks():
            yield start, block
            start += len(block)
