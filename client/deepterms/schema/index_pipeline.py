"""An index's own ingest pipeline: checks that documents were encoded for this index, and encodes raw vectors."""

from __future__ import annotations

from typing import Any

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.schema.assets import load_processor
from deepterms.schema.index_spec import FINGERPRINT, IndexSpec
from deepterms.schema.vectors import VectorType, count_vector_bytes

__all__ = ["STALE_DOCUMENT", "build_index_pipeline"]

# Begins the reason by which the pipeline rejects a document that was encoded for another index.
STALE_DOCUMENT = "[check-fingerprint]"


def build_index_pipeline(spec: IndexSpec) -> dict[str, Any]:
    """The body of the pipeline that is named like the concrete index and is its ``index.default_pipeline``.

    A pipeline can read neither the settings nor the mappings of an index, so each index has a small one of its own. It
    rejects documents that carry the fingerprint of another spec, writes the encoder's parameters into documents with a
    raw vector, and calls one of the layout's pipelines, which removes them again.

    Args:
        spec: of the index. Where it stores float32 vectors, a raw vector is replaced by its normalised form; where it
            stores none, the vector is removed. An int8 index takes terms only, with the vector as the client stores it.

    Returns:
        The body. Where the engine cannot encode as the encoder does, documents must come with terms.
    """
    check = load_processor("check-fingerprint-v1", {FINGERPRINT: spec.fingerprint})
    first, call = _encoding(spec)
    # Last, since by then every vector is base64 of finite float32 numbers, or of int8 of the right length.
    last = []
    dimensions = spec.encoder.dimensions
    if spec.dense_vector:
        last.append(load_processor("decode-vector-v1", {"dimensions": dimensions}))
    if spec.sketch and spec.vector_type is not None:
        last.append(load_processor("sketch-vector-v1", _signs(spec.vector_type, dimensions)))
    return {
        "description": f"{spec.encoder}: {call['pipeline']['name']} for the documents of one index.",
        "processors": [check, *first, call, *last],
    }


def _encoding(spec: IndexSpec) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What comes before the call of one of the layout's pipelines, and the call."""
    encoder, layout = spec.encoder, spec.layout
    checked = {"pipeline": {"tag": "check-and-render", "name": layout.resource}}
    if spec.vector_type == "int8":
        # The layout's pipeline checks what every vector must be; the length is all that it cannot know. A vector of
        # another length would be read as other numbers by the re-ranking script.
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


def _signs(vector_type: VectorType, dimensions: int) -> dict[str, int]:
    """Where the sign bits of a stored vector are: in every fourth byte, or in each after the scale (see vectors.py)."""
    first, step = (3, 4) if vector_type == "float32" else (4, 1)
    length = count_vector_bytes(vector_type, dimensions)
    return {"dimensions": dimensions, "bytes": length, "first": first, "step": step}
