"""Figure 1 of the paper: mAP against the part of a collection that a query reads, for every curve."""

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

__all__ = ["CRELU", "EXACT", "FOREIGN", "GRAPH", "OWN", "PLAIN", "SCAN", "Claim", "Figure1", "Settings", "figure1"]

EXACT, SCAN, GRAPH = "exact cosine", "scan of whole permutations", "HNSW"
CRELU, PLAIN = "deep permutations, CReLU", "deep permutations, no CReLU"
OWN, FOREIGN = "IVFPQ, own codebooks", "IVFPQ, foreign codebooks"

Reading: TypeAlias = Literal["afda_mean", "afda_sum"]

# Of k-means: more rows find no better codebooks, but take longer.
MAX_TRAINING_ROWS = 65_536


@dataclass(frozen=True)
class Settings:
    """What is varied along the curves.

    Attributes:
        top_ks: K with CReLU: those of the paper's figure and tables.
        plain_top_ks: K without; half as many components of half as many codewords read as large a part.
        probes: cells that a query reads.
        breadths: of the search in a graph; none leaves the graph out, which alone holds all descriptors in memory.
        scan: whether whole permutations are compared one by one too.
        seed: of samples and intervals.
    """

    top_ks: tuple[int, ...] = (42, 48, 70, 100, 200, 400)
    plain_top_ks: tuple[int, ...] = (15, 21, 24, 35, 50, 70, 100, 200, 400)
    probes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    breadths: tuple[int, ...] = (10, 30, 100, 300)
    scan: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Claim:
    """One thing that the paper's figure shows, and whether it shows here.

    Attributes:
        says: in a sentence.
        differences: where on the curves, and the paired difference of AP there, positive where it speaks for the claim.
    """

    says: str
    differences: tuple[tuple[str, Interval], ...]

    @property
    def in_favour(self) -> int:
        """How many differences speak for it beyond the choice of queries."""
        return sum(difference.low > 0 for _, difference in self.differences)

    @property
    def against(self) -> int:
        """How many speak against it beyond the choice of queries."""
        return sum(difference.high < 0 for _, difference in self.differences)

    @property
    def holds(self) -> bool:
        """Whether some differences speak for it and none against; where all systems find everything, none speaks."""
        return self.in_favour > 0 and self.against == 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "says": self.says,
            "holds": self.holds,
            "in_favour": self.in_favour,
            "against": self.against,
            "differences": [{"at": at, **asdict(difference)} for at, difference in self.differences],
        }


@dataclass(frozen=True, eq=False)
class Figure1:
    """What was measured.

    Attributes:
        collection: on what.
        settings: at what.
        curves: name → its points, from few to many entries read.
        codebooks: how IVFPQ was made: rows it was trained on, cells, bytes of a code.
        claims: the paper's.
    """

    collection: JudgedFeatures
    settings: Settings
    curves: dict[str, list[Measured]]
    codebooks: dict[str, int] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values: points with their intervals, claims, the paper's points."""
        seed = self.settings.seed
        points = [
            {
                "curve": curve,
                "setting": one.setting,
                **_interval("map", bootstrap_mean(one.average_precisions, seed=seed)),
                **_interval("recall_at_10", bootstrap_mean(one.recalls, seed=seed)),
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


def figure1(
    collection: JudgedFeatures,
    *,
    foreign: NDArray[np.float32] | None = None,
    settings: Settings | None = None,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Figure1:
    """Measure every curve in one pass over the documents.

    Args:
        collection: queries, judged documents, distractors.
        foreign: float32 (F, D) from other photographs, on which the second IVFPQ is trained; None leaves it out.
        settings: what is varied.
        on_progress: called with the documents done, N, and what is being done.

    Raises:
        InvalidInput: too few documents to train codebooks, or foreign descriptors of another length.
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
        trained, codebooks = _quantizers(collection, foreign, settings)
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
    return Figure1(collection, settings, curves, codebooks, _claims(curves, seed=settings.seed))


def _quantizers(
    collection: JudgedFeatures, foreign: NDArray[np.float32] | None, settings: Settings
) -> tuple[list[tuple[str, ScoringSystem]], dict[str, int]]:
    """IVFPQ trained on the collection and on foreign rows, of equal sizes and from equally many rows."""
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


def _claims(curves: dict[str, list[Measured]], *, seed: int) -> tuple[Claim, ...]:
    def difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
        return paired_difference(first, second, seed=seed)

    readings: tuple[Reading, ...] = ("afda_mean", "afda_sum")
    claims = [
        Claim(
            f"CReLU is above the plain permutation at equal {reading}",
            tuple(
                (f"{one.setting}, {reading} {value:.3g}", difference(one.average_precisions, plain))
                for one in curves.get(CRELU, [])
                if (value := _read(one, reading)) and (plain := _at(curves.get(PLAIN, []), value, reading)) is not None
            ),
        )
        for reading in readings
    ]
    if FOREIGN in curves:
        claims.append(
            Claim(
                "IVFPQ falls when its codebooks are trained on foreign photographs; permutations learn nothing, so "
                "their one curve is for every training set",
                tuple(
                    (own.setting, difference(own.average_precisions, other.average_precisions))
                    for own, other in zip(curves[OWN], curves[FOREIGN], strict=True)
                ),
            )
        )
    (exact,) = curves[EXACT]
    claims.append(
        Claim(
            "exact cosine is on top",
            tuple(
                (f"{curve} {one.setting}".strip(), difference(exact.average_precisions, one.average_precisions))
                for curve, measured in curves.items()
                if curve != EXACT
                for one in measured
            ),
        )
    )
    return tuple(claims)


def _read(one: Measured, reading: Reading) -> float | None:
    return one.afda_mean if reading == "afda_mean" else one.afda_sum


def _at(curve: Sequence[Measured], value: float, reading: Reading) -> NDArray[np.float64] | None:
    """AP of each query where a curve reads as much: between two of its points, linear in the logarithm."""
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


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
