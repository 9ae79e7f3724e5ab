"""A command line to a process of its own, which outlives this one, is known by its arguments, and can be ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from deepterms.errors import MissingExtra, NodeError
from deepterms.node.folders import Owner

__all__ = ["end_child", "find_child", "spawn_child"]

_POLL = 0.05  # seconds
_KILL_PATIENCE = 10.0

# All that OpenSearch needs of this process's environment: tokens stay here, and JAVA_TOOL_OPTIONS is not for it.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


def spawn_child(command: Sequence[str], *, folder: Path, output: Path, owner: Owner | None) -> int:
    """Starts a process that neither the end of this one nor Ctrl-C in its terminal reaches.

    Args:
        command: the program and its arguments.
        folder: its working folder.
        output: the file that gets all it prints; overwritten.
        owner: the user to run it as; None for this one.

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
    # It is meant to outlive the Popen object, which would warn that it still runs.
    child.returncode = 0
    return child.pid


def find_child(pid: int, mark: str) -> Any:
    """The living process of that id that has `mark` among its arguments, as a psutil.Process, or None.

    Process ids are used again. The arguments tell; the time of creation would too, but shifts with the system's clock.
    """
    psutil = _import_psutil()
    try:
        process = psutil.Process(pid)
        return process if not _has_ended(process) and mark in process.cmdline() else None
    except psutil.Error:
        return None


def end_child(pid: int, mark: str, *, patience: float) -> bool:
    """Ends the process by SIGTERM, and by SIGKILL once `patience` seconds are over.

    Returns:
        Whether there was such a process.

    Raises:
        NodeError: it is another user's, or does not end.
    """
    psutil = _import_psutil()
    found = False
    for signal, seconds in (("terminate", patience), ("kill", _KILL_PATIENCE)):
        deadline = time.monotonic() + seconds
        process = find_child(pid, mark)
        if process is None:
            return found
        found = True
        try:
            getattr(process, signal)()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied as error:
            raise NodeError(f"the node (pid {pid}) is another user's; stop it as that user") from error
        while time.monotonic() < deadline:
            if _has_ended(process):
                return True
            time.sleep(_POLL)
    raise NodeError(f"the node (pid {pid}) does not end, not even when killed")


def _has_ended(process: Any) -> bool:
    """Whether a process is gone, or a zombie that holds nothing any more: its files and port are free.

    Not psutil's own wait: in a container whose first process collects no children, a zombie stays for ever.
    """
    psutil = _import_psutil()
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return bool(not process.is_running())
        try:
            collected, _ = os.waitpid(process.pid, os.WNOHANG)
            return collected != 0
        except ChildProcessError:  # another process's, to be collected there
            # The first thread can be a zombie while others still hold the files.
            return bool(process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def _import_psutil() -> ModuleType:
    try:
        import psutil
    except ImportError as error:
        raise MissingExtra("psutil", "node") from error
    module: ModuleType = psutil
    return module
