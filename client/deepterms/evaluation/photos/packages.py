"""The name of a Debian, npm or PyPI package into the bytes of some of its files, through the ordinary clients."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

from deepterms.errors import InvalidInput, PackageUnavailable
from deepterms.evaluation.photos.qt_resources import read_qt_resources

__all__ = ["Package", "download", "read_members"]

_TIMEOUT = 900  # seconds for one call of a client: 100 MB over a slow line


@dataclass(frozen=True)
class Package:
    """A package of a registry, and the licence that it states for its content.

    Attributes:
        version: the version whose files are known; another one is taken where this one is not served any more.
    """

    name: str
    source: Literal["apt", "npm", "pypi"]
    version: str
    licence: str


def download(package: Package, folder: Path) -> Path:
    """Downloads a package with apt-get, npm, pip or uv; nothing is installed and none of its code runs.

    Args:
        package: what to download.
        folder: an empty folder for it.

    Returns:
        The archive, or the unpacked folder where uv is the client, which has no way to keep the archive.

    Raises:
        PackageUnavailable: no client on this machine, or it refused both the known version and any other.
    """
    separator = {"apt": "=", "npm": "@", "pypi": "=="}[package.source]
    wanted = [f"{package.name}{separator}{package.version}", package.name]
    if package.source == "apt":
        _download_deb(wanted, folder)
    elif package.source == "npm":
        npm = _client("npm")
        _first_success([[npm, "pack", "--loglevel=error", spec] for spec in wanted], folder)
    else:
        _download_wheel(wanted, folder)
    return _only_entry(folder, package)


def read_members(archive: Path, members: Collection[str]) -> dict[str, bytes]:
    """Reads some files of a .deb, .tgz or wheel, or of a folder.

    Args:
        archive: what `download` returned.
        members: paths inside it; `outer.rcc!inner` for a file inside a Qt resource.

    Returns:
        The bytes of those members that are there.

    Raises:
        PackageUnavailable: the archive is damaged.
    """
    try:
        return _read_members(archive, members)
    except (InvalidInput, tarfile.TarError, zipfile.BadZipFile, subprocess.CalledProcessError) as error:
        raise PackageUnavailable(f"{archive.name} cannot be unpacked: {error}") from error


def _read_members(archive: Path, members: Collection[str]) -> dict[str, bytes]:
    inner: dict[str, set[str]] = defaultdict(set)
    for member in members:
        outer, _, name = member.partition("!")
        inner[outer].add(name)
    found: dict[str, bytes] = {}
    for outer, content in _files(archive, inner.keys()):
        names = inner[outer]
        if "" in names:
            found[outer] = content
        if names - {""}:
            resources = read_qt_resources(content)
            found.update({f"{outer}!{name}": resources[name] for name in names if name in resources})
    return found


def _files(archive: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    # Only the files asked for are read, and none is written: a hostile path in an archive leads nowhere.
    if archive.is_dir():
        yield from ((name, (archive / name).read_bytes()) for name in wanted if (archive / name).is_file())
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            present = set(wheel.namelist())
            yield from ((name, wheel.read(name)) for name in wanted if name in present)
    elif archive.suffix == ".deb":
        with tempfile.TemporaryFile() as stream:
            subprocess.run([_client("dpkg-deb"), "--fsys-tarfile", archive], stdout=stream, check=True)
            stream.seek(0)
            yield from _tar_files(stream, wanted)
    else:
        with archive.open("rb") as stream:
            yield from _tar_files(stream, wanted)


def _tar_files(stream: IO[bytes], wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            if name in wanted and (content := tar.extractfile(entry)) is not None:
                yield name, content.read()


def _download_deb(wanted: Sequence[str], folder: Path) -> None:
    apt = _client("apt-get")
    commands = [[apt, "--quiet", "download", spec] for spec in wanted]
    try:
        _first_success(commands, folder)
    except PackageUnavailable:
        # A fresh container has no package lists; only root may fetch them.
        if os.geteuid() != 0:
            raise
        _fetch_package_lists(apt)
        _first_success(commands, folder)


@cache
def _fetch_package_lists(apt: str) -> None:
    _first_success([[apt, "--quiet", "update"]], Path.cwd())


def _download_wheel(wanted: Sequence[str], folder: Path) -> None:
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        # A source archive would have to be built to learn its name, and carries no more photographs.
        _first_success([[*pip, "--no-deps", "--only-binary", ":all:", spec] for spec in wanted], folder)
        return
    uv = [_client("uv", instead_of="pip"), "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    _first_success([[*uv, "--only-binary", ":all:", "--target", "unpacked", spec] for spec in wanted], folder)


def _client(name: str, *, instead_of: str | None = None) -> str:
    path = shutil.which(name)
    if path is None:
        raise PackageUnavailable(f"neither {instead_of} nor {name} is here" if instead_of else f"{name} is not here")
    return path


def _first_success(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Runs the commands in turn until one succeeds; the error is the first one's, which asked for the known version."""
    refusals: list[str] = []
    for command in commands:
        try:
            ran = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            refusals.append(f"no end after {_TIMEOUT} s")
            break
        if ran.returncode == 0:
            return
        said = " ".join((ran.stderr or ran.stdout).split())
        refusals.append(said[:300] or f"exit status {ran.returncode}")
    raise PackageUnavailable(f"{Path(commands[0][0]).name}: {refusals[0]}")


def _only_entry(folder: Path, package: Package) -> Path:
    entries = list(folder.iterdir())
    if len(entries) != 1:
        raise PackageUnavailable(f"downloading {package.name} left {len(entries)} files, not one")
    return entries[0]
