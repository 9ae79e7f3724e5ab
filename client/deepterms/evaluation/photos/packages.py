"""Turn the name of a Debian, npm or PyPI package into the bytes of selected files, using the standard clients."""

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

_TIMEOUT = 900  # seconds per client call: 100 MB over a slow connection


@dataclass(frozen=True)
class Package:
    """A package in a registry.

    Attributes:
        name: in the registry.
        source: the registry.
        version: whose files are known; any other version is used if this one is no longer available.
        licence: stated by the package for its content.
    """

    name: str
    source: Literal["apt", "npm", "pypi"]
    version: str
    licence: str


def download(package: Package, folder: Path) -> Path:
    """Download a package with apt-get, npm, pip or uv, without installing it or running any of its code.

    Args:
        package: to download.
        folder: an empty folder for it.

    Returns:
        The archive, or the unpacked folder if the client is uv, which cannot keep the archive.

    Raises:
        PackageUnavailable: this machine has no client, or the client found neither the known version nor any other.
    """
    separator = {"apt": "=", "npm": "@", "pypi": "=="}[package.source]
    wanted = [f"{package.name}{separator}{package.version}", package.name]
    if package.source == "apt":
        _download_deb(wanted, folder)
    elif package.source == "npm":
        npm = _find_client("npm")
        _run_first_working([[npm, "pack", "--loglevel=error", spec] for spec in wanted], folder)
    else:
        _download_wheel(wanted, folder)
    return _find_only_entry(folder, package)


def read_members(archive: Path, members: Collection[str]) -> dict[str, bytes]:
    """Read selected files from a .deb, .tgz, wheel or folder.

    Args:
        archive: as returned by `download`.
        members: paths inside it; `outer.rcc!inner` for a file inside a Qt resource.

    Returns:
        Member → its bytes, for the members that exist.

    Raises:
        PackageUnavailable: the archive is damaged.
    """
    try:
        return _read_members(archive, members)
    except (InvalidInput, tarfile.TarError, zipfile.BadZipFile, subprocess.CalledProcessError) as error:
        raise PackageUnavailable(f"cannot unpack {archive.name}: {error}") from error


def _read_members(archive: Path, members: Collection[str]) -> dict[str, bytes]:
    inner: dict[str, set[str]] = defaultdict(set)
    for member in members:
        outer, _, name = member.partition("!")
        inner[outer].add(name)
    found: dict[str, bytes] = {}
    for outer, content in _iterate_files(archive, inner.keys()):
        names = inner[outer]
        if "" in names:
            found[outer] = content
        if names - {""}:
            resources = read_qt_resources(content)
            found.update({f"{outer}!{name}": resources[name] for name in names if name in resources})
    return found


def _iterate_files(archive: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    # Reads only the requested files and writes nothing, so a hostile path in an archive does no harm.
    if archive.is_dir():
        yield from ((name, (archive / name).read_bytes()) for name in wanted if (archive / name).is_file())
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            present = set(wheel.namelist())
            yield from ((name, wheel.read(name)) for name in wanted if name in present)
    elif archive.suffix == ".deb":
        with tempfile.TemporaryFile() as stream:
            subprocess.run([_find_client("dpkg-deb"), "--fsys-tarfile", archive], stdout=stream, check=True)
            stream.seek(0)
            yield from _iterate_tar(stream, wanted)
    else:
        with archive.open("rb") as stream:
            yield from _iterate_tar(stream, wanted)


def _iterate_tar(stream: IO[bytes], wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            if name in wanted and (content := tar.extractfile(entry)) is not None:
                yield name, content.read()


def _download_deb(wanted: Sequence[str], folder: Path) -> None:
    apt = _find_client("apt-get")
    commands = [[apt, "--quiet", "download", spec] for spec in wanted]
    try:
        _run_first_working(commands, folder)
    except PackageUnavailable:
        # A fresh container has no package lists, and only root can fetch them.
        if os.geteuid() != 0:
            raise
        _fetch_package_lists(apt)
        _run_first_working(commands, folder)


@cache
def _fetch_package_lists(apt: str) -> None:
    _run_first_working([[apt, "--quiet", "update"]], Path.cwd())


def _download_wheel(wanted: Sequence[str], folder: Path) -> None:
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        # pip would have to build a source archive to learn its name, and it holds no additional photographs.
        _run_first_working([[*pip, "--no-deps", "--only-binary", ":all:", spec] for spec in wanted], folder)
        return
    uv = [_find_client("uv", instead_of="pip"), "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    _run_first_working([[*uv, "--only-binary", ":all:", "--target", "unpacked", spec] for spec in wanted], folder)


def _find_client(name: str, *, instead_of: str | None = None) -> str:
    path = shutil.which(name)
    if path is None:
        raise PackageUnavailable(
            f"neither {instead_of} nor {name} is installed" if instead_of else f"{name} is not installed"
        )
    return path


def _run_first_working(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Run commands until one succeeds; if all fail, report the error of the first, which named the known version."""
    errors: list[str] = []
    for command in commands:
        try:
            ran = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            errors.append(f"timed out after {_TIMEOUT} s")
            break
        if ran.returncode == 0:
            return
        output = " ".join((ran.stderr or ran.stdout).split())
        errors.append(output[:300] or f"exit status {ran.returncode}")
    raise PackageUnavailable(f"{Path(commands[0][0]).name}: {errors[0]}")


def _find_only_entry(folder: Path, package: Package) -> Path:
    entries = list(folder.iterdir())
    if len(entries) != 1:
        raise PackageUnavailable(f"downloading {package.name} left {len(entries)} files; expected 1")
    return entries[0]
