"""Copy verification: compares a sample of documents, and the scores of searches, between an index and its copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import MigrationFailed
from deepterms.inspection.verification import equal_scores, multiply_terms
from deepterms.migration.copier import STORED, build_copy_lines
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import Layout
from deepterms.schema.stored_documents import get_stored_vector, restate_vector
from deepterms.schema.vectors import VectorType
from deepterms.search.body import search_body
from deepterms.terms import TermFrequencies

__all__ = ["verify_copy"]

SAMPLE = 20  # sampled documents, each scored against all others: 400 scores
SEED = 2018  # of the sample
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
    stored_type: VectorType | None = None,
) -> int:
    """Compare a copy with its original while nobody writes to either.

    Sampled documents must be equal in both. Each of them, as a query, must score every other one in the copy by the dot
    product of their term frequencies, which the client computes from the original. If terms are kept, the best hits
    among all documents must have equal scores in both indices.

    Args:
        cluster: the cluster of both indices.
        source: the concrete index that was copied.
        target: the copy.
        spec: the spec of the copy.
        layout: the layout of the original.
        keep_terms: whether both have the same encoder.
        stored_type: the type in which the original stores vectors. Default: that of the copy.

    Returns:
        How many scores were compared.

    Raises:
        MigrationFailed: a document or a score differs.
    """
    drawn = {"function_score": {"query": {"match_all": {}}, "random_score": {"seed": SEED, "field": "_seq_no"}}}
    originals = _search(cluster, source, {**STORED, "query": drawn, "size": SAMPLE})
    if not originals:
        return 0
    ids = [hit["_id"] for hit in originals]
    among = {"ids": {"values": ids}}
    lines, _ = build_copy_lines(originals, spec=spec, keep_terms=keep_terms, stored_type=stored_type)
    expected = {action["index"]["_id"]: json.loads(source or "") for action, source in lines}
    found = _search(cluster, target, {**STORED, "query": among, "size": len(ids)})
    copies = {hit["_id"]: _select_compared(_read_document(hit, spec)) for hit in found}
    for identifier in ids:
        if copies.get(identifier) != _select_compared(expected[identifier]):
            raise MigrationFailed(f"the document {identifier!r} differs between {source} and {target}")
    terms = TermFrequencies.from_terms(
        [expected[identifier]["terms"] for identifier in ids], vocabulary_size=spec.encoder.vocabulary_size
    )
    products = multiply_terms(terms)  # (n, n)
    compared = 0
    for row, identifier in enumerate(ids):
        body = search_body(terms[row : row + 1], layout=spec.layout, k=len(ids), filter=among, source=False)
        by_id = {hit["_id"]: hit["_score"] for hit in _search(cluster, target, body)}
        scores = [by_id.get(other, 0.0) for other in ids]
        if not _are_equal(scores, products[row]):
            raise MigrationFailed(
                f"in {target}, a search for the document {identifier!r} gives the sample the scores {scores}; expected "
                f"{products[row].astype(int).tolist()}. Check that the templates and pipelines are those of this "
                "release (deepterms check)"
            )
        compared += len(ids)
    if keep_terms:
        for row in range(min(COMPARED_SEARCHES, len(ids))):
            best = []
            for index, stored_in in ((source, layout), (target, spec.layout)):
                body = search_body(terms[row : row + 1], layout=stored_in, k=COMPARED_HITS, source=False)
                best.append([hit["_score"] for hit in _search(cluster, index, body)])
            if not _are_equal(*best):
                raise MigrationFailed(
                    f"the best hits for the document {ids[row]!r} have the scores {best[0]} in {source}, but {best[1]} "
                    f"in {target}"
                )
            compared += len(best[0])
    return compared


def _search(cluster: Cluster, index: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(cluster.request("POST", f"/{index}/_search", body=body)["hits"]["hits"])


def _read_document(hit: Mapping[str, Any], spec: IndexSpec) -> dict[str, Any]:
    stored = get_stored_vector(hit)
    vector = None if stored is None else restate_vector(stored, spec.vector_type or "float32", spec=spec)
    return {**hit["_source"], "vector": vector}


def _select_compared(document: Mapping[str, Any]) -> dict[str, Any]:
    vector = document.get("vector")
    return {
        "terms": document.get("terms"),
        "metadata": _mark_booleans(document.get("metadata")),
        "vector": vector.rstrip("=") if vector else None,
    }


def _mark_booleans(value: Any) -> Any:
    """Replace booleans, which Python finds equal to 0 and 1; 40 and 40.0 are the same number."""
    if isinstance(value, Mapping):
        return {name: _mark_booleans(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mark_booleans(item) for item in value]
    return ("boolean", value) if isinstance(value, bool) else value


def _are_equal(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and bool(equal_scores(found, expected).all())
