from __future__ import annotations

import numpy as np
import pytest

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import InvalidInput
from deepterms.paper.tables import synthetic
from deepterms.paper.tables.synthetic import SyntheticCollection, truncate


def test_truncation_equals_encoding_with_a_smaller_k() -> None:
    descriptors = np.random.default_rng(1).standard_normal((50, 40), dtype=np.float32)
    descriptors[:, 5:] = np.where(descriptors[:, 5:] > 1.2, descriptors[:, 5:], 0)  # rows with fewer than K components
    longest = DeepPermutation(40, top_k=24).encode(descriptors)
    assert (np.diff(longest.matrix.indptr) < 24).any()
    for top_k in (1, 7, 24):
        expected = DeepPermutation(40, top_k=top_k).encode(descriptors)
        # Ranks count down from K, so a row with fewer than K components keeps only its first K'.
        assert (truncate(longest, 24, top_k).matrix != expected.matrix).nnz == 0


def test_documents_are_reproducible_and_share_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CHUNK", 16)
    few, many = (SyntheticCollection(documents, 32, (4, 9)) for documents in (20, 40))
    chunks = list(few.chunks())
    assert [start for start, _ in chunks] == [0, 16]
    assert [len(terms[4]) for _, terms in chunks] == [16, 4]
    for (_, ours), (_, theirs) in zip(chunks, many.chunks(), strict=False):
        for top_k in (4, 9):
            assert (ours[top_k].matrix != theirs[top_k][: len(ours[top_k])].matrix).nnz == 0
    assert (few.queries(5)[9].matrix != many.queries(8)[9][:5].matrix).nnz == 0
    first, other = few.queries(4)[9].matrix, next(few.chunks())[1][9][:4].matrix
    assert (first != other).nnz > 0
    assert (first != SyntheticCollection(20, 32, (4, 9), seed=1).queries(4)[9].matrix).nnz > 0


def test_numbers_out_of_range_are_rejected() -> None:
    for options in ({"documents": 0}, {"documents": 5, "top_ks": ()}, {"documents": 5, "seed": -1}):
        with pytest.raises(InvalidInput, match="expected at least one document"):
            SyntheticCollection(**options)
    with pytest.raises(InvalidInput, match="top_k is 33; expected 1 to 32"):
        SyntheticCollection(5, 32, (4, 33))
