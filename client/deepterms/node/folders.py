"""Where the distribution and the data of the node live, and the user that the node runs as."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from deepterms.cache import cache_folder
from deepterms.errors import MissingExtra, NodeError

__all__ = ["Owner", "cache_dir", "data_dir", "make_folder", "make_readable", "find_node_owner"]

# Root's own cache is below a folder that nobody else may enter, and OpenSearch refuses to run as root.
_ROOT_CACHE = Path("/var/cache/deepterms")
_ROOT_DATA = Path("/var/lib/deepterms")
_NOBODY = 65534


@dataclass(frozen=True)
class Owner:
    """A user other than this process's."""

    uid: int
    gid: int
    name: str

    def can_reach(self, path: Path) -> bool:
        """Whether this user may read `path` (enter it, for a folder; run it, for a program) through all its parents.

        Looks at mode bits locked: access that only a group or an ACL gives counts as none.
        """
        path = path.resolve()
        status = path.stat()
        # A shared library is read, not run: only what is executable for its owner must be so for this user.
        wanted = 0o4 | (status.st_mode >> 6 & 0o1)
        return self._grants(path, wanted) and all(self._grants(parent, 0o1) for parent in path.parents)

    def require(self, path: Path, *, variable: str) -> None:
        """Raises NodeError, naming the environment variable that moves it, where this user cannot reach `path`."""
        if not self.can_reach(path):
            raise NodeError(
                f"OpenSearch does not run as root but as {self.name}, who may not enter or read {path}; "
                f"set {variable} to a folder below one that everybody may enter, such as /var/lib or /tmp"
            )

    def _grants(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        mode = status.st_mode >> 6 if status.st_uid == self.uid else status.st_mode
        return mode & wanted == wanted


def find_node_owner() -> Owner | None:
    """The user to run the node as: `nobody` where this process is root's, else None, for the same user."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(_NOBODY, _NOBODY, f"uid {_NOBODY}")
    return Owner(nobody.pw_uid, nobody.pw_gid, nobody.pw_name)


def cache_dir() -> Path:
    """Folder of jars and assembled distributions: `DEEPTERMS_CACHE`, or this user's cache folder."""
    return _ROOT_CACHE if find_node_owner() and not os.environ.get("DEEPTERMS_CACHE") else cache_folder()


def data_dir() -> Path:
    """Folder of the node's indices, logs and state: `DEEPTERMS_DATA`, or this user's data folder."""
    if chosen := os.environ.get("DEEPTERMS_DATA"):
        return Path(chosen).absolute()
    return (_ROOT_DATA if find_node_owner() else Path(_import_platformdirs().user_data_dir("deepterms", appauthor=False))) / "node"


def make_folder(path: Path) -> None:
    """Makes a folder and its missing parents; root's are open to the node's user even under a strict umask."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    if find_node_owner():
        for folder in missing:
            folder.chmod(0o755)


def make_readable(folder: Path) -> None:
    """Lets every user read what is in a folder, and run its programs, whatever umask it was made under."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _import_platformdirs() -> ModuleType:
    try:
        import platformdirs
    except ImportError as error:
        raise MissingExtra("platformdirs", "node") from error
    return platformdirs
