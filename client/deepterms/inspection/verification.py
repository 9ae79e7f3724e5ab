"""Exactness checks: scores that a cluster gives sampled documents, against the same scores computed here."""

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
from deepterms.search.body import search_body
from deepterms.search.rerank import rescore
from deepterms.search.searcher import SEARCHES_PER_REQUEST, Searcher
from deepterms.terms import TermFrequencies

__all__ = ["Difference", "Verification", "equal_scores", "multiply_terms", "verify"]

MAX_SAMPLED = 1_000  # a million scores
BEST_HITS = 10
RELATIVE_TOLERANCE = 1e-6  # a score is float32, exact up to 2^24
COSINE_TOLERANCE = 1e-6

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One score that the cluster gives otherwise.

    Attributes:
        kind: ``score``: the dot product of term frequencies; ``cosine``: after re-ranking; ``missing``: a document that
            belongs to the best hits of all and is not there.
        query: id of the document that was the query.
        id: of the document that was scored.
        expected: computed here.
        found: by the cluster; 0 if it was no hit.
    """

    kind: Literal["score", "cosine", "missing"]
    query: str
    id: str
    expected: float
    found: float


@dataclass(frozen=True)
class Verification:
    """What a check of an index found.

    Attributes:
        documents: how many were drawn; each was a query for all of them.
        scores: how many dot products were compared.
        cosines: how many cosines were compared; 0 without stored vectors.
        differences: every comparison that failed.
    """

    documents: int
    scores: int
    cosines: int
    differences: tuple[Difference, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether all was equal."""
        return not self.differences


def verify(searcher: Searcher, *, sample: int, seed: int) -> Verification:
    """Draw documents, take each as a query, and compare what the cluster scores with what is computed here.

    Compared are the dot products with every other one, the cosines with every other one if vectors are stored, and
    whether those that belong to the ten best of the whole index are among them.

    Args:
        searcher: of the index, which must not be written to meanwhile.
        sample: how many documents, at most 1,000.
        seed: which ones.

    Raises:
        InvalidInput: a sample out of range.
        ClusterError: a search failed, or lacks a shard.
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

    found = _scores(_answers(searcher, bodies(len(ids), filter=among)), ids)
    wrong = ~equal_scores(found, products)
    differences = [
        Difference("score", ids[row], ids[other], products[row, other], found[row, other])
        for row, other in np.argwhere(wrong).tolist()
    ]
    for row, best in enumerate(_answers(searcher, bodies(BEST_HITS))):
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
    if spec.compared_by is not None and places:
        stored = np.stack([vector for vector in held if vector is not None])  # (m, D)
        queries = normalise_rows(stored)
        exact = queries.astype(np.float64) @ stored.astype(np.float64).T  # (m, m)
        asked = [
            search_body(
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
        cosines = _scores(_answers(searcher, asked), [ids[row] for row in places]) - COSINE_OFFSET
        shared = products[np.ix_(places, places)] > 0  # only these are hits
        compared = int(shared.sum())
        wrong = shared & (np.abs(cosines - exact) > COSINE_TOLERANCE)
        differences += [
            Difference("cosine", ids[places[row]], ids[places[other]], exact[row, other], cosines[row, other])
            for row, other in np.argwhere(wrong).tolist()
        ]
    return Verification(len(ids), products.size, compared, tuple(differences))


def multiply_terms(terms: TermFrequencies) -> Scores:
    """The dot product of each of n documents' terms with each other's: float64 (n, n), exact whole numbers."""
    wide = terms.matrix.astype(np.int64)
    products: Scores = (wide @ wide.T).toarray().astype(np.float64)
    return products


def equal_scores(found: ArrayLike, expected: ArrayLike) -> NDArray[np.bool_]:
    """Which scores of an engine, which are float32, are equal to exact ones."""
    return np.isclose(found, expected, rtol=RELATIVE_TOLERANCE, atol=0)


def _draw(searcher: Searcher, sample: int, seed: int) -> list[dict[str, Any]]:
    drawn = {"function_score": {"query": {"match_all": {}}, "random_score": {"seed": seed, "field": "_seq_no"}}}
    body: dict[str, Any] = {"query": drawn, "size": sample, "_source": ["terms"]}
    if searcher.index.spec.stores_vectors:
        body["docvalue_fields"] = ["vector"]
    answer = searcher.cluster.request("POST", build_index_path(searcher.index.name, "/_search"), body=body)
    return list(_whole(answer)["hits"]["hits"])


def _answers(searcher: Searcher, bodies: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Id → score of the hits of each search."""
    answers: list[dict[str, float]] = []
    for start in range(0, len(bodies), SEARCHES_PER_REQUEST):
        for answer in searcher.cluster.search_many(
            bodies[start : start + SEARCHES_PER_REQUEST], index=searcher.index.name
        ):
            refused = find_error(answer)
            if refused is not None:
                raise refused
            answers.append({hit["_id"]: float(hit["_score"]) for hit in _whole(answer)["hits"]["hits"]})
    return answers


def _whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if is_incomplete(answer):
        raise ClusterError("a shard failed or ran out of time, so nothing can be said of the index; verify it again")
    return answer


def _scores(answers: list[dict[str, float]], ids: list[str]) -> Scores:
    """float64 (queries, ids); 0 where a document was no hit."""
    return np.array([[answer.get(identifier, 0.0) for identifier in ids] for answer in answers])
