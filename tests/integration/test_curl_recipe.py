"""The curl blocks of ingest_pipelines/README.md on real clusters: an index, documents and a query without Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.schema.layouts import Layout, find_layout

TOP = Path(__file__).parents[2]


def shell(script: str, *, url: str) -> str:
    environment = {**os.environ, "DEEPTERMS_URL": url}
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=TOP, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("layout", [find_layout("words"), find_layout("rank_features")], ids=lambda layout: layout.name)
def test_the_curl_recipe_of_the_readme(cluster: Any, url: str, unique_name: str, layout: Layout) -> None:
    """Run the blocks as they are, with another name; the layout `rank_features` differs as the README says."""
    readme = (TOP / "ingest_pipelines" / "README.md").read_text()
    (recipe,) = re.findall(r"^## Raw vectors with curl alone$(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```sh\n(.*?)^```$", recipe, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    dt.deploy(cluster)
    names, create, add, search = (block.replace("photos", unique_name) for block in blocks)
    if layout.name == "rank_features":
        (clause,) = re.findall(r"`(\{\"rank_feature\".*?\}\})`", readme)
        names = names.replace("-words-", "-rank_features-")
        create = create.replace("words", "rank_features")
        search = re.sub(r"\{\"term\".*?\}\}\}", lambda _: clause, search)
    shell(names + create + add, url=url)
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert index.encoder == dt.DeepPermutation(4, top_k=2)
    assert (index.layout.name, index.stores_vectors) == (layout.name, True)
    index.refresh()
    rows = np.array([[0.1, -0.4, 0.3, 0.2], [0.5, 0.1, -0.2, 0.0]])
    for id, row in zip(("a", "b"), rows, strict=True):
        document = index.get(id)
        assert document is not None
        assert document.terms == index.encoder.encode(row).to_terms()[0]
    hits = json.loads(shell(names + search, url=url))["hits"]["hits"]
    expected = index.search([0.2, -0.3, 0.1, 0.1], rerank=0)
    assert [(hit["_id"], hit["_score"]) for hit in hits] == [(hit.id, hit.score) for hit in expected]
    assert hits
