from __future__ import annotations

import sys

import numpy as np
import pytest

from deepterms.errors import MissingExtra
from deepterms.paper.tables import lower_bound, synthetic
from deepterms.paper.tables.lower_bound import scan_postings
from deepterms.paper.tables.synthetic import SyntheticCollection


def test_a_scan_gives_the_dot_products_of_all_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (synthetic, lower_bound):
        monkeypatch.setattr(module, "CHUNK", 32)
    collection = SyntheticCollection(70, 48, (3, 20), seed=5)
    done: list[int] = []
    scanned = scan_postings(collection, queries=6, k=4, on_progress=done.append)
    assert done == [32, 64, 70]
    for top_k in collection.top_ks:
        documents = np.concatenate([terms[top_k].matrix.toarray() for _, terms in collection.chunks()])
        queries = collection.queries(6)[top_k].matrix.toarray()
        scores = queries @ documents.T  # (Q, N)
        found = scanned[top_k]
        np.testing.assert_array_equal(found.best, -np.sort(-scores, axis=1)[:, :4])
        np.testing.assert_array_equal(found.touched, (scores > 0).sum(axis=1))
        np.testing.assert_array_equal(found.postings, (queries > 0).astype(int) @ (documents > 0).sum(axis=0))
        assert (found.seconds > 0).all()
    assert (scanned[3].touched < 70).any()  # otherwise `touched` is not tested


def test_missing_numba_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bound._compile_loop.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtra, match=r'pip install "deepterms\[evaluate\]"'):
        scan_postings(SyntheticCollection(5, 8, (2,)), queries=1, k=1)
    lower_bound._compile_loop.cache_clear()
