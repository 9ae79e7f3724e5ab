"""Tests of the pipelines with real bulk requests that bypass the Python client's checks."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected
from deepterms.schema.layouts import LAYOUTS

VECTOR = base64.b64encode(np.ones(4, dtype="<f4").tobytes()).decode()

GOOD: dict[str, dict[str, Any]] = {
    "plain": {"terms": {"t1": 1, "t2": 1}},
    "with a vector": {"terms": {"t1": 1}, "vector": VECTOR, "metadata": {"n": 1}},
    "other names": {"terms": {"pivot_7-b": 1}},
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no terms": ({"metadata": {}}, "[encode-vector] fields [terms] and [vector] are missing; expected terms"),
    "null terms": ({"terms": None}, "[encode-vector] fields [terms] and [vector] are missing"),
    "text for terms": ({"terms": "t1 t1"}, "[check-terms] field [terms] is [t1 t1]; expected an object"),
    "no codewords": ({"terms": {}}, "has 0 codewords; expected 1 to 5000"),
    "too many": ({"terms": {f"t{n}": 1 for n in range(5_001)}}, "has 5001 codewords"),
    "zero": ({"terms": {"t1": 0}}, "has [0] for the codeword [t1]; expected"),
    "negative": ({"terms": {"t1": -5}}, "has [-5] for the codeword [t1]"),
    "fraction": ({"terms": {"t1": 1.5}}, "has [1.5] for the codeword [t1]"),
    "huge": ({"terms": {"t1": 2**40}}, f"has [{2**40}] for the codeword [t1]"),
    "text frequency": ({"terms": {"t1": "3"}}, "has [3] for the codeword [t1]"),
    "null frequency": ({"terms": {"t1": None}}, "has [null] for the codeword [t1]"),
    "space in a name": ({"terms": {"t1 t2": 1}}, "has the codeword [t1 t2]; expected 1 to 32 letters"),
    "delimiter in a name": ({"terms": {"t1|9": 1}}, "has the codeword [t1|9]"),
    "empty name": ({"terms": {"": 1}}, "has the codeword []"),
    "long name": ({"terms": {"t" * 33: 1}}, "expected 1 to 32 letters"),
    "vector of numbers": ({"terms": {"t1": 1}, "vector": [1, 2]}, "[check-vector] field [vector] is not text"),
    "vector cut short": ({"terms": {"t1": 1}, "vector": VECTOR[:-1]}, "[check-vector] field [vector] is ["),
    "vector left behind": ({"terms": {"t1": 1}, "vector_bytes": 16}, "[check-vector] field [vector] is missing, but"),
    "unknown field": ({"terms": {"t1": 1}, "colour": "red"}, "colour"),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_bad_document_fails_alone_with_a_reason(cluster: Any, unique_name: str, layout: Any) -> None:
    own = Cluster(cluster)
    if not layout.runs_on(own.engine):
        return
    dt.deploy(cluster)
    encoder = dt.DeepPermutation(4, top_k=2, binary=True)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, layout=layout.name, replicas=0)
    documents = {**GOOD, **{name: document for name, (document, _) in BAD.items()}}
    outcomes = dict(
        own.bulk(
            [({"index": {"_id": name}}, json.dumps(document)) for name, document in documents.items()],
            index=unique_name,
        ).outcomes
    )
    assert {name for name, why in outcomes.items() if not why} == set(GOOD)
    for name, (_, sentence) in BAD.items():
        assert sentence in outcomes[name], (name, outcomes[name])
    index.refresh()
    assert index.count() == len(GOOD)


def test_text_beyond_the_loop_limit_is_rejected(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(4, top_k=2), layout="words", replicas=0)
    largest = {f"t{n}": 57_142 for n in range(7)}  # 399,994 words
    ((_, fine), (_, rejected)) = (
        Cluster(cluster)
        .bulk(
            [
                ({"index": {"_id": "fine"}}, json.dumps({"terms": largest})),
                ({"index": {"_id": "long"}}, json.dumps({"terms": {**largest, "t7": 7}})),
            ],
            index=unique_name,
        )
        .outcomes
    )
    assert fine == ""
    assert "stands for a text of 400001 words; expected at most 400000" in rejected


def test_a_plain_reindex_cannot_lose_vectors_silently(cluster: Any, unique_name: str) -> None:
    """The engine copies _source, which does not contain the vector; each copied document is rejected."""
    dt.deploy(cluster)
    encoder = dt.DeepPermutation(8, top_k=4)
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    ids = [str(n) for n in range(5)]
    for store_vectors, copied in ((True, 0), (False, 5)):
        source = dt.SurrogateIndex.create(
            cluster, f"{unique_name}-{copied}", encoder=encoder, store_vectors=store_vectors, replicas=0
        )
        source.add(ids, rows)
        source.refresh()
        target = dt.SurrogateIndex.create(
            cluster, f"{unique_name}-{copied}-copy", encoder=encoder, store_vectors=store_vectors, replicas=0
        )
        body = {"source": {"index": source.name}, "dest": {"index": target.name}, "conflicts": "proceed"}
        own = Cluster(cluster)
        if store_vectors:
            with pytest.raises(RequestRejected, match="send it along"):
                own.request("POST", "/_reindex", body=body, params={"refresh": True})
        else:
            own.request("POST", "/_reindex", body=body, params={"refresh": True})
            found, expected = (one.search(rows[0], k=5).hits for one in (target, source))
            assert {hit.id: hit.score for hit in found} == {hit.id: hit.score for hit in expected}
        assert target.count() == copied
