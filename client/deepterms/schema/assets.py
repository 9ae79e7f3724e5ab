"""Assets: reads index templates and ingest pipelines from the JSON files in the repository or the wheel."""

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
    """An index template or ingest pipeline.

    Attributes:
        kind: the folder of its file.
        name: its name, and that of its file.
        body: the exact request body.
    """

    kind: Kind
    name: str
    body: dict[str, Any]

    @property
    def endpoint(self) -> str:
        """Its path in the cluster's API."""
        return _ENDPOINTS[self.kind] + self.name

    @property
    def file(self) -> str:
        """Its path, relative to the repository root."""
        return f"{self.kind}/{self.name}.json"


def load_asset(kind: Kind, name: str) -> Asset:
    """Read one asset.

    Raises:
        DeepTermsError: the file is missing, since the installation is damaged.
    """
    return Asset(kind, name, _read(_folder(kind) / f"{name}.json"))


def load_processor(name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Read a script processor for the pipelines of single indices; scripts/ops/restore.sh reads the same files.

    Args:
        name: the file name in ``ingest_pipelines/processors``, without extension.
        parameters: the script's parameters, which depend on the index; the file contains none.

    Returns:
        The processor.

    Raises:
        DeepTermsError: the file is missing, since the installation is damaged.
    """
    processor = _read(_folder("ingest_pipelines") / "processors" / f"{name}.json")
    return {"script": {**processor["script"], "params": dict(parameters)}}


def list_assets(layouts: Iterable[Layout]) -> list[Asset]:
    """List the assets that these layouts need, in deployment order: an asset comes after those it refers to.

    The template of pivot indices is included, since any layout can store documents of an encoder with pivots.
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
    # In a wheel the folders are in the package; in a checkout, an sdist or an editable install in the top folder.
    return next((folder for folder in (package / kind, package.parents[1] / kind) if folder.is_dir()), package / kind)
