"""Scalar quantization against deep permutations: mAP and R@10 for the postings that a query reads; no cluster.

Scores are the dot product alone, without re-ranking, on the crops of photographs that `descriptors.py` describes.

python benchmarks/quantization.py             # the tables of docs/choosing.md
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

import deepterms as dt
from common.descriptors import DEFAULT_FOLDER, Features, Real, real
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.streams import ArrayFeatures
from deepterms.evaluation.systems import InvertedPermutations, Measured, measure

# K of components as they are; and of rotated ones, so that a query reads as many postings.
WORDS = {42: 79, 100: 167, 200: 297, 400: 537}
FACTORS = (20, 50, 100, 500, 2_000)
SEED = 1
SAMPLE = 2_000  # descriptors to choose thresholds by
ENCODED = 4_000
REPEATS = 5


def main(folder: Path = DEFAULT_FOLDER) -> None:
    """Measure, and print the tables."""
    described = real(folder)
    makers = ways(described.features)
    wanted = {(way, words): maker(words) for way, maker in makers.items() for words in WORDS}
    D = described.features.shape[1]
    wanted |= {("factor", factor): dt.ScalarQuantization(D, top_k=100, factor=factor) for factor in FACTORS}
    wanted["all", D] = dt.ScalarQuantization(D)
    systems = [InvertedPermutations(encoder, name=f"{way} {size}") for (way, size), encoder in wanted.items()]
    exact, *measured = measure(judged(described), systems)
    N = len(described.features)
    cells = dict(zip(wanted, (cell(one, N) for one in measured), strict=True))
    queries = len(exact.average_precisions)
    print(f"{N:,} descriptors, {queries} queries; exact cosine: mAP {exact.mean_average_precision:.3f}\n")
    print("| K | " + " | ".join(makers) + " |\n|" + "---|" * (len(makers) + 1))
    for words in WORDS:
        print(f"| {words} | " + " | ".join(cells[way, words] for way in makers) + " |")
    print(f"\nAll components: {cells['all', D]}. Factors, K = 100:", end="")
    print(*(f" {factor}: {cells['factor', factor]}" for factor in FACTORS), sep=";")
    some = described.features[:ENCODED]
    for way in makers:
        print(f"{way}, K = 100: {len(some) / core_seconds(wanted[way, 100], some):,.0f} descriptors a core second")


def ways(features: Features) -> dict[str, Callable[[int], dt.Encoder]]:
    """Label → the encoder for so many words a document."""
    D = features.shape[1]
    sample = features[np.random.default_rng(0).permutation(len(features))[:SAMPLE]]
    values = dt.ScalarQuantization(D)
    return {
        "ranks": lambda words: dt.DeepPermutation(D, top_k=words),
        "ranks, no CReLU": lambda words: dt.DeepPermutation(D, top_k=words, crelu=False),
        "names only": lambda words: dt.DeepPermutation(D, top_k=words, binary=True),
        "values": lambda words: replace(values, top_k=words),
        "values, by threshold": lambda words: replace(values, threshold=values.threshold_for(sample, words=words)),
        "values, rotated": lambda words: replace(values, top_k=words, rotation_seed=SEED),
        "values, rotated, K for as many postings": lambda words: replace(
            values, top_k=WORDS[words], rotation_seed=SEED
        ),
    }


def judged(described: Real) -> JudgedFeatures:
    """The crops as a collection."""
    queries = sorted(described.qrels, key=int)
    none = np.empty(0, dtype=np.int64)
    return JudgedFeatures(
        "crops",
        queries=described.queries[[int(query) for query in queries]],
        judged=ArrayFeatures(described.features),
        relevant=tuple(np.array(sorted(map(int, described.qrels[query])), dtype=np.int64) for query in queries),
        junk=(none,) * len(queries),
    )


def cell(one: Measured, documents: int) -> str:
    """MAP, R@10, and in parentheses the postings of a query in units of the collection."""
    return f"{one.mean_average_precision:.3f} / {one.recalls.mean():.3f} ({one.postings_per_query / documents:.2f})"


def core_seconds(encoder: dt.Encoder, features: Features) -> float:
    """Time of cores to encode, the least of some: other work on the machine changes it little."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        encoder.encode(features)
        times.append(time.process_time() - started)
    return min(times)


if __name__ == "__main__":
    typer.run(main)
