"""Tests that no index is created if its layout cannot store the encoder's terms exactly."""

from __future__ import annotations

from typing import Any

import pytest

import deepterms as dt


@pytest.mark.parametrize(
    ("layout", "encoder", "message"),
    [
        ("codewords", dt.DeepPermutation(8, top_k=4), "stores each codeword once"),
        ("rank_features", dt.DeepPermutation(600, top_k=513), "stores term frequencies up to 512 exactly"),
    ],
)
def test_an_encoder_beyond_a_layouts_limits_is_rejected(
    cluster: Any, unique_name: str, layout: str, encoder: dt.DeepPermutation, message: str
) -> None:
    dt.deploy(cluster)
    with pytest.raises(dt.errors.InvalidInput, match=message):
        dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, layout=layout)
    with pytest.raises(dt.errors.IndexNotFound):
        dt.SurrogateIndex.open(cluster, unique_name)
