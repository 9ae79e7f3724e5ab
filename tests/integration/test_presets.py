"""Presets on real clusters: `encoder="auto"` from Python and from the command line; the depth lives with the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.encoders.presets import PRESETS
from deepterms.errors import InvalidInput
from tests.integration.test_command_line import deepterms
from tests.unit.encoders.test_presets import clustered

DOCUMENTS = 600


def test_an_index_re_ranks_as_it_was_created(cluster: Any, unique_name: str) -> None:
    rows, query = clustered(DOCUMENTS), clustered(1, seed=1)[0]
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(
        cluster, unique_name, encoder="auto", features=rows, documents=5_000, preset="small", replicas=0
    )
    memory = dt.MemoryIndex("auto", features=rows, documents=5_000, preset="small", compare=index.compare)
    ids = [str(row) for row in range(DOCUMENTS)]
    assert index.add(ids, rows).succeeded == memory.add(ids, rows).succeeded == DOCUMENTS
    index.refresh()
    opened = dt.SurrogateIndex.open(cluster, unique_name)
    assert opened.encoder == index.encoder == memory.encoder
    assert opened.layout.name == "codewords"
    assert opened.rerank == index.rerank == memory.rerank == PRESETS["small"].rerank
    assert opened.search(query).ids == memory.search(query).ids


def test_the_depth_can_be_given_and_zero_is_one(cluster: Any, unique_name: str) -> None:
    rows = clustered(50)
    dt.deploy(cluster)
    dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(32, top_k=8), rerank=0, replicas=0).add(
        [str(row) for row in range(50)], rows
    )
    opened = dt.SurrogateIndex.open(cluster, unique_name)
    opened.refresh()
    assert opened.rerank == 0
    assert opened.search(rows[7])[0].score == 204  # 8² + … + 1², the dot product with itself
    assert opened.search(rows[7], rerank=5)[0].score == pytest.approx(1.0, abs=1e-6)


def test_nothing_is_made_where_auto_cannot_choose(opensearch: Any, unique_name: str) -> None:
    dt.deploy(opensearch)
    with pytest.raises(InvalidInput, match="pass features="):
        dt.SurrogateIndex.create(opensearch, unique_name, encoder="auto")
    assert not opensearch.indices.exists(index=unique_name)


@pytest.mark.parametrize("encoder", ["auto --preset accurate", "quantized --top-k 20"])
def test_the_command_line_makes_the_encoder_for_the_file(
    url: str, unique_name: str, tmp_path: Path, encoder: str
) -> None:
    rows = clustered(DOCUMENTS)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "ids.txt").write_text("".join(f"{row}\n" for row in range(DOCUMENTS)))
    options = ("--encoder", *encoder.split(), "--replicas", "0")
    done = deepterms("index", unique_name, "rows.npy", "--ids", "ids.txt", *options, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = deepterms("search", unique_name, "--id", "7", "--json", url=url, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 10
