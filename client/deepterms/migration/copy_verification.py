"""Verification: a sample of one index's documents, looked for in its copy, and scored as they must be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import MigrationFailed
from deepterms.inspection.verification import equal_scores, multiply_terms
from deepterms.migration.copier import STORED, copy_lines
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import Layout
from deepterms.search.body import search_body
from deepterms.terms import TermFrequencies

__all__ = ["verify_copy"]

SAMPLE = 20  # documents compared with each other: 400 scores
SEED = 2018  # which documents are drawn
COMPARED_SEARCHES = 5
COMPARED_HITS = 10


def verify_copy(
    cluster: Cluster,
    source: str,
    target: str,
    *,
    spec: IndexSpec,
    layout: Layout,
    keep_terms: bool,
) -> int:
    """Compare a copy with its original, neither being written to.

    Sampled documents must be stored alike. Each, as a query, must score every other one in the copy with the dot
    product of their term frequencies, computed here from the original. Where terms are kept, the best hits among all
    documents must have equal scores in both.

    Args:
        cluster: where both are.
        source: the concrete index that was copied.
        target: the copy.
        spec: of the copy.
        layout: of the original.
        keep_terms: whether the two have one encoder.

    Returns:
        How many scores were compared.

    Raises:
        MigrationFailed: something is not equal.
    """
    drawn = {"function_score": {"query": {"match_all": {}}, "random_score": {"seed": SEED, "field": "_seq_no"}}}
    originals = _hits(cluster, source, {**STORED, "query": drawn, "size": SAMPLE})
    if not originals:
        return 0
    ids = [hit["_id"] for hit in originals]
    among = {"ids": {"values": ids}}
    lines, _ = copy_lines(originals, spec=spec, keep_terms=keep_terms)
    expected = {action["index"]["_id"]: json.loads(source or "") for action, source in lines}
    copies = {hit["_id"]: _stored(hit) for hit in _hits(cluster, target, {**STORED, "query": among, "size": len(ids)})}
    for identifier in ids:
        if copies.get(identifier) != _comparable(expected[identifier]):
            raise MigrationFailed(f"the document {identifier!r} is not the same in {source} and {target}")
    terms = TermFrequencies.from_terms(
        [expected[identifier]["terms"] for identifier in ids], vocabulary_size=spec.encoder.vocabulary_size
    )
    products = multiply_terms(terms)  # (n, n)
    compared = 0
    for row, identifier in enumerate(ids):
        body = search_body(terms[row : row + 1], layout=spec.layout, k=len(ids), filter=among, source=False)
        scores = {hit["_id"]: hit["_score"] for hit in _hits(cluster, target, body)}
        found = [scores.get(other, 0.0) for other in ids]
        if not _equal(found, products[row]):
            raise MigrationFailed(
                f"in {target} the document {identifier!r} scores its sample with {found}; expected "
                f"{products[row].astype(int).tolist()}. Check that the templates and pipelines are those of this "
                "release (deepterms check)"
            )
        compared += len(ids)
    if keep_terms:
        for row in range(min(COMPARED_SEARCHES, len(ids))):
            best = []
            for index, stored_in in ((source, layout), (target, spec.layout)):
                body = search_body(terms[row : row + 1], layout=stored_in, k=COMPARED_HITS, source=False)
                best.append([hit["_score"] for hit in _hits(cluster, index, body)])
            if not _equal(*best):
                raise MigrationFailed(
                    f"the best hits of the document {ids[row]!r} have the scores {best[0]} in {source}, but {best[1]} "
                    f"in {target}"
                )
            compared += len(best[0])
    return compared


def _hits(cluster: Cluster, index: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(cluster.request("POST", f"/{index}/_search", body=body)["hits"]["hits"])


def _stored(hit: Mapping[str, Any]) -> dict[str, Any]:
    vector = hit.get("fields", {}).get("vector", [None])[0]
    return _comparable({**hit["_source"], "vector": vector})


def _comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    vector = document.get("vector")
    return {
        "terms": document.get("terms"),
        "metadata": document.get("metadata"),
        "vector": vector.rstrip("=") if vector else None,
    }


def _equal(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and bool(equal_scores(found, expected).all())
