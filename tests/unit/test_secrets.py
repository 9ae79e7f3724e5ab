"""Passwords and keys are in no message, no repr and no log line, whatever goes wrong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms.cli.connection import Connection, connect
from deepterms.cluster.backpressure import Backpressure
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterUnreachable, DeepTermsError, InvalidInput, RequestRejected
from deepterms.schema.index_spec import IndexSpec, IndexState
from deepterms.schema.layouts import LAYOUTS
from tests.unit.fake_server import Answer, Asked, serving

SECRET = "tr0ub4dor"
NOBODY = f"http://operator:{SECRET}@127.0.0.1:9"
ENCODER = dt.DeepPermutation(4, top_k=2)
STATE = IndexState("holidays", IndexSpec(ENCODER, LAYOUTS[0]), {"i-1": "u1"})


@pytest.mark.parametrize(
    "address",
    [
        f"operator:{SECRET}@host:9200",
        f"ftp://operator:{SECRET}@host",
        f"https://operator:{SECRET}@host:port",
        "//:@",
        "",
    ],
)
def test_an_address_that_is_none_is_shown_without_its_password(address: str) -> None:
    with pytest.raises(InvalidInput, match="is not the address of a cluster") as refusal:
        connect(address)
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None  # pydantic's error quotes the address


def test_reprs_of_what_holds_a_connection() -> None:
    connection = Connection.model_validate({"url": NOBODY, "user": "operator", "password": SECRET, "api_key": SECRET})
    assert SECRET not in f"{connection!r} {connection}"
    for client in (connection.opensearch(), connection.elasticsearch()):
        cluster = Cluster(client)
        index = dt.SurrogateIndex(cluster, STATE)
        assert SECRET not in f"{cluster!r} {index!r}"
        client.close()


@pytest.mark.parametrize("library", [OpenSearch, Elasticsearch])
def test_errors_and_logs_of_requests(library: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="deepterms")
    headers = {"x-elastic-product": "Elasticsearch"}

    def refuse(asked: Asked) -> Answer:
        assert asked.headers["authorization"].startswith("Basic ")
        return Answer({"error": {"type": "security_exception", "reason": "missing authentication"}}, 401, headers)

    messages = []
    with serving(refuse) as url:
        for address in (url.replace("//", f"//operator:{SECRET}@"), NOBODY):
            with library(address, max_retries=0) as client:
                for act in (
                    lambda client: dt.SurrogateIndex.create(client, "holidays", encoder=ENCODER),
                    lambda client: dt.SurrogateIndex.open(client, "holidays"),
                    dt.deploy,
                ):
                    with pytest.raises((RequestRejected, ClusterUnreachable)) as refusal:
                        act(client)
                    messages.append(str(refusal.value))
                unhurried = Cluster(client, backpressure=Backpressure(sleep=lambda seconds: None))
                index = dt.SurrogateIndex(unhurried, STATE)
                try:
                    messages += [failure.reason for failure in index.add(["a"], np.ones((1, 4))).failed]
                except DeepTermsError as error:
                    messages.append(str(error))
    assert len(messages) == 8
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("deepterms"))
    for text in (*messages, logged):
        assert SECRET not in text


@pytest.mark.slow
def test_command_line() -> None:
    for arguments in (
        ["check", "--url", NOBODY],
        ["search", "x", "--id", "y", "--url", f"operator:{SECRET}@host:9200"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "deepterms", *arguments],
            env={**os.environ, "DEEPTERMS_API_KEY": SECRET},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert SECRET not in done.stdout + done.stderr
