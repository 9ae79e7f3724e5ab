"""Index pipeline: builds an index's own pipeline, which checks document fingerprints and encodes raw vectors."""

from __future__ import annotations

from typing import Any

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.schema.assets import load_processor
from deepterms.schema.index_spec import FINGERPRINT, IndexSpec
from deepterms.schema.vectors import VectorType, count_vector_bytes

__all__ = ["STALE_DOCUMENT", "build_index_pipeline"]

# Prefix of the reason with which the pipeline rejects a document that was encoded for another index.
STALE_DOCUMENT = "[check-fingerprint]"


def build_index_pipeline(spec: IndexSpec) -> dict[str, Any]:
    """Build the pipeline that has the name of the concrete index and is its ``index.default_pipeline``.

    A pipeline can read neither the settings nor the mappings of an index, so each index has a small one of its own. It
    rejects documents with the fingerprint of another spec, adds the encoder's parameters to documents with a raw
    vector, and calls one of the layout's pipelines, which removes the parameters again.

    Args:
        spec: the spec of the index. If it stores float32 vectors, the pipeline normalises raw vectors; if it stores
            none, it removes them. An int8 index only accepts documents with terms, and vectors as the client stores
            them.

    Returns:
        The request body. If the engine cannot encode as the encoder does, documents must contain terms.
    """
    check = load_processor("check-fingerprint-v1", {FINGERPRINT: spec.fingerprint})
    first, call = _build_encoding(spec)
    # Last, when every vector is base64 of finite float32 numbers, or int8 of the expected length, or native.
    last = []
    dimensions = spec.encoder.dimensions
    if spec.is_native:
        last.append(load_processor("keep-native-vector-v1", {"bytes": dimensions}))
    if spec.sketch and spec.vector_type is not None:
        last.append(load_processor("sketch-vector-v1", _locate_signs(spec.vector_type, dimensions)))
    return {
        "description": f"{spec.encoder}: {call['pipeline']['name']} for the documents of one index.",
        "processors": [check, *first, call, *last],
    }


def _build_encoding(spec: IndexSpec) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Build the call of one of the layout's pipelines, and the processors before it.

    Returns:
        The processors, and the call.
    """
    encoder, layout = spec.encoder, spec.layout
    checked = {"pipeline": {"tag": "check-and-render", "name": layout.resource}}
    if spec.is_native:
        # The layout's pipeline checks base64, so these vectors pass it under another name. The mapping checks the rest.
        return [load_processor("check-native-vector-v1", {"dimensions": encoder.dimensions})], checked
    if spec.vector_type == "int8":
        # The layout's pipeline checks every vector except for its length, which depends on the index. The re-ranking
        # script would misread a vector of another length.
        length = count_vector_bytes("int8", encoder.dimensions)
        parameters = {"characters": (4 * length + 2) // 3, "bytes": length, "dimensions": encoder.dimensions}
        return [load_processor("check-int8-vector-v1", parameters)], checked
    if not isinstance(encoder, DeepPermutation):
        return [], checked
    parameters = {
        "dimensions": encoder.dimensions,
        "top_k": encoder.top_k,
        "crelu": encoder.crelu,
        "binary": encoder.binary,
        "vectors": spec.stores_vectors,
    }
    return (
        [{"set": {"tag": "set-encoder", "field": "encoder", "value": parameters}}],
        {"pipeline": {"tag": "encode", "name": layout.encode_pipeline}},
    )


def _locate_signs(vector_type: VectorType, dimensions: int) -> dict[str, int]:
    """Locate the sign bits of a stored vector: in every fourth byte, or in each after the scale (see vectors.py)."""
    first, step = (3, 4) if vector_type == "float32" else (4, 1)
    length = count_vector_bytes(vector_type, dimensions)
    return {"dimensions": dimensions, "bytes": length, "first": first, "step": step}
