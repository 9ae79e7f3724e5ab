"""Tests of least privileges, passwords, API keys and TLS: Elasticsearch with security, and OpenSearch behind nginx."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import ConnectionError as NoConnection
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch
from testcontainers.core.container import DockerContainer

import deepterms as dt
from deepterms import deployment, migration
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, ClusterUnreachable, RequestRejected
from deepterms.migration import parse_layout
from deepterms.storage import encoder_loading
from deepterms.storage.pivot_cache import PivotCache
from tests.clusters import images
from tests.clusters.email_tokenizer import provide_email_tokenizer

pytestmark = [pytest.mark.cluster, pytest.mark.own_cluster]

TOP = Path(__file__).parents[2]
PASSWORD = "correct-horse-battery"
# As bin/elasticsearch-users writes it.
PASSWORD_HASH = "$2a$10$YtV4zqfIQSX3EMI/mja6eeYEJJOmJUaQAWIJ6abuNrc2lGrhyRQxa"
SETTINGS = {
    "discovery.type": "single-node",
    "node.store.allow_mmap": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    "xpack.security.enabled": "true",
    "xpack.security.http.ssl.enabled": "true",
    "xpack.security.http.ssl.certificate": "tls/server.pem",
    "xpack.security.http.ssl.key": "tls/server.key",
    "ES_JAVA_OPTS": "-Xms768m -Xmx768m",
}
START_SECONDS = 180

# The roles from the documentation for operators.
ROLES: dict[str, dict[str, Any]] = {
    name: json.loads(body)
    for name, body in re.findall(r"```json (\S+)\n(.*?)```", (TOP / "docs" / "operate.md").read_text(), re.DOTALL)
}


@dataclass(frozen=True)
class Secured:
    """A cluster with TLS that requires a password."""

    url: str
    ca: Path

    def client(self, **options: Any) -> Elasticsearch:
        return Elasticsearch(self.url, ca_certs=str(self.ca), request_timeout=60, **options)

    def run(
        self, command: Sequence[str], credentials: Mapping[str, str], *, ca: bool = True
    ) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DEEPTERMS_")}
        own = {"DEEPTERMS_URL": self.url, "COLUMNS": "200", **({"DEEPTERMS_CA_CERTS": str(self.ca)} if ca else {})}
        return subprocess.run(
            command, env={**clean, **own, **credentials}, capture_output=True, text=True, timeout=60, check=False
        )


DEEPTERMS = (sys.executable, "-m", "deepterms")
CHECK = str(TOP / "scripts" / "ops" / "check_deployment.sh")
DEPLOY = str(TOP / "scripts" / "ops" / "deploy.sh")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority, ca.pem, and its certificate for localhost: server.pem, server.key."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout"
    for command in (
        f"req -x509 {key} ca.key -out ca.pem -days 2 -subj /CN=test-authority -addext keyUsage=critical,keyCertSign",
        f"req {key} server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile extensions",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    folder.chmod(0o755)
    (folder / "server.key").chmod(0o644)
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    images.provide(images.ELASTICSEARCH)
    config = "/usr/share/elasticsearch/config"
    (certificates / "users").write_text(f"operator:{PASSWORD_HASH}\n")
    (certificates / "users_roles").write_text("superuser:operator\n")
    container = DockerContainer(images.ELASTICSEARCH).with_exposed_ports(9200)
    container.with_kwargs(labels={images.CONTAINER_LABEL: "true"})
    container.with_volume_mapping(str(certificates), f"{config}/tls", "ro")
    tokenizer = provide_email_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    if tokenizer is not None:
        container.with_volume_mapping(str(tokenizer), "/usr/share/elasticsearch/modules/analysis-email", "ro")
    for name in ("users", "users_roles"):
        container.with_volume_mapping(str(certificates / name), f"{config}/{name}", "ro")
    for name, value in SETTINGS.items():
        container.with_env(name, value)
    with container:
        cluster = Secured(f"https://localhost:{container.get_exposed_port(9200)}", certificates / "ca.pem")
        with cluster.client(basic_auth=("operator", PASSWORD)) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    client.options(max_retries=0).cluster.health(wait_for_status="yellow", timeout="10s")
                    break
                except NoConnection:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1)
            for name, body in ROLES.items():
                client.perform_request("PUT", f"/_security/role/{name}", headers=_JSON, body=body)
                user = {"password": PASSWORD, "roles": [name]}
                client.perform_request("PUT", f"/_security/user/{name}", headers=_JSON, body=user)
        yield cluster


_JSON = {"accept": "application/json", "content-type": "application/json"}


def _by_password(secured: Secured, role: str) -> Elasticsearch:
    return secured.client(basic_auth=(role, PASSWORD))


def _by_api_key(secured: Secured, role: str) -> Elasticsearch:
    return secured.client(api_key=api_key(secured, role))


def api_key(secured: Secured, role: str) -> str:
    with secured.client(basic_auth=("operator", PASSWORD)) as client:
        body = {"name": role, "expiration": "1h", "role_descriptors": {role: ROLES[role]}}
        return str(client.perform_request("POST", "/_security/api_key", headers=_JSON, body=body).body["encoded"])


@pytest.fixture(params=[_by_password, _by_api_key], ids=["password", "api-key"])
def connected(request: pytest.FixtureRequest, secured: Secured) -> Iterator[Callable[[str], Elasticsearch]]:
    """Create a client with the privileges of a role, and no others."""
    clients: list[Elasticsearch] = []

    def connect(role: str) -> Elasticsearch:
        clients.append(request.param(secured, role))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def index(secured: Secured) -> Iterator[dt.SurrogateIndex]:
    """`holidays`, with ten documents, opened as the operator; and `others`, which no role covers."""
    with secured.client(basic_auth=("operator", PASSWORD)) as client:
        dt.deploy(client)
        made = []
        for name in ("holidays", "others"):
            made.append(dt.SurrogateIndex.create(client, name, encoder=dt.DeepPermutation(16, top_k=6), replicas=0))
            made[-1].add([str(number) for number in range(10)], FEATURES[:10])
            made[-1].refresh()
        yield made[0]
        for each in made:
            each.drop()


FEATURES = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)

# The Elasticsearch that is built from packages lacks `GET /`; its replacement there requires no privilege.
ASKED_ON_REAL_NODES_ONLY = "cluster:monitor/main"

SOME_SETTING = {"persistent": {"cluster.routing.rebalance.enable": "all"}}
PIVOT_INDEX = "deepterms-pivots-v1-0123abcd-words-v1-{}-000001"
Act = Callable[[Elasticsearch], Any]
ACTS: dict[str, Act] = {
    "deploy": lambda client: dt.deploy(client, replace=True),
    "put a template": lambda client: _send(client, "PUT", "/_index_template/x", {"index_patterns": ["x-*"]}),
    "put a pipeline": lambda client: _send(client, "PUT", "/_ingest/pipeline/x", {"processors": []}),
    "delete a template": lambda client: _send(client, "DELETE", "/_index_template/deepterms-words-v1"),
    "delete a pipeline": lambda client: _send(client, "DELETE", "/_ingest/pipeline/deepterms-words-v1"),
    "create the index": lambda client: _send(client, "PUT", "/deepterms-words-v1-holidays-000002"),
    "drop the index": lambda client: _send(client, "DELETE", "/deepterms-words-v1-holidays-000001"),
    "add": lambda client: _send(client, "PUT", "/holidays/_doc/x", {"terms": {"t1": 1}}),
    "delete": lambda client: _send(client, "DELETE", "/holidays/_doc/1"),
    "search": lambda client: _send(client, "POST", "/holidays/_search"),
    "open": lambda client: dt.SurrogateIndex.open(client, "holidays"),
    "search others": lambda client: _send(client, "POST", "/others/_search"),
    "open others": lambda client: dt.SurrogateIndex.open(client, "others"),
    "add to others": lambda client: _send(client, "PUT", "/others/_doc/x", {"terms": {"t1": 1}}),
    "read the pivots": lambda client: _send(client, "GET", f"/{PIVOT_INDEX.format('holidays')}/_doc/0"),
    "change the pivots": lambda client: _send(client, "PUT", f"/{PIVOT_INDEX.format('holidays')}/_doc/0", {}),
    "read others' pivots": lambda client: _send(client, "GET", f"/{PIVOT_INDEX.format('others')}/_doc/0"),
    "create others": lambda client: _send(client, "PUT", "/deepterms-words-v1-others-000002"),
    "drop others": lambda client: _send(client, "DELETE", "/deepterms-words-v1-others-000001"),
    "change settings": lambda client: _send(client, "PUT", "/_cluster/settings", SOME_SETTING),
    "read users": lambda client: _send(client, "GET", "/_security/user"),
}
ALLOWED = {
    "deepterms-deploy": {"deploy", "put a template", "put a pipeline"},
    "deepterms-create": {
        *("put a pipeline", "delete a pipeline", "create the index", "drop the index", "open"),
        *("read the pivots", "change the pivots"),
    },
    "deepterms-write": {"add", "delete", "search", "open", "read the pivots", "change the pivots"},
    "deepterms-read": {"search", "open", "read the pivots"},
    "deepterms-migrate": {
        *("put a pipeline", "delete a pipeline", "create the index", "drop the index"),
        *("add", "delete", "search", "open", "read the pivots", "change the pivots"),
    },
}


def _send(client: Elasticsearch, method: str, path: str, body: Any = None) -> Any:
    return Cluster(client).request(method, path, body=body)


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_permits_nothing_else(
    secured: Secured, connected: Callable[[str], Elasticsearch], index: dt.SurrogateIndex, role: str
) -> None:
    client = connected(role)
    for name in [name for name in ACTS if name not in ALLOWED[role]]:
        with pytest.raises(RequestRejected) as raised:
            ACTS[name](client)
            pytest.fail(f"{role} may {name}")
        assert raised.value.status == 403, name
        assert "is unauthorized for" in str(raised.value), name
    # No request had an effect.
    index.refresh()
    assert index.count() == 10
    assert deployment.check(index.cluster.client) == ()


def test_a_role_suffices_for_its_purpose(
    secured: Secured, connected: Callable[[str], Elasticsearch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer = connected("deepterms-deploy")
    with secured.client(basic_auth=("operator", PASSWORD)) as client:
        dt.deploy(client)
        template = deployment.plan(client).changes[-1].asset
        _send(client, "DELETE", template.endpoint)
    report = dt.deploy(deployer)
    assert report.created == (template.file,)
    assert dt.deploy(deployer, replace=True).created == ()
    assert deployment.check(deployer) == ()

    creator = connected("deepterms-create")
    encoder = dt.PivotPermutation(dt.Pivots(FEATURES), top_k=4, query_top_k=8)  # which needs a pivot index
    made = dt.SurrogateIndex.create(creator, "holidays", encoder=encoder, layout="codewords", replicas=0)
    try:
        writer = dt.SurrogateIndex.open(connected("deepterms-write"), "holidays")
        ids = [str(number) for number in range(20)]
        metadata = [{"year": 2018, "path": f"{name}.jpg"} for name in ids]
        assert writer.add(ids, FEATURES, metadata).failed == ()
        assert writer.delete(["19"]).failed == ()
        writer.refresh()
        assert writer.count() == 19
        assert writer.search(FEATURES[3], k=1).hits[0].id == "3"

        monkeypatch.setattr(encoder_loading, "_IN_USE", {})
        monkeypatch.setattr(PivotCache, "_held", {})
        monkeypatch.setenv("DEEPTERMS_CACHE", str(tmp_path))
        reader = dt.SurrogateIndex.open(connected("deepterms-read"), "holidays")
        assert reader.encoder == encoder
        assert reader.encoder is not encoder
        assert reader.count() == 19
        assert [hit.id for hit in reader.search(FEATURES[4], k=2, rerank=0)][:1] == ["4"]
        assert [hit.id for hit in reader.search_by_id("5", k=3)] == [hit.id for hit in writer.search_by_id("5", k=3)]
        rejected = reader.add(["x"], FEATURES[:1])
        assert len(rejected.failed) == 1
        assert "unauthorized" in rejected.failed[0].reason
    finally:
        made.drop()
    with secured.client(basic_auth=("operator", PASSWORD)) as client:
        assert _send(client, "GET", "/deepterms-*-holidays-*/_mapping") == {}


def test_migration_with_its_role(
    secured: Secured, connected: Callable[[str], Elasticsearch], index: dt.SurrogateIndex
) -> None:
    migrator = connected("deepterms-migrate")
    old = index.layout.index_name("holidays")
    report = migration.migrate(migrator, "holidays", to=parse_layout("rank_features"))
    assert (report.old, report.documents, report.copied) == (old, 10, 10)
    assert report.scores > 0
    assert migration.roll_back(migrator, "holidays").new == old
    assert migration.drop_old(migrator, "holidays") == (report.new,)
    assert index.add(["10"], FEATURES[10:11]).failed == ()


def test_migration_without_one_of_its_privileges(secured: Secured, index: dt.SurrogateIndex) -> None:
    """The reason is one line, and the name still points to the old index, which accepts writes."""
    role, operator = ROLES["deepterms-migrate"], index.cluster.client
    (indices,) = role["indices"]
    asked = [one for one in role["cluster"] if one != ASKED_ON_REAL_NODES_ONLY]
    less = {one: {**role, "cluster": [other for other in role["cluster"] if other != one]} for one in asked}
    for one in indices["privileges"]:
        others = [other for other in indices["privileges"] if other != one]
        less[one] = {**role, "indices": [{**indices, "privileges": others}]}
    for name in indices["names"]:
        less[name] = {**role, "indices": [{**indices, "names": [other for other in indices["names"] if other != name]}]}
    for number, (missing, descriptor) in enumerate(less.items()):
        body = {"name": "less", "expiration": "1h", "role_descriptors": {"less": descriptor}}
        key = _send(operator, "POST", "/_security/api_key", body)["encoded"]
        with secured.client(api_key=key) as client, pytest.raises(ClusterError) as raised:
            migration.migrate(client, "holidays", to=parse_layout("rank_features"), drop=True)
            pytest.fail(f"not needed: {missing}")
        if missing in indices["names"]:  # Elasticsearch hides indices that the user cannot read
            assert re.search(r" is unauthorized for API key |permitted to read$|^no index ", str(raised.value)), missing
        else:
            assert isinstance(raised.value, RequestRejected), missing
            assert raised.value.status == 403, missing
            assert re.fullmatch(r".* action \[\S+\] is unauthorized for API key .*", str(raised.value)), missing
        if missing != "cluster:admin/ingest/pipeline/delete":  # which is needed last, after the name has moved
            assert dt.SurrogateIndex.open(operator, "holidays").layout == index.layout, missing
        assert dt.SurrogateIndex.open(operator, "holidays").add(["x"], FEATURES[number : number + 1]).failed == ()
        migration.migrate(operator, "holidays", to=index.layout, drop=True)
    command = [*DEEPTERMS, "migrate", "holidays", "--to", "rank_features"]
    user = {"DEEPTERMS_USER": "deepterms-create", "DEEPTERMS_PASSWORD": PASSWORD}
    done = secured.run(command, user)
    assert done.returncode == 1
    assert "HTTP 403" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_line_and_scripts_with_tls_and_credentials(secured: Secured) -> None:
    """They work with the authority and either kind of credentials; otherwise, they print one line and fail."""
    with secured.client(basic_auth=("operator", PASSWORD)) as client:
        dt.deploy(client)
    user = {"DEEPTERMS_USER": "deepterms-deploy", "DEEPTERMS_PASSWORD": PASSWORD}
    wrong = {**user, "DEEPTERMS_PASSWORD": "wrong"}
    for credentials in (user, {"DEEPTERMS_API_KEY": api_key(secured, "deepterms-deploy")}):
        for command in ([*DEEPTERMS, "check"], [*DEEPTERMS, "deploy"], [CHECK], [DEPLOY]):
            done = secured.run(command, credentials)
            assert done.returncode == 0, done.stdout + done.stderr
    for command in ([*DEEPTERMS, "check"], [CHECK]):
        done = secured.run(command, user, ca=False)
        assert done.returncode == 1
        assert "certificate" in done.stderr
        done = secured.run(command, wrong)
        assert done.returncode == 1
        assert "HTTP 401" in done.stderr
        assert "Traceback" not in done.stderr
    wait = str(TOP / "scripts" / "ops" / "wait_for_cluster.sh")
    done = secured.run([wait, "--timeout", "60"], {})
    assert done.returncode == 1
    assert "the cluster rejects the credentials: HTTP 401" in done.stderr


@pytest.fixture(params=["password", "api-key", "address"])
def credentials(request: pytest.FixtureRequest, secured: Secured) -> Callable[[str], Mapping[str, str]]:
    """Return the environment variables for a role, extended by the privilege to read the cluster's version."""

    def of(role: str) -> Mapping[str, str]:
        with secured.client(basic_auth=("operator", PASSWORD)) as client:
            if request.param == "api-key":
                own = {**ROLES[role], "cluster": ["cluster:monitor/main"]}
                body: dict[str, Any] = {"name": role, "expiration": "1h", "role_descriptors": {role: own}}
                return {"DEEPTERMS_API_KEY": _send(client, "POST", "/_security/api_key", body)["encoded"]}
            _send(client, "PUT", "/_security/role/ask", {"cluster": ["cluster:monitor/main"]})
            user = f"{role}-by-command"
            _send(client, "PUT", f"/_security/user/{user}", {"password": PASSWORD, "roles": [role, "ask"]})
        if request.param == "address":
            return {"DEEPTERMS_URL": secured.url.replace("//", f"//{user}:{PASSWORD}@")}
        return {"DEEPTERMS_USER": user, "DEEPTERMS_PASSWORD": PASSWORD}

    return of


def test_command_line_with_a_role(
    secured: Secured, index: dt.SurrogateIndex, credentials: Callable[[str], Mapping[str, str]], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", FEATURES)
    (tmp_path / "ids").write_text("".join(f"{number}\n" for number in range(20)))
    add = [*DEEPTERMS, "index", "holidays", str(tmp_path / "x.npy"), "--ids", str(tmp_path / "ids")]
    search = [*DEEPTERMS, "search", "holidays", "--id", "3", "--json"]
    outputs = []

    def run(command: Sequence[str], role: str) -> subprocess.CompletedProcess[str]:
        done = secured.run(command, credentials(role))
        outputs.append(done.stdout + done.stderr)
        return done

    rejected = run(add, "deepterms-read")
    assert rejected.returncode == 1
    assert "unauthorized" in rejected.stderr
    index.refresh()
    assert index.count() == 10

    added = run(add, "deepterms-write")
    assert added.returncode == 0, added.stderr
    assert index.count() == 20

    for role in ("deepterms-write", "deepterms-read"):
        found = run(search, role)
        assert found.returncode == 0, found.stderr
        ids = [json.loads(line)["id"] for line in found.stdout.splitlines()]
        assert ids == index.search_by_id("3").ids
        elsewhere = run([*DEEPTERMS, "search", "others", "--id", "3"], role)
        assert elsewhere.returncode == 1
        assert "HTTP 403" in elsewhere.stderr
    wrong = secured.run(search, {"DEEPTERMS_URL": secured.url.replace("//", f"//operator:not-{PASSWORD}@")})
    assert wrong.returncode == 1
    assert "HTTP 401" in wrong.stderr
    for text in (*outputs, wrong.stdout + wrong.stderr):
        assert "Traceback" not in text
        assert PASSWORD not in text


@pytest.fixture
def proxied(opensearch: OpenSearch, certificates: Path, tmp_path: Path) -> Iterator[Secured]:
    """OpenSearch behind a real nginx with TLS and a password, since no package contains its security plugin."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    (host,) = opensearch.transport.hosts
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "passwords").write_text(f"operator:{{PLAIN}}{PASSWORD}\n")
    temporary = "\n".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(
        f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off; pid {tmp_path}/pid; error_log stderr;
events {{}}
http {{
  access_log off; client_max_body_size 100m; client_body_temp_path {tmp_path}/body;
  {temporary}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
    location / {{
      auth_basic search; auth_basic_user_file {tmp_path}/passwords;
      proxy_pass http://{host["host"]}:{host["port"]}; proxy_set_header Authorization "";
    }}
  }}
}}
"""
    )
    with subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield Secured(f"https://localhost:{port}", certificates / "ca.pem")
        finally:
            process.terminate()


def test_opensearch_behind_tls_and_a_password(proxied: Secured, unique_name: str, opensearch: OpenSearch) -> None:
    options: dict[str, Any] = {"ca_certs": str(proxied.ca), "timeout": 60, "max_retries": 0}
    with OpenSearch(proxied.url, http_auth=("operator", PASSWORD), **options) as client:
        dt.deploy(client)
        index = dt.SurrogateIndex.create(client, unique_name, encoder=dt.DeepPermutation(16, top_k=6), replicas=0)
        assert index.add([str(number) for number in range(20)], FEATURES).succeeded == 20
        index.refresh()
        assert index.search(FEATURES[7], k=1).hits[0].id == "7"
    with OpenSearch(proxied.url, http_auth=("operator", "wrong"), **options) as client:
        with pytest.raises(RequestRejected) as raised:
            dt.deploy(client)
        assert raised.value.status == 401
    options.pop("ca_certs")
    with (
        OpenSearch(proxied.url, http_auth=("operator", PASSWORD), **options) as client,
        pytest.raises(ClusterUnreachable, match="certificate"),
    ):
        dt.deploy(client)
    user = {"DEEPTERMS_USER": "operator", "DEEPTERMS_PASSWORD": PASSWORD}
    wrong = {**user, "DEEPTERMS_PASSWORD": "wrong"}
    for command in ([*DEEPTERMS, "check"], [CHECK]):
        assert proxied.run(command, user).returncode == 0
        assert proxied.run(command, wrong).returncode == 1
        assert "certificate" in proxied.run(command, user, ca=False).stderr
