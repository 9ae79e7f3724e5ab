"""An index's own ingest pipeline: the parameters of its encoder, for documents that come with a raw vector."""

from __future__ import annotations

from typing import Any

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.layouts import Layout
from deepterms.vectors import StoreVectors, stored_bytes, vector_type

__all__ = ["index_pipeline"]

_INT8_CHECK = """
def vector = ctx.vector; int length = -1;
if (vector instanceof String) {
  length = vector.length();
  while (length > 0 && vector.charAt(length - 1) == (char) '=') { length--; }
}
if (vector != null && length != params.characters) {
  throw new IllegalArgumentException('[check-int8-vector] field [vector] is not an int8 vector; expected base64 of '
    + params.bytes + ' bytes for ' + params.dimensions + ' dimensions: this index stores int8 vectors, which the '
    + 'Python client makes (SurrogateIndex.add); raw vectors need an index that stores float32');
}
""".strip()


def index_pipeline(encoder: Encoder, *, layout: Layout, store_vectors: StoreVectors | None) -> dict[str, Any] | None:
    """The body of the pipeline that is named like the concrete index and is its ``index.default_pipeline``.

    A pipeline cannot read the settings or mappings of an index. So each index has a small one, which writes the
    encoder's parameters into the document and calls the layout's encode pipeline; that takes them out again.

    Args:
        encoder: of the index.
        layout: of the index.
        store_vectors: whether the index keeps descriptors: a raw vector is then replaced by its normalised form, else
            removed. An int8 index takes terms only, and the vector as the client stores it.

    Returns:
        The body, or None if the engine cannot encode as this encoder does; the layout's own pipeline then stays the
        index's, and takes terms only.
    """
    vectors = vector_type(store_vectors)
    if vectors == "int8":
        return _int8_pipeline(encoder, layout)
    if not isinstance(encoder, DeepPermutation):
        return None
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
        ],
    }


def _int8_pipeline(encoder: Encoder, layout: Layout) -> dict[str, Any]:
    # The layout's pipeline checks what every vector must be; the length is all that it cannot know. A vector of another
    # length would be read as other numbers by the re-ranking script.
    length = stored_bytes("int8", encoder.dimensions)
    script = {
        "tag": "check-int8-vector",
        "params": {"characters": (4 * length + 2) // 3, "bytes": length, "dimensions": encoder.dimensions},
        "source": _INT8_CHECK,
    }
    return {
        "description": f"{encoder}: {layout.resource} for the documents of one index that stores int8 vectors.",
        "processors": [
            {"script": script},
            {"pipeline": {"tag": "check-and-render", "name": layout.resource}},
        ],
    }
