"""A client that cannot be used is rejected in one sentence, by everything that takes a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import elasticsearch
import pytest

import deepterms as dt
from deepterms.deployment import check
from deepterms.doctor import examine
from deepterms.errors import InvalidInput
from deepterms.migration import migrate, roll_back

ENCODER = dt.DeepPermutation(4, top_k=2)
CALLS: dict[str, Callable[[Any], object]] = {
    "create": lambda client: dt.SurrogateIndex.create(client, "photos", encoder=ENCODER),
    "open": lambda client: dt.SurrogateIndex.open(client, "photos"),
    "deploy": dt.deploy,
    "check": check,
    "migrate": lambda client: migrate(client, "photos", encoder=ENCODER),
    "roll_back": lambda client: roll_back(client, "photos"),
    "examine": lambda client: examine(client, "photos"),
}


def make_client(name: str) -> Any:
    """Make an asynchronous client without connecting; the constructors need aiohttp, which is not a dependency."""
    if name == "AsyncElasticsearch":
        return elasticsearch.AsyncElasticsearch.__new__(elasticsearch.AsyncElasticsearch)
    # opensearchpy defines its class only where aiohttp is installed.
    return type(name, (), {"__module__": "opensearchpy._async.client"})()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("name", "instead"),
    [("AsyncElasticsearch", "elasticsearch.Elasticsearch"), ("AsyncOpenSearch", "opensearchpy.OpenSearch")],
)
@pytest.mark.parametrize("derived", [False, True])
def test_an_asynchronous_client_is_rejected_with_the_one_to_use(
    call: str, name: str, instead: str, derived: bool
) -> None:
    client = make_client(name)
    if derived:
        kind: Any = type("Ours", (type(client),), {})
        client = kind.__new__(kind)
    with pytest.raises(InvalidInput, match=f"got an {name} client, .* the synchronous one; pass an {instead}, "):
        CALLS[call](client)


@pytest.mark.parametrize("client", [None, "http://localhost:9200", object()])
def test_what_is_no_client_is_rejected(client: Any) -> None:
    with pytest.raises(InvalidInput, match=r"expected an opensearchpy\.OpenSearch or an elasticsearch\.Elasticsearch"):
        dt.SurrogateIndex.open(client, "photos")
