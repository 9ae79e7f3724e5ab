"""The current user into the folders of the node and the user that the node runs as."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deepterms.cache import cache_folder
from deepterms.errors import NodeError
from deepterms.optional import require

__all__ = ["Owner", "cache_dir", "data_dir", "find_node_owner", "make_folder", "make_readable"]

# Root's own cache lies in a folder that no other user can enter, and OpenSearch does not run as root.
_ROOT_CACHE = Path("/var/cache/deepterms")
_ROOT_DATA = Path("/var/lib/deepterms")
_NOBODY = 65534


@dataclass(frozen=True)
class Owner:
    """A user other than the one that this process runs as."""

    uid: int
    gid: int
    name: str

    def can_reach(self, path: Path) -> bool:
        """Whether this user can reach and read `path` (or enter it, if a folder, or run it, if a program).

        Only mode bits are checked: access through a group or an ACL does not count.
        """
        path = path.resolve()
        status = path.stat()
        # Shared libraries are only read, so require execution only of what its owner can execute.
        wanted = 0o4 | (status.st_mode >> 6 & 0o1)
        return self._grants(path, wanted) and all(self._grants(parent, 0o1) for parent in path.parents)

    def require_access(self, path: Path, *, variable: str) -> None:
        """Check that this user can reach `path`.

        Args:
            path: a folder or file.
            variable: the environment variable that moves it, for the error message.

        Raises:
            NodeError: this user cannot reach it.
        """
        if not self.can_reach(path):
            raise NodeError(
                f"OpenSearch does not run as root but as {self.name}, who cannot enter or read {path}; "
                f"set {variable} to a folder that every user can reach, such as one below /var/lib or /tmp"
            )

    def _grants(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        mode = status.st_mode >> 6 if status.st_uid == self.uid else status.st_mode
        return mode & wanted == wanted


def find_node_owner() -> Owner | None:
    """Find the user to run the node as: `nobody` if this process runs as root, otherwise None for the current user."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(_NOBODY, _NOBODY, f"uid {_NOBODY}")
    return Owner(nobody.pw_uid, nobody.pw_gid, nobody.pw_name)


def cache_dir() -> Path:
    """Return the folder of jars and assembled distributions: `DEEPTERMS_CACHE`, or the user's cache folder."""
    return _ROOT_CACHE if find_node_owner() and not os.environ.get("DEEPTERMS_CACHE") else cache_folder()


def data_dir() -> Path:
    """Return the folder of the node's indices, logs and state: `DEEPTERMS_DATA`, or the user's data folder."""
    if chosen := os.environ.get("DEEPTERMS_DATA"):
        return Path(chosen).absolute()
    if find_node_owner():
        return _ROOT_DATA / "node"
    with require("platformdirs", "node"):
        import platformdirs
    return Path(platformdirs.user_data_dir("deepterms", appauthor=False)) / "node"


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents; for root they stay open to the node's user even under a strict umask."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    if find_node_owner():
        for folder in missing:
            folder.chmod(0o755)


def make_readable(folder: Path) -> None:
    """Let every user read the files of a folder and run its programs, whatever the umask was."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
