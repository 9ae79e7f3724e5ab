"""Large-scale image retrieval on a stock Elasticsearch or OpenSearch: image descriptors as surrogate text."""

from __future__ import annotations

from importlib import import_module
from logging import NullHandler, getLogger
from typing import TYPE_CHECKING, Any

from deepterms.deployment import DeploymentReport, deploy
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pair_codewords import PairCodewords
from deepterms.encoders.pivots.pairs import PivotPairs
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.sampling import sample_pivots
from deepterms.encoders.scalar_quantization import ScalarQuantization
from deepterms.encoders.spec import encoder_from_spec
from deepterms.index import SurrogateIndex
from deepterms.index.export import export_features
from deepterms.inspection.explanation import Explanation, Match
from deepterms.inspection.reconciliation import Reconciliation
from deepterms.inspection.verification import Difference, Verification
from deepterms.memory import MemoryIndex
from deepterms.permutations import inverted_permutations, kendall_tau, spearman_footrule, spearman_rho
from deepterms.results import Failure, Hit, Hits, IndexStats, PostingList, Revision, StoredDocument, WriteReport
from deepterms.schema.index_spec import IndexSpec
from deepterms.storage.foreign_index import read_schema
from deepterms.terms import TermFrequencies

if TYPE_CHECKING:
    from deepterms import evaluation as evaluation
    from deepterms import features as features
    from deepterms.features import PCAWhitening as PCAWhitening
    from deepterms.features import RMACExtractor as RMACExtractor

__all__ = [
    "DeepPermutation",
    "DeploymentReport",
    "Difference",
    "Encoder",
    "Explanation",
    "Failure",
    "Hit",
    "Hits",
    "IndexSpec",
    "IndexStats",
    "Match",
    "MemoryIndex",
    "PCAWhitening",
    "PairCodewords",
    "PivotPairs",
    "PivotPermutation",
    "Pivots",
    "PostingList",
    "RMACExtractor",
    "Reconciliation",
    "Revision",
    "ScalarQuantization",
    "StoredDocument",
    "SurrogateIndex",
    "TermFrequencies",
    "Verification",
    "WriteReport",
    "deploy",
    "encoder_from_spec",
    "evaluation",
    "export_features",
    "features",
    "inverted_permutations",
    "kendall_tau",
    "read_schema",
    "sample_pivots",
    "spearman_footrule",
    "spearman_rho",
]

getLogger(__name__).addHandler(NullHandler())  # silent unless the application configures logging


def __getattr__(name: str) -> Any:
    """Import the parts that need optional dependencies on first use."""
    if name in ("RMACExtractor", "PCAWhitening"):
        return getattr(import_module("deepterms.features"), name)
    if name in ("evaluation", "features"):
        return import_module(f"deepterms.{name}")
    raise AttributeError(f"module 'deepterms' has no attribute {name!r}")
