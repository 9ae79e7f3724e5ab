"""What is compared: permutations of components, exact cosine, and the indices of FAISS, each fed block by block."""

from deepterms.evaluation.systems.exact import ExactCosine
from deepterms.evaluation.systems.hnsw import HNSW
from deepterms.evaluation.systems.ivfpq import IVFPQ, default_cells, default_code_bytes
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
    "default_cells",
    "default_code_bytes",
    "measure",
]
