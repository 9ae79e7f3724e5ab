"""An index's own ingest pipeline: the parameters of its encoder, for documents that come with a raw vector."""

from __future__ import annotations

from typing import Any

from deepterms.assets import load_processor
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.layouts import Layout
from deepterms.vectors import StoreVectors, stored_bytes, vector_type

__all__ = ["index_pipeline"]


def index_pipeline(
    encoder: Encoder, *, layout: Layout, store_vectors: StoreVectors | None, dense_vector: bool = False
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

    Returns:
        The body, or None if the engine cannot encode as this encoder does; the layout's own pipeline then stays the
        index's, and takes terms only.
    """
    vectors = vector_type(store_vectors)
    if vectors == "int8":
        return _int8_pipeline(encoder, layout)
    if not isinstance(encoder, DeepPermutation):
        if not dense_vector:
            return None
        return {
            "description": f"{encoder}: {layout.resource} for the documents of one index with a dense_vector.",
            "processors": [
                {"pipeline": {"tag": "check-and-render", "name": layout.resource}},
                _dense_vector(encoder),
            ],
        }
    parameters = {
        "dimensions": encoder.dimensions,
        "top_k": encoder.top_k,
        "crelu": encoder.crelu,
        "binary": encoder.binary,
        "vectors": vectors is not None,
    }
    return {
        "description": f"{encoder}: {layout.encode_pipeline} for the documents of one index.",
        "processors": [
            {"set": {"tag": "set-encoder", "field": "encoder", "value": parameters}},
            {"pipeline": {"tag": "encode", "name": layout.encode_pipeline}},
            *([_dense_vector(encoder)] if dense_vector else []),
        ],
    }


def _dense_vector(encoder: Encoder) -> dict[str, Any]:
    # Last, since then every vector is base64 of finite float32 numbers. Without the field, a document's cosine is −1.
    return load_processor("decode-vector-v1", {"dimensions": encoder.dimensions})


def _int8_pipeline(encoder: Encoder, layout: Layout) -> dict[str, Any]:
    # The layout's pipeline checks what every vector must be; the length is all that it cannot know. A vector of another
    # length would be read as other numbers by the re-ranking script.
    length = stored_bytes("int8", encoder.dimensions)
    parameters = {"characters": (4 * length + 2) // 3, "bytes": length, "dimensions": encoder.dimensions}
    return {
        "description": f"{encoder}: {layout.resource} for the documents of one index that stores int8 vectors.",
        "processors": [
            load_processor("check-int8-vector-v1", parameters),
            {"pipeline": {"tag": "check-and-render", "name": layout.resource}},
        ],
    }
