"""Verification: a cluster's scores of sampled documents compared with the same scores computed in the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import find_error, is_incomplete
from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import ClusterError, InvalidInput
from deepterms.schema.scripts import COSINE_OFFSET
from deepterms.schema.stored_documents import read_vector
from deepterms.schema.vectors import round_query
from deepterms.search.body import search_body
from deepterms.search.native import list_codewords, native_body
from deepterms.search.rerank import rescore
from deepterms.search.searcher import SEARCHES_PER_REQUEST, Searcher
from deepterms.terms import TermFrequencies

__all__ = ["Difference", "Verification", "equal_scores", "multiply_terms", "verify"]

MAX_SAMPLED = 1_000  # a million scores
BEST_HITS = 10
RELATIVE_TOLERANCE = 1e-6  # scores are float32, exact up to 2^24
COSINE_TOLERANCE = 1e-6

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One score of the cluster that differs from the expected one.

    Attributes:
        kind: ``score``, a dot product of term frequencies; ``cosine``, a score after re-ranking; or ``missing``, a
            document that belongs to the ten best hits of the index but is not among them.
        query: id of the document that was the query.
        id: id of the document that was scored.
        expected: score computed in the client.
        found: score of the cluster; 0 if the document was not a hit.
    """

    kind: Literal["score", "cosine", "missing"]
    query: str
    id: str
    expected: float
    found: float


@dataclass(frozen=True)
class Verification:
    """The result of `SurrogateIndex.verify`.

    Attributes:
        documents: number of documents drawn; each was a query for all of them.
        scores: number of dot products compared.
        cosines: number of cosines compared; 0 without stored vectors.
        differences: every comparison that failed.
    """

    documents: int
    scores: int
    cosines: int
    differences: tuple[Difference, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether there are no differences."""
        return not self.differences


def verify(searcher: Searcher, *, sample: int, seed: int) -> Verification:
    """Draw documents, use each as a query, and compare the cluster's scores with those computed in the client.

    For each pair of documents, this compares the dot product and, if vectors are stored, the cosine. It also checks
    that the ten best hits of the whole index miss no sampled document that belongs to them.

    Args:
        searcher: searcher of the index, which must not be written to during the check.
        sample: number of documents to draw, 1 to 1,000.
        seed: seed of the random draw.

    Raises:
        InvalidInput: sample is out of range.
        ClusterError: a search failed, or a shard did not answer.
    """
    if not 1 <= sample <= MAX_SAMPLED:
        raise InvalidInput(f"sample is {sample}; expected 1 to {MAX_SAMPLED} documents")
    spec, field = searcher.index.spec, searcher.index.field
    drawn = _draw(searcher, sample, seed)
    if not drawn:
        return Verification(0, 0, 0)
    ids = [hit["_id"] for hit in drawn]
    terms = TermFrequencies.from_terms(
        [hit["_source"].get("terms", {}) for hit in drawn], vocabulary_size=spec.encoder.vocabulary_size
    )
    products = multiply_terms(terms)
    among: dict[str, Any] = {"ids": {"values": ids}}
    rows = range(len(ids))

    def bodies(k: int, **options: Any) -> list[dict[str, Any]]:
        return [
            search_body(terms[n : n + 1], layout=spec.layout, field=field, k=k, source=False, **options) for n in rows
        ]

    found = _align_scores(_search_scores(searcher, bodies(len(ids), filter=among)), ids)
    wrong = ~equal_scores(found, products)
    differences = [
        Difference("score", ids[row], ids[other], products[row, other], found[row, other])
        for row, other in np.argwhere(wrong).tolist()
    ]
    for row, best in enumerate(_search_scores(searcher, bodies(BEST_HITS))):
        least = min(best.values()) if len(best) == BEST_HITS else 0.0
        differences += [
            Difference("missing", ids[row], other, products[row, column], best.get(other, 0.0))
            for column, other in enumerate(ids)
            if products[row, column] > least * (1 + RELATIVE_TOLERANCE) and other not in best
        ]
    compared = 0
    dimensions = spec.encoder.dimensions
    held = [read_vector(hit, spec.vector_type, dimensions=dimensions) for hit in drawn]
    places = [row for row, vector in enumerate(held) if vector is not None]
    if spec.compared_by is not None and spec.vector_type is not None and places:
        stored = np.stack([vector for vector in held if vector is not None])  # (m, D)
        queries = normalise_rows(stored)
        sent = np.stack([round_query(query, spec.compared_by) for query in queries])
        exact = sent.astype(np.float64) @ stored.astype(np.float64).T  # (m, m)
        asked = [
            native_body(
                query,
                among=[list_codewords(terms[row : row + 1], field=field), among],
                k=len(ids),
                found=len(ids),
                source=False,
            )
            if spec.is_native
            else search_body(
                terms[row : row + 1],
                layout=spec.layout,
                field=field,
                k=len(ids),
                filter=among,
                source=False,
                rescore=rescore(query, window=len(ids), vector_type=spec.compared_by),
            )
            for row, query in zip(places, queries, strict=True)
        ]
        cosines = _align_scores(_search_scores(searcher, asked), [ids[row] for row in places]) - COSINE_OFFSET
        shared = products[np.ix_(places, places)] > 0  # only these are hits
        compared = int(shared.sum())
        wrong = shared & (np.abs(cosines - exact) > COSINE_TOLERANCE)
        differences += [
            Difference("cosine", ids[places[row]], ids[places[other]], exact[row, other], cosines[row, other])
            for row, other in np.argwhere(wrong).tolist()
        ]
    return Verification(len(ids), products.size, compared, tuple(differences))


def multiply_terms(terms: TermFrequencies) -> Scores:
    """Multiply the terms of n documents with each other: dot products, float64 (n, n), exact integers."""
    wide = terms.matrix.astype(np.int64)
    products: Scores = (wide @ wide.T).toarray().astype(np.float64)
    return products


def equal_scores(found: ArrayLike, expected: ArrayLike) -> NDArray[np.bool_]:
    """Compare an engine's float32 scores with exact ones: which of them are equal."""
    return np.isclose(found, expected, rtol=RELATIVE_TOLERANCE, atol=0)


def _draw(searcher: Searcher, sample: int, seed: int) -> list[dict[str, Any]]:
    drawn = {"function_score": {"query": {"match_all": {}}, "random_score": {"seed": seed, "field": "_seq_no"}}}
    body: dict[str, Any] = {"query": drawn, "size": sample, "_source": ["terms"]}
    if searcher.index.spec.stores_vectors:
        body["docvalue_fields"] = ["vector"]
    answer = searcher.cluster.request("POST", build_index_path(searcher.index.name, "/_search"), body=body)
    return list(_require_whole(answer)["hits"]["hits"])


def _search_scores(searcher: Searcher, bodies: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Run searches and return, for each, the scores of its hits by id."""
    answers: list[dict[str, float]] = []
    for start in range(0, len(bodies), SEARCHES_PER_REQUEST):
        for answer in searcher.cluster.search_many(
            bodies[start : start + SEARCHES_PER_REQUEST], index=searcher.index.name
        ):
            rejection = find_error(answer)
            if rejection is not None:
                raise rejection
            answers.append({hit["_id"]: float(hit["_score"]) for hit in _require_whole(answer)["hits"]["hits"]})
    return answers


def _require_whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if is_incomplete(answer):
        raise ClusterError("a shard failed or timed out, so the index cannot be verified; try again")
    return answer


def _align_scores(answers: list[dict[str, float]], ids: list[str]) -> Scores:
    """Arrange scores as float64 (queries, ids), with 0 for documents that were not hits."""
    return np.array([[answer.get(identifier, 0.0) for identifier in ids] for answer in answers])
