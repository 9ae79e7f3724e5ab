"""Describe the machine, engine and library versions that a result was measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepterms.cluster.cluster import Cluster

__all__ = ["describe_engine", "describe_machine", "format_environment"]


def describe_machine() -> dict[str, Any]:
    """Describe this machine: processor, cores available to this process, memory in bytes, operating system, Python."""
    return {
        "processor": _read_processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": _read_memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def format_environment(result: Mapping[str, Any]) -> str:
    """Format the machine and software versions of a result as one line.

    Args:
        result: has ``machine`` as returned by `describe_machine`, ``deepterms``, and optionally ``versions`` of
            libraries.
    """
    on = result["machine"]
    memory = f", {on['memory_bytes'] / 2**30:.0f} GiB of memory" if on["memory_bytes"] else ""
    libraries = "".join(f", {name} {number}" for name, number in result.get("versions", {}).items())
    return (
        f"{on['cores']} cores of {on['processor']}{memory}, {on['system']}; "
        f"deepterms {result['deepterms']}, Python {on['python']}{libraries}"
    )


def describe_engine(cluster: Cluster) -> str:
    """Describe the engine, its version and its data nodes, with their heap and Java version if reported."""
    nodes = cluster.request("GET", "/_nodes/data:true/jvm").get("nodes", {})
    jvms = sorted(
        {
            f"heap {node['jvm']['mem']['heap_max_in_bytes'] / 2**30:.1f} GiB, Java {node['jvm']['version']}"
            for node in nodes.values()
            if "jvm" in node
        }
    )
    count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    return ", ".join([str(cluster.engine), *([count] if nodes else []), *jvms])


def _read_processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _read_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
