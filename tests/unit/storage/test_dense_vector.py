"""Where a dense_vector can be, and the mappings of an index that has one."""

from __future__ import annotations

import pytest

from deepterms.cluster.engine import Engine
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.storage.concrete_index import with_derived
from deepterms.storage.dense_vector import dense_vector_field, require_dense_vector


def test_engines_and_their_limits() -> None:
    for version, most in (((8, 10, 4), 2_048), ((8, 11, 0), 4_096), ((9, 2, 0), 4_096)):
        engine = Engine("elasticsearch", version)
        require_dense_vector(engine, dimensions=most, vector_type="float32")
        with pytest.raises(InvalidInput, match=f"at most {most:,} dimensions, and the vectors have {most + 1:,}"):
            require_dense_vector(engine, dimensions=most + 1, vector_type="float32")
        for vectors, stored in (("int8", "stores int8 vectors"), (None, "stores no vectors")):
            with pytest.raises(InvalidInput, match=stored):
                require_dense_vector(engine, dimensions=64, vector_type=vectors)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedEngine, match=r"OpenSearch 3\.8\.0 has no dense_vector"):
        require_dense_vector(Engine("opensearch", (3, 8, 0)), dimensions=64, vector_type="float32")


def test_what_the_template_and_the_index_have_stays() -> None:
    own = {"_meta": {"deepterms": {}}, "properties": {"metadata": {"type": "object"}}}
    derived = {"dense_vector": dense_vector_field(64)}
    made = with_derived(own, {"_source": {"excludes": ["vector", "id"]}}, derived)
    assert made == {
        "_meta": {"deepterms": {}},
        "_source": {"excludes": ["vector", "id", "dense_vector"]},
        "properties": {
            "metadata": {"type": "object"},
            "dense_vector": {"type": "dense_vector", "element_type": "float", "dims": 64, "index": False},
        },
    }
    assert own["properties"] == {"metadata": {"type": "object"}}
    assert with_derived(own, {}, {}) == own
