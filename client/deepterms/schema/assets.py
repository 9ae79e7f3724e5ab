"""The index templates and ingest pipelines as data: the JSON files at the top of the repository, or in the wheel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deepterms.errors import DeepTermsError
from deepterms.schema.layouts import Layout

__all__ = ["PIVOTS_TEMPLATE", "Asset", "list_assets", "load_asset", "load_processor"]

Kind = Literal["ingest_pipelines", "index_templates"]

PIVOTS_TEMPLATE = "deepterms-pivots-v1"

_ENDPOINTS: dict[Kind, str] = {"ingest_pipelines": "/_ingest/pipeline/", "index_templates": "/_index_template/"}


@dataclass(frozen=True, eq=False)
class Asset:
    """One resource of a cluster.

    Attributes:
        kind: the folder it lies in.
        name: of the resource, and of its file.
        body: the exact request body.
    """

    kind: Kind
    name: str
    body: dict[str, Any]

    @property
    def endpoint(self) -> str:
        """The path at which the cluster holds it."""
        return _ENDPOINTS[self.kind] + self.name

    @property
    def file(self) -> str:
        """Its path from the top of the repository."""
        return f"{self.kind}/{self.name}.json"


def load_asset(kind: Kind, name: str) -> Asset:
    """Read one asset.

    Raises:
        DeepTermsError: the file is in neither place: the installation is damaged.
    """
    return Asset(kind, name, _read(_folder(kind) / f"{name}.json"))


def load_processor(name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Read a script for the pipelines of single indices, which scripts/ops/restore.sh reads too.

    Args:
        name: of the file in ``ingest_pipelines/processors``.
        parameters: what the script is told about the index; the file has none.

    Returns:
        The processor.

    Raises:
        DeepTermsError: as for an asset.
    """
    processor = _read(_folder("ingest_pipelines") / "processors" / f"{name}.json")
    return {"script": {**processor["script"], "params": dict(parameters)}}


def list_assets(layouts: Iterable[Layout]) -> list[Asset]:
    """What these layouts need, in the order of deployment: what others name comes before them.

    The template of pivots is among them: each layout can hold documents of an encoder that has some.
    """
    chosen = list(layouts)
    return [
        *(load_asset("ingest_pipelines", layout.resource) for layout in chosen),
        *(load_asset("ingest_pipelines", layout.encode_pipeline) for layout in chosen),
        *(load_asset("index_templates", layout.resource) for layout in chosen),
        load_asset("index_templates", PIVOTS_TEMPLATE),
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DeepTermsError(f"{path} is missing; reinstall deepterms") from error
    return body


def _folder(kind: Kind) -> Path:
    package = Path(__file__).parents[1]
    # In a wheel the folders lie inside the package; in a checkout, an sdist and an editable install at the top.
    return next((folder for folder in (package / kind, package.parents[1] / kind) if folder.is_dir()), package / kind)
