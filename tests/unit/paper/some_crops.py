"""Descriptors of a few crops of package photographs, stored in some_crops.npz so that tests need no download.

python -m tests.unit.paper.some_crops       # recreates the file; needs the packages and the network

The file holds the first 256 dimensions, which whitening sorts by variance, as float16. It contains descriptors only, no
images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepterms.evaluation import ArrayFeatures, JudgedFeatures

FILE = Path(__file__).with_suffix(".npz")
PHOTOGRAPHS, CROPS, DIMENSIONS = 60, 8, 256


def load() -> tuple[JudgedFeatures, NDArray[np.float32]]:
    """Load the collection and the foreign descriptors."""
    with np.load(FILE) as stored:
        features, queries, foreign = (stored[name].astype(np.float32) for name in ("features", "queries", "foreign"))
        pairs = stored["relevant"]
    relevant = tuple(pairs[pairs[:, 0] == query, 1] for query in range(len(queries)))
    junk = tuple(np.empty(0, dtype=np.int64) for _ in relevant)
    return JudgedFeatures("some crops", queries, ArrayFeatures(features), relevant, junk), foreign


def make() -> None:
    """Recreate the file from a sample of all crops."""
    from deepterms.cache import cache_folder
    from deepterms.evaluation.photos.crops import describe_crops

    described = describe_crops(cache_folder() / "benchmarks")
    crops = len(described.features) // len(described.queries)
    asked = sorted(described.relevant, key=lambda photograph: (-len(described.relevant[photograph]), photograph))
    chosen = sorted(asked[:: max(1, len(asked) // PHOTOGRAPHS)][:PHOTOGRAPHS])
    rows: list[int] = []
    pairs = []
    for query, photograph in enumerate(chosen):
        right = described.relevant[photograph]
        others = np.setdiff1d(np.arange(photograph * crops, (photograph + 1) * crops), right)
        theirs = [*right[: CROPS // 2], *others][:CROPS]
        pairs += [(query, len(rows) + place) for place, row in enumerate(theirs) if row in right]
        rows += [int(row) for row in theirs]
    every = np.linspace(0, len(described.foreign) - 1, 400).astype(int)
    np.savez_compressed(
        FILE,
        features=described.features[rows, :DIMENSIONS].astype(np.float16),
        queries=described.queries[chosen, :DIMENSIONS].astype(np.float16),
        foreign=described.foreign[every, :DIMENSIONS].astype(np.float16),
        relevant=np.array(pairs),
    )


if __name__ == "__main__":
    make()
