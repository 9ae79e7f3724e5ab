from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepterms.errors import NodeError
from deepterms.node import cache_dir, data_dir
from deepterms.node.folders import Owner, find_node_owner, make_folder

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
root = pytest.mark.skipif(find_node_owner() is None, reason="only root's node runs as another user")


@pytest.mark.parametrize(("variable", "folder"), [("DEEPTERMS_CACHE", cache_dir), ("DEEPTERMS_DATA", data_dir)])
def test_environment_variables_set_the_folders(
    variable: str, folder: type[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "here")
    assert folder() == tmp_path / "here"
    monkeypatch.delenv(variable)
    assert "deepterms" in folder().parts
    assert folder().is_absolute()


@root
def test_the_node_of_root_can_enter_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPTERMS_CACHE", raising=False)
    monkeypatch.delenv("DEEPTERMS_DATA", raising=False)
    assert cache_dir() == Path("/var/cache/deepterms")
    assert data_dir() == Path("/var/lib/deepterms/node")


@posix
def test_another_user_needs_access_to_every_parent(shared_folder: Path) -> None:
    other = Owner(uid=os.getuid() + 1, gid=os.getgid() + 1, name="other")
    program = shared_folder / "bin" / "java"
    program.parent.mkdir()
    program.touch()
    for folder_mode, program_mode, reachable in [
        (0o755, 0o755, True),
        (0o711, 0o755, True),
        (0o750, 0o755, False),
        (0o755, 0o744, False),  # readable, but not executable
        (0o755, 0o750, False),
        (0o755, 0o644, True),  # not a program
    ]:
        program.parent.chmod(folder_mode)
        program.chmod(program_mode)
        assert other.can_reach(program) is reachable, (oct(folder_mode), oct(program_mode))
    program.parent.chmod(0o700)
    assert Owner(uid=os.getuid(), gid=os.getgid(), name="self").can_reach(program)


@posix
def test_an_unreachable_folder_is_named_with_the_remedy(shared_folder: Path) -> None:
    closed = shared_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(NodeError, match=f"as other, who cannot enter or read {closed}; set DEEPTERMS_DATA"):
        Owner(uid=os.getuid() + 1, gid=0, name="other").require_access(closed, variable="DEEPTERMS_DATA")


@root
def test_roots_new_folders_are_open_under_a_strict_umask(shared_folder: Path) -> None:
    before = os.umask(0o077)
    try:
        make_folder(shared_folder / "a" / "b")
    finally:
        os.umask(before)
    owner = find_node_owner()
    assert owner
    assert owner.can_reach(shared_folder / "a" / "b")
