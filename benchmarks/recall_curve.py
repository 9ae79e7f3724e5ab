"""Fit the curves of `deepterms.advice.recall` to measured values of R@10, and print their error.

Reads benchmarks/results/recall-*.json: `mixed` and `real` use the descriptors of benchmarks/common/descriptors.py with
exact pivot search, without a cluster. `mixed-large` holds earlier runs on a node with other mixtures; they are weighted
more because they are few and closer to typical use.

python benchmarks/recall_curve.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from deepterms.advice.recall import INT8_KEEPS, SKEW

RESULTS = Path(__file__).parent / "results"
CURVES = {"HARD": ("mixed", "mixed-large"), "PHOTOGRAPHS": ("real",)}
WEIGHTS = {"mixed-large": 5.0}
ANSWERS = 1_000  # ten hits for at least a hundred queries
MODEL_VARIANCE = 0.01  # of log-odds: the approximate error of a curve, however many queries were measured


def main() -> None:
    """Print the weights and the error of each curve."""
    for name, files in CURVES.items():
        rows = [row | {"weight": WEIGHTS.get(file, 1.0)} for file in files for row in _read(file)]
        columns, recall = _columns(rows), np.array([_float32(row) for row in rows])
        clipped = np.clip(recall, 0.3, 0.9995)
        odds = np.log(clipped / (1 - clipped))
        deviation = np.sqrt(1 / (ANSWERS * clipped * (1 - clipped)) + MODEL_VARIANCE)
        scale = np.array([row["weight"] for row in rows]) / deviation
        weights, *_ = np.linalg.lstsq(columns * scale[:, np.newaxis], odds * scale, rcond=None)
        off = 1 / (1 + np.exp(-columns @ weights)) - recall
        print(f"{name}: {len(rows)} settings; constant, candidates, pivots, documents, words: {np.round(weights, 3)}")
        error = _root_mean_square(off[recall > 0.85])
        print(f"  RMS error {error:.3f} where R@10 is above .85; largest error {abs(off).max():.3f}")
        for documents in sorted({row["documents"] for row in rows}):
            some = np.array([row["documents"] == documents for row in rows]) & (recall > 0.85)
            print(f"  {documents:>9,} documents: RMS {_root_mean_square(off[some]):.3f}, mean {off[some].mean():+.3f}")


def _read(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"recall-{name}.json").read_text(encoding="utf-8"))
    return rows


def _float32(row: dict[str, Any]) -> float:
    return float(row["recall"] / INT8_KEEPS if row.get("vectors") == "int8" else row["recall"])


def _columns(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Build the design matrix (rows, 5): 1 and the logarithms of candidates, pivots, documents and words."""
    columns = []
    for row in rows:
        N, P, words = row["documents"], row["pivots"], row["words"]
        postings = N * row["postings"] if row["postings"] else SKEW * N * words * row["query_words"] / P
        usable = 1 / (1 / row["depth"] + 1 / postings)
        columns.append([1, *np.log([usable, P, N, words])])
    return np.array(columns)


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    typer.run(main)
