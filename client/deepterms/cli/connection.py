"""From an address and credentials to a client of the right library."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from importlib import import_module
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, ValidationError

from deepterms.errors import ClusterUnreachable, InvalidInput, MissingExtra

__all__ = ["UrlOption", "connect"]

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="DEEPTERMS_URL",
        help="The cluster. Default: the node that `deepterms node start` runs. "
        "Also read: DEEPTERMS_USER and DEEPTERMS_PASSWORD, or DEEPTERMS_API_KEY; DEEPTERMS_CA_CERTS.",
        show_default=False,
    ),
]


class Connection(BaseModel):
    """How to reach a cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl = Field(repr=False)  # it may hold a password
    user: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    ca_certs: str | None = None

    def opensearch(self) -> Any:
        """An opensearchpy client."""
        options: dict[str, Any] = {}
        if self.user and self.password:
            options["http_auth"] = (self.user, self.password.get_secret_value())
        elif self.api_key:
            options["headers"] = {"Authorization": f"ApiKey {self.api_key.get_secret_value()}"}
        if self.ca_certs:
            options["ca_certs"] = self.ca_certs
        return _library("opensearchpy", "opensearch").OpenSearch(str(self.url), timeout=60, **options)

    def elasticsearch(self) -> Any:
        """An elasticsearch client."""
        options: dict[str, Any] = {}
        if self.user and self.password:
            options["basic_auth"] = (self.user, self.password.get_secret_value())
        elif self.api_key:
            options["api_key"] = self.api_key.get_secret_value()
        if self.ca_certs:
            options["ca_certs"] = self.ca_certs
        return _library("elasticsearch", "elasticsearch").Elasticsearch(str(self.url), request_timeout=60, **options)


def connect(url: str | None) -> Any:
    """A client for the cluster at `url`, or for the node of this machine.

    Raises:
        InvalidInput: not an address.
        ClusterUnreachable: nobody answers there, or no node runs.
        MissingExtra: the client library for what answers is not installed.
    """
    if url is None:
        from deepterms.node import Node

        url = Node().status().url
        if url is None:
            raise ClusterUnreachable("no cluster given and no node runs: pass --url, or run `deepterms node start`")
    # Empty variables count as absent.
    variables = {name: os.environ.get(f"DEEPTERMS_{name.upper()}") or None for name in Connection.model_fields}
    try:
        connection = Connection.model_validate(variables | {"url": url})
    except ValidationError:  # which quotes the address, password and all
        shown = re.sub(r"(?<=//).*@|^[^/]*@", "***@", url)
        raise InvalidInput(f"{shown!r} is not the address of a cluster, such as http://localhost:9200") from None
    try:
        client = connection.opensearch()
    except MissingExtra:
        return connection.elasticsearch()
    # opensearch-py speaks to either engine; elasticsearch-py refuses whatever is not its own.
    from deepterms.cluster.cluster import Cluster

    with ExitStack() as otherwise:
        otherwise.callback(client.close)
        if Cluster(client).engine.name == "opensearch":
            otherwise.pop_all()
            return client
    return connection.elasticsearch()


def _library(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtra(package, extra) from error
