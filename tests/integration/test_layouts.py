"""What an engine's layout cannot hold exactly never becomes an index."""

from __future__ import annotations

from typing import Any

import pytest

import deepterms as dt


@pytest.mark.parametrize(
    ("layout", "encoder", "message"),
    [
        ("codewords", dt.DeepPermutation(8, top_k=4), "holds each codeword once"),
        ("rank_features", dt.DeepPermutation(600, top_k=513), "holds term frequencies up to 512 exactly"),
    ],
)
def test_an_encoder_that_a_layout_cannot_hold_makes_no_index(
    cluster: Any, unique_name: str, layout: str, encoder: dt.DeepPermutation, message: str
) -> None:
    dt.deploy(cluster)
    with pytest.raises(dt.errors.InvalidInput, match=message):
        dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, layout=layout)
    with pytest.raises(dt.errors.IndexNotFound):
        dt.SurrogateIndex.open(cluster, unique_name)
