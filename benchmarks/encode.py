"""Measure descriptors encoded per second: DeepPermutation against the definition in plain numpy, in one run.

python benchmarks/encode.py
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import typer
from numpy.typing import NDArray

import deepterms as dt


def encode_plainly(features: NDArray[np.float32], top_k: int) -> NDArray[np.int64]:
    """Apply CReLU, sort fully and keep the first K, as defined in the paper, with one numpy call each."""
    rectified = np.concatenate([np.maximum(features, 0), np.maximum(-features, 0)], axis=1)
    return np.argsort(-rectified, axis=1, kind="stable")[:, :top_k]


def main(count: int = 20_000, dimensions: int = 2_048, top_k: int = 100, runs: int = 7) -> None:
    """Time both on the same descriptors, alternately."""
    features = np.random.default_rng(0).standard_normal((count, dimensions)).astype(np.float32)
    encoder = dt.DeepPermutation(dimensions, top_k=top_k)
    some = features[: count // 20]
    ours, theirs = [], []
    for _ in range(runs):
        started = time.perf_counter()
        encoder.encode(features)
        ours.append(count / (time.perf_counter() - started))
        started = time.perf_counter()
        encode_plainly(some, top_k)
        theirs.append(len(some) / (time.perf_counter() - started))
    print(f"{count} descriptors of {dimensions} dimensions, K={top_k}, median of {runs}:")
    print(f"  encode       {median(ours):>10,.0f} descriptors/s")
    print(f"  plain numpy  {median(theirs):>10,.0f} descriptors/s")
    print(f"  ratio        {median(a / b for a, b in zip(ours, theirs, strict=True)):>10.1f}")


if __name__ == "__main__":
    typer.run(main)
