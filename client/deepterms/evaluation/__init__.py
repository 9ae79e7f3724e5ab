"""How good a ranking is: collections with known answers, and the metrics of the field."""

from deepterms.evaluation.collections import Collection, read_holidays
from deepterms.evaluation.metrics import (
    Qrels,
    Run,
    average_precision,
    mean_average_precision,
    recall_at,
    without_self,
)
from deepterms.evaluation.package_photos import OnProgress, build_photos, training_photos

__all__ = [
    "Collection",
    "OnProgress",
    "Qrels",
    "Run",
    "average_precision",
    "build_photos",
    "mean_average_precision",
    "read_holidays",
    "recall_at",
    "training_photos",
    "without_self",
]
