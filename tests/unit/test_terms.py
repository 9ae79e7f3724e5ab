from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies


def example() -> TermFrequencies:
    return TermFrequencies(sparse.csr_array(np.array([[0, 3, 0, 1], [0, 0, 0, 0], [65_535, 0, 0, 2]])))


def test_renderings() -> None:
    terms = example()
    assert terms.to_terms() == [{"t1": 3, "t3": 1}, {}, {"t0": 65_535, "t3": 2}]
    assert [json.loads(text) for text in terms.to_json()] == terms.to_terms()
    assert terms[:2].to_text() == ["t1 t1 t1 t3", ""]
    assert (len(terms), terms.vocabulary_size, terms.matrix.dtype) == (3, 4, np.int32)


def test_terms_read_back() -> None:
    again = TermFrequencies.from_terms(example().to_terms(), vocabulary_size=4)
    assert (again.matrix != example().matrix).nnz == 0


def test_an_empty_batch_renders() -> None:
    nothing = TermFrequencies(sparse.csr_array((2, 5), dtype=np.int32))
    assert (nothing.to_json(), nothing.to_terms(), nothing.to_text()) == (["{}", "{}"], [{}, {}], ["", ""])


@pytest.mark.parametrize("value", [0.5, -1, 65_536, float("nan")])
def test_other_numbers_are_rejected(value: float) -> None:
    with pytest.raises(InvalidInput, match="whole numbers from 1 to 65535"):
        TermFrequencies(sparse.csr_array(np.array([[0, value]])))


@pytest.mark.parametrize("name", ["t4", "t-1", "u1", "t", "t01", "t1.5", "", "t١"])
def test_names_outside_the_vocabulary_are_rejected(name: str) -> None:
    with pytest.raises(InvalidInput, match="not a codeword of this vocabulary"):
        TermFrequencies.from_terms([{name: 1}], vocabulary_size=4)
