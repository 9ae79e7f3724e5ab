"""Advice: from a workload and the measured costs of a node to the predicted size, latency and recall of an index."""

from deepterms.advice.costs import REFERENCE, Figures
from deepterms.advice.model import CapacityPlan, Prediction, Workload, advise, predict
from deepterms.advice.probe import probe

__all__ = ["REFERENCE", "CapacityPlan", "Figures", "Prediction", "Workload", "advise", "predict", "probe"]
