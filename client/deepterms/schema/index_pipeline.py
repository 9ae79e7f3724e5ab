"""An index's own ingest pipeline: the parameters of its encoder, for documents that come with a raw vector."""

from __future__ import annotations

from typing import Any

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.schema.assets import load_processor
from deepterms.schema.layouts import Layout
from deepterms.schema.vectors import StoreVectors, VectorType, parse_vector_type, stored_bytes

__all__ = ["index_pipeline"]


def index_pipeline(
    encoder: Encoder,
    *,
    layout: Layout,
    store_vectors: StoreVectors | None,
    dense_vector: bool = False,
    sketch: bool = False,
) -> dict[str, Any] | None:
    """The body of the pipeline that is named like the concrete index and is its ``index.default_pipeline``.

    A pipeline cannot read the settings or mappings of an index. So each index has a small one, which writes the
    encoder's parameters into the document and calls the layout's encode pipeline; that takes them out again.

    Args:
        encoder: of the index.
        layout: of the index.
        store_vectors: whether the index keeps descriptors: a raw vector is then replaced by its normalised form, else
            removed. An int8 index takes terms only, and the vector as the client stores it.
        dense_vector: whether the index has Elasticsearch's own field for the vectors, too.
        sketch: whether it has their signs.

    Returns:
        The body, or None if the engine cannot encode as this encoder does and nothing else is to be done; the layout's
        own pipeline then stays the index's, and takes terms only.
    """
    vector_type = parse_vector_type(store_vectors)
    first, then = _encoding(encoder, layout, vector_type)
    # Last, since then every vector is base64 of finite float32 numbers, or of int8 of the right length.
    last = []
    if dense_vector:
        # Without the field, a document's cosine is −1.
        last.append(load_processor("decode-vector-v1", {"dimensions": encoder.dimensions}))
    if sketch and vector_type is not None:
        last.append(load_processor("sketch-vector-v1", _signs(vector_type, encoder.dimensions)))
    if not first and not last and then["pipeline"]["name"] == layout.resource:
        return None
    return {
        "description": f"{encoder}: {then['pipeline']['name']} for the documents of one index.",
        "processors": [*first, then, *last],
    }


def _encoding(
    encoder: Encoder, layout: Layout, vector_type: VectorType | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What comes before a call of one of the layout's pipelines, and the call."""
    checked = {"pipeline": {"tag": "check-and-render", "name": layout.resource}}
    if vector_type == "int8":
        # The layout's pipeline checks what every vector must be; the length is all that it cannot know. A vector of
        # another length would be read as other numbers by the re-ranking script.
        length = stored_bytes("int8", encoder.dimensions)
        parameters = {"characters": (4 * length + 2) // 3, "bytes": length, "dimensions": encoder.dimensions}
        return [load_processor("check-int8-vector-v1", parameters)], checked
    if not isinstance(encoder, DeepPermutation):
        return [], checked
    parameters = {
        "dimensions": encoder.dimensions,
        "top_k": encoder.top_k,
        "crelu": encoder.crelu,
        "binary": encoder.binary,
        "vectors": vector_type is not None,
    }
    return (
        [{"set": {"tag": "set-encoder", "field": "encoder", "value": parameters}}],
        {"pipeline": {"tag": "encode", "name": layout.encode_pipeline}},
    )


def _signs(vector_type: VectorType, dimensions: int) -> dict[str, int]:
    """Where the signs of a stored vector are: in the last byte of four, or in each after the scale (see vectors.py)."""
    first, step = (3, 4) if vector_type == "float32" else (4, 1)
    return {"dimensions": dimensions, "bytes": stored_bytes(vector_type, dimensions), "first": first, "step": step}
