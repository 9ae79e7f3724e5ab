"""Machine: what a time was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepterms.cluster.cluster import Cluster

__all__ = ["describe_engine", "machine", "measured_on"]


def machine() -> dict[str, Any]:
    """This machine: processor, cores that this process may use, memory in bytes, operating system, Python."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": _memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def measured_on(result: Mapping[str, Any]) -> str:
    """What a result was measured on and with, in a line.

    Args:
        result: with ``machine`` as above, ``deepterms``, and ``versions`` of libraries if they matter.
    """
    on = result["machine"]
    memory = f", {on['memory_bytes'] / 2**30:.0f} GiB of memory" if on["memory_bytes"] else ""
    libraries = "".join(f", {name} {number}" for name, number in result.get("versions", {}).items())
    return (
        f"{on['cores']} cores of {on['processor']}{memory}, {on['system']}; "
        f"deepterms {result['deepterms']}, Python {on['python']}{libraries}"
    )


def describe_engine(cluster: Cluster) -> str:
    """The engine and its version; its data nodes, with their heap and Java, as far as it tells."""
    nodes = cluster.request("GET", "/_nodes/data:true/jvm").get("nodes", {})
    told = sorted(
        {
            f"heap {node['jvm']['mem']['heap_max_in_bytes'] / 2**30:.1f} GiB, Java {node['jvm']['version']}"
            for node in nodes.values()
            if "jvm" in node
        }
    )
    count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    return ", ".join([str(cluster.engine), *([count] if nodes else []), *told])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
