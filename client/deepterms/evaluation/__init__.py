"""Evaluate rankings: judged collections, retrieval metrics, and the systems to compare."""

from deepterms.evaluation.collections import (
    Difficulty,
    JudgedCollection,
    Judgements,
    holidays_judgements,
    read_holidays,
    read_oxford,
    read_qrels,
    read_revisited,
)
from deepterms.evaluation.intervals import Interval, bootstrap_mean, paired_difference
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.metrics import (
    Qrels,
    Run,
    average_precision,
    mean_average_precision,
    recall_at,
    trapezoid_average_precision,
    without_junk,
    without_self,
)
from deepterms.evaluation.photos.collection import OnProgress, build_photos, training_photos
from deepterms.evaluation.selectivity import ListLengths, Selectivity
from deepterms.evaluation.streams import ArrayFeatures, FeatureStream, MixedFeatures, StoredFeatures, sample_rows
from deepterms.evaluation.systems import Measured, measure

__all__ = [
    "ArrayFeatures",
    "Difficulty",
    "FeatureStream",
    "Interval",
    "JudgedCollection",
    "JudgedFeatures",
    "Judgements",
    "ListLengths",
    "Measured",
    "MixedFeatures",
    "OnProgress",
    "Qrels",
    "Run",
    "Selectivity",
    "StoredFeatures",
    "average_precision",
    "bootstrap_mean",
    "build_photos",
    "holidays_judgements",
    "mean_average_precision",
    "measure",
    "paired_difference",
    "read_holidays",
    "read_oxford",
    "read_qrels",
    "read_revisited",
    "recall_at",
    "sample_rows",
    "training_photos",
    "trapezoid_average_precision",
    "without_junk",
    "without_self",
]
