from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

from deepterms.errors import NodeError
from deepterms.node import Node, NodeStatus
from deepterms.node.folders import find_node_owner
from deepterms.node.process import LOW_SPACE
from deepterms.node.state import NodeState

HEAP = "512m"
START = (
    "import pathlib, sys; from deepterms.node import Node; "
    f"status = Node(pathlib.Path(sys.argv[1])).start(heap={HEAP!r}); print(status.pid, status.port)"
)


def call(status: NodeStatus, method: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        f"{status.url}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.load(answer)
    except HTTPError as error:
        with error:
            pytest.fail(f"{method} {path}: {error.code} {error.read().decode()}")


def started_elsewhere(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", START, str(folder)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the node."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield child
    child.kill()
    child.wait(10)


@pytest.fixture(scope="module")
def node(home: Path, shared_folder: Path) -> Iterator[Node]:
    node = Node(shared_folder / "node", cluster_name="photos")
    yield node
    node.stop()


@pytest.fixture
def running(node: Node) -> NodeStatus:
    return node.start(heap=HEAP)


# Tests without a node


def test_before_the_first_start_there_is_no_node(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    assert node.status() == NodeStatus(
        running=False, data_dir=tmp_path / "node", log=tmp_path / "node" / "logs" / "opensearch.log"
    )
    assert node.logs() == []
    assert node.stop() is False
    assert not (tmp_path / "node").exists()


def test_a_state_with_a_reused_pid_is_stale(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    state = tmp_path / "node.json"
    NodeState(pid=bystander.pid, port=9200, version="3.8.0", heap="1g", started=0.0).write(state)
    node = Node(tmp_path)
    assert not node.status().running
    assert node.stop() is False
    assert bystander.poll() is None
    assert not state.exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": 1, "extra": 2}'])
def test_a_damaged_state_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "node.json").write_text(content, encoding="utf-8")
    assert not Node(tmp_path).status().running


@pytest.mark.parametrize("heap", ["lots", "1", "0g", "1g -XX:Evil", ""])
def test_an_invalid_heap_is_rejected(tmp_path: Path, heap: str) -> None:
    with pytest.raises(NodeError, match="expected a size in the JVM's notation"):
        Node(tmp_path).start(heap=heap)


def test_a_taken_port_is_named_and_nothing_is_started(home: Path, shared_folder: Path) -> None:
    node = Node(shared_folder / "taken")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(NodeError, match=f"port {port} is taken by"):
            node.start(port=port)
    assert not (node.data_dir / "startup.log").exists()


@pytest.mark.skipif(find_node_owner() is None, reason="only root's node runs as another user")
def test_a_folder_closed_to_the_nodes_user_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=f"cannot enter or read {tmp_path / 'node'}; set DEEPTERMS_DATA"):
        Node(tmp_path / "node").start()


@pytest.mark.slow
def test_a_failed_start_shows_why_and_leaves_no_state(home: Path, shared_folder: Path) -> None:
    node = Node(shared_folder / "failing")
    with pytest.raises(NodeError, match=r"ended during startup; see .*startup\.log.*\n(.|\n)*(heap|memory)"):
        node.start(heap="900000g")
    assert not node.status().running
    assert not (node.data_dir / "node.json").exists()


@pytest.mark.slow
def test_a_start_that_takes_too_long_is_ended(home: Path, shared_folder: Path) -> None:
    node = Node(shared_folder / "slow")
    with pytest.raises(NodeError, match="did not respond within the timeout"):
        node.start(heap=HEAP, timeout=1)
    assert not node.status().running
    assert not any(f"{node.data_dir}/" in argument for each in psutil.process_iter() for argument in arguments(each))


def arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


# Tests with a node, which run in this order on the same node


@pytest.mark.slow
def test_it_serves_on_this_machine_only(node: Node) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", 9200))
            server.listen()
        except OSError:
            pass  # taken by another program, which is just as good
        status = node.start(heap=HEAP)
    assert status.running
    assert status.health == "green"
    assert status.documents == 0
    assert status.port
    assert 9200 < status.port < 9300
    assert call(status, "GET", "/")["cluster_name"] == "photos"
    assert call(status, "GET", "/")["version"]["number"] == status.version
    listening = {
        (each.laddr.ip.removeprefix("::ffff:"), each.laddr.port)
        for each in psutil.Process(status.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in listening)
    if sys.platform == "linux":  # HTTP is where no web page looks for it
        assert [port for address, port in listening if address == "127.0.0.1" and port < 9300] == []
    assert any("started" in line for line in node.logs())
    assert len(node.logs(2)) == 2


@pytest.mark.slow
@pytest.mark.skipif(find_node_owner() is None, reason="only root's node runs as another user")
def test_the_node_of_root_runs_as_another_user(running: NodeStatus) -> None:
    owner = find_node_owner()
    assert owner
    process = psutil.Process(running.pid)
    assert set(process.uids()) == {owner.uid}
    assert set(process.gids()) == {owner.gid}
    assert (running.data_dir / "data").stat().st_uid == owner.uid
    # Otherwise `nobody` could change which process root ends.
    assert running.data_dir.stat().st_uid == (running.data_dir / "node.json").stat().st_uid == 0


@pytest.mark.slow
def test_the_environment_is_not_inherited(running: NodeStatus) -> None:
    environment = psutil.Process(running.pid).environ()
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert "PYTEST_CURRENT_TEST" not in environment
    assert "PATH" in environment


@pytest.mark.slow
def test_a_second_start_returns_the_running_one(node: Node, running: NodeStatus) -> None:
    began = time.monotonic()
    assert Node(node.data_dir).start().pid == running.pid
    assert time.monotonic() - began < 2
    assert running.port
    assert node.start(port=running.port).pid == running.pid
    with pytest.raises(NodeError, match=f"the node is running on port {running.port}, not {running.port + 1}"):
        node.start(port=running.port + 1)


@pytest.mark.slow
def test_it_has_what_deepterms_needs(running: NodeStatus) -> None:
    settings = call(running, "GET", "/_cluster/settings?include_defaults=true&flat_settings=true")["defaults"]
    assert settings["cluster.routing.allocation.disk.threshold_enabled"] == "true"
    assert settings["indices.query.bool.max_clause_count"] == "4096"
    plugins = call(running, "GET", "/_nodes/_local/plugins")["nodes"].popitem()[1]["modules"]
    assert {"lang-painless", "analysis-common", "ingest-common", "mapper-extras", "reindex"} <= {
        plugin["name"] for plugin in plugins
    }
    index = {
        "settings": {
            "index.number_of_replicas": 0,
            "index.similarity.terms": {
                "type": "scripted",
                "weight_script": {"source": "return query.boost;"},
                "script": {"source": "return weight * doc.freq;"},
            },
            "analysis": {
                "analyzer": {"codewords": {"type": "custom", "tokenizer": "whitespace", "filter": ["frequencies"]}},
                "filter": {"frequencies": {"type": "delimited_term_freq"}},
            },
        },
        "mappings": {
            "properties": {
                "terms": {"type": "text", "analyzer": "codewords", "similarity": "terms", "index_options": "freqs"},
                "features": {"type": "rank_features"},
            }
        },
    }
    call(running, "PUT", "/pictures", index)
    call(running, "PUT", "/pictures/_doc/1?refresh=true", {"terms": "t1|7 t2|3", "features": {"t1": 7}})
    query = {"query": {"term": {"terms": {"value": "t1", "boost": 2}}}}
    assert call(running, "POST", "/pictures/_search", query)["hits"]["hits"][0]["_score"] == 14


def respond(status: NodeStatus, method: str, path: str, **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", status.port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.mark.slow
def test_web_pages_are_refused(running: NodeStatus) -> None:
    """What a page may send without asking: a request without a body, or with a plain text, to any address and name."""
    call(running, "PUT", "/kept/_doc/1?refresh=true", {"a": 1})
    delete = "/kept/_delete_by_query?q=*&refresh=true"
    here = f"127.0.0.1:{running.port}"
    for origin in (
        "http://evil.example",
        "null",
        "https://127.0.0.1.evil.example",
        f"http://evil.example:{running.port}",
    ):
        assert respond(running, "POST", delete, Origin=origin) == 403, origin
    for name in ("evil.example", f"evil.example:{running.port}", "127.0.0.1.evil.example", "localhost.", ""):
        assert respond(running, "GET", "/kept/_count", Host=name) == 421, name
        assert respond(running, "POST", delete, Host=name, Origin=f"http://{name}") == 421, name
    assert call(running, "GET", "/kept/_count")["count"] == 1
    for name in (here, f"localhost:{running.port}", "LOCALHOST", "[::1]:9200"):
        assert respond(running, "GET", "/kept/_count", Host=name) == 200, name
    assert respond(running, "POST", "/kept/_refresh", Origin=f"http://{here}") == 200
    call(running, "DELETE", "/kept")


@pytest.mark.slow
def test_a_door_that_was_killed_is_opened_again(node: Node, running: NodeStatus) -> None:
    state = NodeState.read(node.data_dir / "node.json")
    assert state is not None
    owner = find_node_owner()
    if owner:
        assert set(psutil.Process(state.door).uids()) == {owner.uid}
    psutil.Process(state.door).kill()
    deadline = time.monotonic() + 30
    while node.status().health and time.monotonic() < deadline:
        time.sleep(0.05)
    assert node.status().health is None
    again = node.start()
    assert (again.pid, again.port, again.health) == (running.pid, running.port, running.health)


@pytest.mark.slow
def test_a_red_index_is_reported_and_the_node_stays(node: Node, running: NodeStatus) -> None:
    settings = {"index.routing.allocation.include._name": "nowhere", "index.number_of_replicas": 0}
    call(running, "PUT", "/lost?wait_for_active_shards=0&timeout=1s", {"settings": settings})
    try:
        with pytest.raises(NodeError, match="its health is red"):
            node.start(timeout=1)
        assert node.status().pid == running.pid
        assert node.status().health == "red"
    finally:
        call(running, "DELETE", "/lost")


@pytest.mark.slow
def test_documents_survive_a_crash_and_stop_ends_only_it(
    node: Node, running: NodeStatus, bystander: subprocess.Popen[bytes]
) -> None:
    assert running.pid
    assert node.status().documents == 1
    psutil.Process(running.pid).kill()
    deadline = time.monotonic() + 30
    while node.status().running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not node.status().running
    assert (node.data_dir / "node.json").exists()  # left by the crashed node; the next start ignores it

    again = node.start(port=0, heap=HEAP)
    assert again.pid != running.pid
    assert again.documents == 1

    assert node.stop() is True
    assert not psutil.pid_exists(again.pid)
    assert not node.status().running
    assert not (node.data_dir / "node.json").exists()
    assert node.stop() is False
    assert bystander.poll() is None


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_start_is_taken_over_from_a_killed_process(node: Node) -> None:
    assert not node.status().running
    starter = started_elsewhere(node.data_dir)
    deadline = time.monotonic() + 60
    while not node.status().running and time.monotonic() < deadline:
        time.sleep(0.05)
    starter.send_signal(signal.SIGKILL)
    starter.communicate(timeout=10)
    orphan = node.status()
    assert orphan.running
    assert orphan.health is None

    status = node.start()

    assert status.pid == orphan.pid
    assert status.documents == 1  # it also survived the stop
    assert node.stop() is True


@pytest.fixture
def small_disk(shared_folder: Path) -> Iterator[Path]:
    """A file system of 160 MB."""
    folder = shared_folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or find_node_owner() is None, reason="only root mounts a file system")
def test_a_full_disk_stops_writes_only_and_only_while_it_is_full(home: Path, small_disk: Path) -> None:
    watermark = "cluster.routing.allocation.disk.watermark"
    assert LOW_SPACE == ("700mb", "600mb", "500mb")  # of a disk of any size; here less, on a small one
    settings = {f"{watermark}.low": "80mb", f"{watermark}.high": "70mb", f"{watermark}.flood_stage": "60mb"}
    node = Node(small_disk / "node", settings=settings)
    try:
        status = node.start(port=0, heap=HEAP)
        call(status, "PUT", "/photos/_doc/1?refresh=true", {"a": 1})
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - (40 << 20))
        wait_for(lambda: respond_to_write(status) == 429)
        assert call(status, "POST", "/photos/_search", {})["hits"]["total"]["value"] >= 1
        assert node.status().health == "yellow"
        filler.unlink()
        wait_for(lambda: respond_to_write(status) == 200)
        assert node.status().pid == status.pid
    finally:
        node.stop()


def respond_to_write(status: NodeStatus) -> int:
    request = urllib.request.Request(f"{status.url}/photos/_doc/1", json.dumps({"a": 2}).encode(), method="PUT")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


@pytest.mark.slow
def test_simultaneous_starts_give_one_node_per_folder(home: Path, shared_folder: Path) -> None:
    one, other = shared_folder / "one", shared_folder / "other"
    children = [started_elsewhere(folder) for folder in (one, one, other)]
    try:
        first, second, third = (child.communicate(timeout=180)[0].split() for child in children)
        assert first == second
        assert first[0] != third[0]
        assert first[1] != third[1]
        # The processes that started them have ended; the nodes run on.
        assert Node(one).status().health == Node(other).status().health == "green"
    finally:
        assert [Node(folder).stop() for folder in (one, other)] == [True, True]
