"""Documents through the real `_simulate`, by the pipeline that an index with an encoder has."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import extract_reason
from deepterms.encoders.encoder import Encoder
from deepterms.schema.index_pipeline import build_index_pipeline
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import Layout


def simulate(
    cluster: Any,
    documents: Sequence[Mapping[str, Any]],
    *,
    encoder: Encoder,
    layout: Layout,
    vectors: bool = False,
) -> list[dict[str, Any]]:
    """What the index's own pipeline makes of documents: its ``_source``, or ``{"rejected": sentence}``."""
    body = {
        "pipeline": build_index_pipeline(IndexSpec(encoder, layout, "float32" if vectors else None)),
        "docs": [{"_source": document} for document in documents],
    }
    params = {"filter_path": "docs.doc._source,docs.error"}
    answer = Cluster(cluster).request("POST", "/_ingest/pipeline/_simulate", body=body, params=params)
    return [
        item["doc"]["_source"] if "doc" in item else {"rejected": extract_reason(item["error"])}
        for item in answer["docs"]
    ]


def float32(*values: float) -> str:
    return base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()
