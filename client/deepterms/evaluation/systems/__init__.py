"""Retrieval systems to compare, each fed block by block: deep permutations, exact cosine, and FAISS indices."""

from deepterms.evaluation.systems.exact import ExactCosine
from deepterms.evaluation.systems.hnsw import HNSW
from deepterms.evaluation.systems.ivfpq import IVFPQ, choose_cells, choose_code_bytes
from deepterms.evaluation.systems.measured import Measured, measure
from deepterms.evaluation.systems.permutations import InvertedPermutations, PermutationScan
from deepterms.evaluation.systems.system import Answers, GraphSystem, ScoringSystem

__all__ = [
    "HNSW",
    "IVFPQ",
    "Answers",
    "ExactCosine",
    "GraphSystem",
    "InvertedPermutations",
    "Measured",
    "PermutationScan",
    "ScoringSystem",
    "choose_cells",
    "choose_code_bytes",
    "measure",
]
