"""Compare scalar quantization with deep permutations: mAP and R@10 by postings read, without a cluster.

Scores are plain dot products, without re-ranking, on the photograph crops of `common/descriptors.py`.

python benchmarks/quantization.py             # prints the tables of docs/choosing.md
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

import deepterms as dt
from common.descriptors import DEFAULT_FOLDER, Features, RealDescriptors, load_real
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.streams import ArrayFeatures
from deepterms.evaluation.systems import InvertedPermutations, Measured, measure

# K of unrotated components → K of rotated ones for which a query reads the same number of postings.
WORDS = {42: 79, 100: 167, 200: 297, 400: 537}
FACTORS = (20, 50, 100, 500, 2_000)
SEED = 1
SAMPLE = 2_000  # descriptors to choose thresholds from
ENCODED = 4_000
REPEATS = 5


def main(folder: Path = DEFAULT_FOLDER) -> None:
    """Measure and print the tables."""
    described = load_real(folder)
    makers = build_makers(described.features)
    wanted = {(way, words): maker(words) for way, maker in makers.items() for words in WORDS}
    D = described.features.shape[1]
    wanted |= {("factor", factor): dt.ScalarQuantization(D, top_k=100, factor=factor) for factor in FACTORS}
    wanted["all", D] = dt.ScalarQuantization(D)
    systems = [InvertedPermutations(encoder, name=f"{way} {size}") for (way, size), encoder in wanted.items()]
    exact, *measured = measure(build_collection(described), systems)
    N = len(described.features)
    cells = dict(zip(wanted, (format_cell(one, N) for one in measured), strict=True))
    queries = len(exact.average_precisions)
    print(f"{N:,} descriptors, {queries} queries; exact cosine: mAP {exact.mean_average_precision:.3f}\n")
    print("| K | " + " | ".join(makers) + " |\n|" + "---|" * (len(makers) + 1))
    for words in WORDS:
        print(f"| {words} | " + " | ".join(cells[way, words] for way in makers) + " |")
    print(f"\nAll components: {cells['all', D]}. Factors, K = 100:", end="")
    print(*(f" {factor}: {cells['factor', factor]}" for factor in FACTORS), sep=";")
    some = described.features[:ENCODED]
    for way in makers:
        seconds = measure_cpu_seconds(wanted[way, 100], some)
        print(f"{way}, K = 100: {len(some) / seconds:,.0f} descriptors per core second")


def build_makers(features: Features) -> dict[str, Callable[[int], dt.Encoder]]:
    """Map labels to functions that make an encoder with the given number of words per document."""
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
        "values, rotated, K for equal postings": lambda words: replace(values, top_k=WORDS[words], rotation_seed=SEED),
    }


def build_collection(described: RealDescriptors) -> JudgedFeatures:
    """Build a judged collection from the crops."""
    queries = sorted(described.qrels, key=int)
    none = np.empty(0, dtype=np.int64)
    return JudgedFeatures(
        "crops",
        queries=described.queries[[int(query) for query in queries]],
        judged=ArrayFeatures(described.features),
        relevant=tuple(np.array(sorted(map(int, described.qrels[query])), dtype=np.int64) for query in queries),
        junk=(none,) * len(queries),
    )


def format_cell(one: Measured, documents: int) -> str:
    """Format mAP, R@10 and, in parentheses, postings per query divided by the number of documents."""
    return f"{one.mean_average_precision:.3f} / {one.recalls.mean():.3f} ({one.postings_per_query / documents:.2f})"


def measure_cpu_seconds(encoder: dt.Encoder, features: Features) -> float:
    """Measure the CPU seconds to encode; the minimum of several runs filters out other load on the machine."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        encoder.encode(features)
        times.append(time.process_time() - started)
    return min(times)


if __name__ == "__main__":
    typer.run(main)
