"""An index's own ingest pipeline: the parameters of its encoder, for documents that come with a raw vector."""

from __future__ import annotations

from typing import Any

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.layouts import Layout

__all__ = ["index_pipeline"]


def index_pipeline(encoder: Encoder, *, layout: Layout, store_vectors: bool) -> dict[str, Any] | None:
    """The body of the pipeline that is named like the concrete index and is its ``index.default_pipeline``.

    A pipeline cannot read the settings or mappings of an index. So each index has a small one, which writes the
    encoder's parameters into the document and calls the layout's encode pipeline; that takes them out again.

    Args:
        encoder: of the index.
        layout: of the index.
        store_vectors: whether the index keeps descriptors: a raw vector is then replaced by its normalised form, else
            removed.

    Returns:
        The body, or None if the engine cannot encode as this encoder does; the layout's own pipeline then stays the
        index's, and takes terms only.
    """
    if not isinstance(encoder, DeepPermutation):
        return None
    parameters = {
        "dimensions": encoder.dimensions,
        "top_k": encoder.top_k,
        "crelu": encoder.crelu,
        "binary": encoder.binary,
        "vectors": store_vectors,
    }
    return {
        "description": f"{encoder}: {layout.encode_pipeline} for the documents of one index.",
        "processors": [
            {"set": {"tag": "set-encoder", "field": "encoder", "value": parameters}},
            {"pipeline": {"tag": "encode", "name": layout.encode_pipeline}},
        ],
    }
