"""Measure Figure 1 of the paper: mAP against the fraction of a collection that a query reads, for every curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import InvalidInput
from deepterms.evaluation.intervals import Interval, bootstrap_mean, paired_difference
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.streams import sample_rows
from deepterms.evaluation.systems import (
    HNSW,
    IVFPQ,
    InvertedPermutations,
    Measured,
    PermutationScan,
    ScoringSystem,
    choose_cells,
    choose_code_bytes,
    measure,
)
from deepterms.paper.published import FIGURE1

__all__ = [
    "CRELU",
    "EXACT",
    "FOREIGN",
    "GRAPH",
    "OWN",
    "PLAIN",
    "SCAN",
    "Claim",
    "Figure1",
    "Settings",
    "measure_figure1",
]

EXACT, SCAN, GRAPH = "exact cosine", "scan of whole permutations", "HNSW"
CRELU, PLAIN = "deep permutations, CReLU", "deep permutations, no CReLU"
OWN, FOREIGN = "IVFPQ, own codebooks", "IVFPQ, foreign codebooks"

Reading: TypeAlias = Literal["afda_mean", "afda_sum"]

# For k-means: more rows take longer without giving better codebooks.
MAX_TRAINING_ROWS = 65_536


@dataclass(frozen=True)
class Settings:
    """The parameters that are varied along the curves.

    Attributes:
        top_ks: K with CReLU; by default those in the paper's figure and tables.
        plain_top_ks: K without CReLU; half of K over half of the codewords reads the same fraction.
        probes: numbers of IVFPQ cells that a query reads; empty leaves IVFPQ out.
        breadths: search breadths of HNSW; empty leaves HNSW out, the only system that holds all descriptors in memory.
        scan: whether to include the scan of whole permutations.
        seed: for samples and confidence intervals.
    """

    top_ks: tuple[int, ...] = (42, 48, 70, 100, 200, 400)
    plain_top_ks: tuple[int, ...] = (15, 21, 24, 35, 50, 70, 100, 200, 400)
    probes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    breadths: tuple[int, ...] = (10, 30, 100, 300)
    scan: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Claim:
    """A statement that the paper's figure supports, and the evidence for it here.

    Attributes:
        statement: in one sentence.
        differences: (position on the curves, paired difference of AP), positive where it supports the claim.
    """

    statement: str
    differences: tuple[tuple[str, Interval], ...]

    @property
    def in_favour(self) -> int:
        """Number of differences that support the claim beyond the choice of queries."""
        return sum(difference.low > 0 for _, difference in self.differences)

    @property
    def against(self) -> int:
        """Number of differences that contradict the claim beyond the choice of queries."""
        return sum(difference.high < 0 for _, difference in self.differences)

    @property
    def holds(self) -> bool:
        """Whether some differences support it and none contradict it; not if all systems find everything."""
        return self.in_favour > 0 and self.against == 0

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {
            "says": self.statement,
            "holds": self.holds,
            "in_favour": self.in_favour,
            "against": self.against,
            "differences": [{"at": at, **asdict(difference)} for at, difference in self.differences],
        }


@dataclass(frozen=True, eq=False)
class Figure1:
    """The measured curves and the paper's claims.

    Attributes:
        collection: that was measured.
        settings: that were used.
        curves: name → points, in ascending order of entries read.
        codebooks: IVFPQ parameters: training rows, cells, bytes per code.
        claims: of the paper, with the evidence for each.
    """

    collection: JudgedFeatures
    settings: Settings
    curves: dict[str, list[Measured]]
    codebooks: dict[str, int] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values: points with their intervals, claims, and the paper's points."""
        seed = self.settings.seed
        points = [
            {
                "curve": curve,
                "setting": one.setting,
                **_label_interval("map", bootstrap_mean(one.average_precisions, seed=seed)),
                **_label_interval("recall_at_10", bootstrap_mean(one.recalls, seed=seed)),
                "afda_sum": one.afda_sum,
                "afda_mean": one.afda_mean,
                "touched_fraction": one.touched_fraction,
                "postings_per_query": one.postings_per_query,
                "bytes": one.stored_bytes,
            }
            for curve, measured in self.curves.items()
            for one in measured
        ]
        collection = self.collection
        return {
            "seed": seed,
            "collection": {
                "name": collection.name,
                "documents": len(collection),
                "judged": len(collection.judged),
                "distractors": len(collection) - len(collection.judged),
                "queries": len(collection.queries),
                "dimensions": collection.dimensions,
                "averaging": collection.averaging,
            },
            "codebooks": self.codebooks,
            "points": points,
            "claims": [claim.to_json() for claim in self.claims],
            "paper": [asdict(point) for point in FIGURE1],
        }


def measure_figure1(
    collection: JudgedFeatures,
    *,
    foreign: NDArray[np.float32] | None = None,
    settings: Settings | None = None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Figure1:
    """Measure every curve in one pass over the documents.

    Args:
        collection: queries, judged documents and distractors.
        foreign: float32 (F, D) from unrelated photographs, to train the second IVFPQ; None leaves it out.
        settings: parameters to vary.
        on_progress: called with the number of documents done, N, and the current step.

    Raises:
        InvalidInput: there are too few documents to train codebooks, or foreign descriptors differ in length.
        MissingExtra: FAISS is not installed.
    """
    settings = settings or Settings()
    D, N = collection.dimensions, len(collection)
    systems: list[tuple[str, ScoringSystem]] = []
    for curve, crelu, top_ks in ((CRELU, True, settings.top_ks), (PLAIN, False, settings.plain_top_ks)):
        systems += [
            (curve, InvertedPermutations(DeepPermutation(D, top_k=top_k, crelu=crelu), setting=f"K={top_k}"))
            for top_k in sorted(set(top_ks))
            if top_k <= D
        ]
    if settings.scan:
        systems.append((SCAN, PermutationScan(DeepPermutation(D, top_k=D))))
    codebooks: dict[str, int] = {}
    if settings.probes:
        on_progress(0, N, "training codebooks")
        trained, codebooks = _train_quantizers(collection, foreign, settings)
        systems += trained
    graphs = [HNSW(D, breadths=settings.breadths)] if settings.breadths else []
    found = iter(
        measure(
            collection,
            [system for _, system in systems],
            graphs=graphs,
            on_progress=lambda done, total: on_progress(done, total, "documents"),
        )
    )
    curves: dict[str, list[Measured]] = {EXACT: [next(found)]}
    for curve, system in systems:
        curves.setdefault(curve, []).extend(next(found) for _ in system.settings)
    for graph in graphs:
        curves[GRAPH] = [next(found) for _ in graph.settings]
    return Figure1(collection, settings, curves, codebooks, _check_claims(curves, seed=settings.seed))


def _train_quantizers(
    collection: JudgedFeatures, foreign: NDArray[np.float32] | None, settings: Settings
) -> tuple[list[tuple[str, ScoringSystem]], dict[str, int]]:
    """Train IVFPQ on the collection and on foreign rows, with the same parameters and the same number of rows."""
    D = collection.dimensions
    if foreign is not None and foreign.shape[1:] != (D,):
        raise InvalidInput(f"foreign descriptors have shape {foreign.shape}; expected (F, {D})")
    rows = min(len(collection), MAX_TRAINING_ROWS, MAX_TRAINING_ROWS if foreign is None else len(foreign))
    cells, code_bytes = choose_cells(len(collection), training_rows=rows), choose_code_bytes(D)
    training = {OWN: sample_rows(collection.streams, rows, seed=settings.seed)}
    if foreign is not None:
        chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(foreign))[:rows])
        training[FOREIGN] = np.ascontiguousarray(foreign[chosen])
    return [
        (curve, IVFPQ(taught, cells=cells, code_bytes=code_bytes, probes=settings.probes, name=curve))
        for curve, taught in training.items()
    ], {"training_rows": rows, "cells": cells, "code_bytes": code_bytes}


def _check_claims(curves: dict[str, list[Measured]], *, seed: int) -> tuple[Claim, ...]:
    def compare(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
        return paired_difference(first, second, seed=seed)

    readings: tuple[Reading, ...] = ("afda_mean", "afda_sum")
    claims = [
        Claim(
            f"CReLU is above the plain permutation at equal {reading}",
            tuple(
                (f"{one.setting}, {reading} {value:.3g}", compare(one.average_precisions, plain))
                for one in curves.get(CRELU, [])
                if (value := _read(one, reading))
                and (plain := _interpolate(curves.get(PLAIN, []), value, reading)) is not None
            ),
        )
        for reading in readings
    ]
    if FOREIGN in curves:
        claims.append(
            Claim(
                "IVFPQ drops when its codebooks are trained on foreign photographs; permutations need no training, so "
                "one curve stands for every training set",
                tuple(
                    (own.setting, compare(own.average_precisions, other.average_precisions))
                    for own, other in zip(curves[OWN], curves[FOREIGN], strict=True)
                ),
            )
        )
    (exact,) = curves[EXACT]
    claims.append(
        Claim(
            "exact cosine is on top",
            tuple(
                (f"{curve} {one.setting}".strip(), compare(exact.average_precisions, one.average_precisions))
                for curve, measured in curves.items()
                if curve != EXACT
                for one in measured
            ),
        )
    )
    return tuple(claims)


def _read(one: Measured, reading: Reading) -> float | None:
    return one.afda_mean if reading == "afda_mean" else one.afda_sum


def _interpolate(curve: Sequence[Measured], value: float, reading: Reading) -> NDArray[np.float64] | None:
    """Interpolate each query's AP where the curve reads this fraction, linearly in its logarithm; None if outside."""
    points = sorted(
        ((math.log(read), one.average_precisions) for one in curve if (read := _read(one, reading))),
        key=lambda point: point[0],
    )
    here = math.log(value)
    if not points or not points[0][0] <= here <= points[-1][0]:
        return None
    after = next(place for place, (place_at, _) in enumerate(points) if place_at >= here)
    (low, first), (high, second) = points[max(0, after - 1)], points[after]
    share = (here - low) / (high - low) if high > low else 0.0
    between: NDArray[np.float64] = (1 - share) * first + share * second
    return between


def _label_interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
