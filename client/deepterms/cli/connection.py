"""Turns an address and credentials into a client of the right library."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, ValidationError

from deepterms.errors import ClusterUnreachable, IndexNotFound, InvalidInput, MissingExtra
from deepterms.optional import require

if TYPE_CHECKING:
    from deepterms.index import SurrogateIndex

__all__ = ["UrlOption", "connect", "open_index"]

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="DEEPTERMS_URL",
        help="Address of the cluster. Default: the node started by `deepterms node start`. Credentials come from "
        "DEEPTERMS_USER and DEEPTERMS_PASSWORD, or DEEPTERMS_API_KEY; certificates from DEEPTERMS_CA_CERTS.",
        show_default=False,
    ),
]


class Connection(BaseModel):
    """Address and credentials of a cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl = Field(repr=False)  # it may hold a password
    user: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    ca_certs: str | None = None

    def opensearch(self) -> Any:
        """Create an opensearchpy client."""
        options: dict[str, Any] = {}
        if self.user and self.password:
            options["http_auth"] = (self.user, self.password.get_secret_value())
        elif self.api_key:
            options["headers"] = {"Authorization": f"ApiKey {self.api_key.get_secret_value()}"}
        if self.ca_certs:
            options["ca_certs"] = self.ca_certs
        return _import("opensearchpy", "opensearch").OpenSearch(str(self.url), timeout=60, **options)

    def elasticsearch(self) -> Any:
        """Create an elasticsearch client."""
        options: dict[str, Any] = {}
        if self.user and self.password:
            options["basic_auth"] = (self.user, self.password.get_secret_value())
        elif self.api_key:
            options["api_key"] = self.api_key.get_secret_value()
        if self.ca_certs:
            options["ca_certs"] = self.ca_certs
        return _import("elasticsearch", "elasticsearch").Elasticsearch(str(self.url), request_timeout=60, **options)


def connect(url: str | None) -> Any:
    """Create a client for the cluster at `url`, or for the local node if that is None.

    Raises:
        InvalidInput: `url` is not an address.
        ClusterUnreachable: the cluster did not respond, or no local node is running.
        MissingExtra: the client library of the engine is not installed.
    """
    if url is None:
        from deepterms.node import Node

        url = Node().status().url
        if url is None:
            raise ClusterUnreachable(
                "no cluster given and no local node running; pass --url, or run `deepterms node start`"
            )
    # Empty variables count as absent.
    variables = {name: os.environ.get(f"DEEPTERMS_{name.upper()}") or None for name in Connection.model_fields}
    try:
        connection = Connection.model_validate(variables | {"url": url})
    except ValidationError:  # its text quotes the address, including a password
        shown = re.sub(r"(?<=//).*@|^[^/]*@", "***@", url)
        raise InvalidInput(f"{shown!r} is not the address of a cluster, such as http://localhost:9200") from None
    try:
        client = connection.opensearch()
    except MissingExtra:
        return connection.elasticsearch()
    # opensearch-py can talk to both engines; elasticsearch-py rejects any engine but its own.
    from deepterms.cluster.cluster import Cluster

    with ExitStack() as cleanup:
        cleanup.callback(client.close)
        if Cluster(client).engine.name == "opensearch":
            cleanup.pop_all()
            return client
    return connection.elasticsearch()


def open_index(url: str | None, name: str) -> SurrogateIndex:
    """Open an index of the cluster at `url`.

    Raises:
        IndexNotFound: there is no such index; the message names the command that creates it.
        InvalidInput, ClusterUnreachable, MissingExtra: as in `connect`.
    """
    from deepterms.index import SurrogateIndex

    client = connect(url)
    try:
        return SurrogateIndex.open(client, name)
    except IndexNotFound as error:
        raise IndexNotFound(f"no index {name!r} in the cluster; create it with `deepterms index`") from error


def _import(package: str, extra: str) -> Any:
    with require(package, extra):
        return import_module(package)
