"""What the commands of the pages need: a folder of photographs, and a cluster in which their index names are free."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected
from tests.unit.features.odd_files import photograph


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(8):
        Image.fromarray(photograph(number)).save(tmp_path / "photos" / f"00010{number}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url(opensearch: Any) -> Iterator[str]:
    """The address of an OpenSearch in which the index names of the README are free, before and afterwards."""

    def free() -> None:
        for name in ("holidays", "trips", "shop"):
            with contextlib.suppress(RequestRejected):  # no such alias
                for concrete in Cluster(opensearch).request("GET", f"/_alias/{name}"):
                    Cluster(opensearch).request("DELETE", f"/{concrete}")

    free()
    (host,) = opensearch.transport.hosts
    yield f"http://{host['host']}:{host['port']}"
    free()
