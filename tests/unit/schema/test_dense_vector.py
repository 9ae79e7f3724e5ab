"""Tests of where a dense_vector is possible."""

from __future__ import annotations

import pytest

from deepterms.cluster.engine import Engine
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.schema.dense_vector import check_dense_vector


def test_dense_vector_limits_per_engine() -> None:
    for version, most in (((8, 10, 4), 2_048), ((8, 11, 0), 4_096), ((9, 2, 0), 4_096)):
        engine = Engine("elasticsearch", version)
        check_dense_vector(engine, dimensions=most, vector_type="float32")
        with pytest.raises(InvalidInput, match=f"at most {most:,} dimensions, but the vectors have {most + 1:,}"):
            check_dense_vector(engine, dimensions=most + 1, vector_type="float32")
        for vectors, stored in (("int8", "stores int8 vectors"), (None, "stores no vectors")):
            with pytest.raises(InvalidInput, match=stored):
                check_dense_vector(engine, dimensions=64, vector_type=vectors)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedEngine, match=r"OpenSearch 3\.8\.0 has no dense_vector"):
        check_dense_vector(Engine("opensearch", (3, 8, 0)), dimensions=64, vector_type="float32")
