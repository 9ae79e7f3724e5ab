"""Advice: what an index of some size costs and finds, predicted from what a node was measured to take."""

from deepterms.advice.costs import REFERENCE, Figures
from deepterms.advice.model import CapacityPlan, Prediction, Workload, advise, predict
from deepterms.advice.probe import probe

__all__ = ["REFERENCE", "CapacityPlan", "Figures", "Prediction", "Workload", "advise", "predict", "probe"]
