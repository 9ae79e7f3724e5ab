"""A command line into a detached process that outlives this one and can be found and ended later."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from deepterms.errors import NodeError
from deepterms.node.folders import Owner
from deepterms.optional import require

__all__ = ["end_child", "find_child", "spawn_child"]

_POLL = 0.05  # seconds
_KILL_TIMEOUT = 10.0  # seconds

# The only variables that OpenSearch needs: it gets no tokens, and no JAVA_TOOL_OPTIONS meant for other programs.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


def spawn_child(command: Sequence[str], *, folder: Path, output: Path, owner: Owner | None) -> int:
    """Start a process that survives the end of this one and Ctrl-C in its terminal.

    Args:
        command: the program and its arguments.
        folder: its working folder.
        output: the file for its standard output and error; overwritten.
        owner: the user to run it as; None for the current user.

    Returns:
        Its process id.
    """
    options: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        flags = "CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW"
        options = {"creationflags": sum(getattr(subprocess, flag) for flag in flags)}
    elif owner:
        options.update(user=owner.uid, group=owner.gid, extra_groups=[])
    with output.open("wb") as file:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            **options,
        )
    # The process outlives the Popen object, which would otherwise warn that it is still running.
    child.returncode = 0
    return child.pid


def find_child(pid: int, marker: str) -> Any:
    """Find the running process with this id and with `marker` among its arguments: a psutil.Process or None.

    Process ids are reused, so the arguments identify the process. Its creation time would change with the system clock.
    """
    psutil = _import_psutil()
    try:
        process = psutil.Process(pid)
        return process if not _has_ended(process) and marker in process.cmdline() else None
    except psutil.Error:
        return None


def end_child(pid: int, marker: str, *, timeout: float) -> bool:
    """End a process with SIGTERM, and after `timeout` seconds with SIGKILL.

    Returns:
        Whether such a process was running.

    Raises:
        NodeError: the process belongs to another user, or does not end.
    """
    psutil = _import_psutil()
    found = False
    for signal, seconds in (("terminate", timeout), ("kill", _KILL_TIMEOUT)):
        deadline = time.monotonic() + seconds
        process = find_child(pid, marker)
        if process is None:
            return found
        found = True
        try:
            getattr(process, signal)()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied as error:
            raise NodeError(f"the node (pid {pid}) belongs to another user; stop it as that user") from error
        while time.monotonic() < deadline:
            if _has_ended(process):
                return True
            time.sleep(_POLL)
    raise NodeError(f"the node (pid {pid}) is still running, even after SIGKILL")


def _has_ended(process: Any) -> bool:
    """Whether a process is gone, or a zombie that has released its files and port.

    psutil's own wait would block: in a container whose first process reaps no children, a zombie stays forever.
    """
    psutil = _import_psutil()
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return bool(not process.is_running())
        try:
            collected, _ = os.waitpid(process.pid, os.WNOHANG)
            return collected != 0
        except ChildProcessError:  # the child of another process, which must reap it
            # The first thread can be a zombie while others still have the files open.
            return bool(process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def _import_psutil() -> ModuleType:
    with require("psutil", "node"):
        import psutil
    module: ModuleType = psutil
    return module
