"""docs/pivots.md, docs/operate.md and docs/recall.md: their Python blocks run on a real OpenSearch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

import deepterms as dt

DOCS = Path(__file__).parents[2] / "docs"


def run_blocks(name: str, **names: Any) -> dict[str, Any]:
    """Run the Python blocks of a page with the given names, and return all names afterwards."""
    for block in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, f"docs/{name}", "exec"), names)
    return names


def test_pivots_page_runs(opensearch: Any, url: str) -> None:
    features = np.random.default_rng(0).normal(size=(3_000, 64)).astype(np.float32)
    names = run_blocks("pivots.md", dt=dt, cluster=opensearch, features=features, feature=features[0])
    assert names["index"].encoder == names["encoder"]


def test_operate_page_runs(opensearch: Any, url: str, folder: Path) -> None:
    ids, features = ["a", "b"], np.eye(2, 8, dtype=np.float32)
    index = dt.SurrogateIndex.create(opensearch, "holidays", encoder=dt.DeepPermutation(8, top_k=3))
    batches = [(ids, features, None)]
    names = run_blocks("operate.md", cluster=opensearch, index=index, batches=batches, ids=ids)
    assert names["drift"] == ()
    assert names["report"] == dt.WriteReport(2)
    names["cluster"].close()  # its nodes do not exist


def test_recall_page_runs(opensearch: Any, url: str) -> None:
    features = np.random.default_rng(0).normal(size=(1_500, 16)).astype(np.float32)
    ids = [str(row) for row in range(len(features))]
    names = run_blocks("recall.md", dt=dt, cluster=opensearch, ids=ids, features=features, feature=features[0])
    assert names["index"].tuning.source == "documents"
