from __future__ import annotations

import numpy as np
import pytest

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import InvalidInput
from deepterms.evaluation import Interval
from deepterms.evaluation.streams import ArrayFeatures
from deepterms.paper import FIGURE1, Figure1, Settings, measure_figure1
from deepterms.paper.figure1 import CRELU, EXACT, FOREIGN, OWN, PLAIN, SCAN, Claim
from tests.unit.evaluation.judged import D, clusters
from tests.unit.paper import some_crops

pytest.importorskip("faiss")

# Selective settings for 480 documents of 256 dimensions: the paper's K / V at K = 42 and above, and few cells.
SETTINGS = Settings(top_ks=(8, 14, 20, 42), plain_top_ks=(4, 7, 10, 21, 42), probes=(1, 2), breadths=(10,), seed=0)


@pytest.fixture(scope="module")
def measured() -> Figure1:
    """The figure measured on descriptors of real photographs."""
    collection, foreign = some_crops.load()
    return measure_figure1(collection, foreign=foreign, settings=SETTINGS)


def test_the_papers_ordering_holds_on_real_photographs(measured: Figure1) -> None:
    crelu, at_equal_postings, foreign, exact = measured.claims
    assert crelu.holds
    assert crelu.in_favour == len(crelu.differences) == 4  # significant at every K
    assert at_equal_postings.against == 0
    assert foreign.holds
    assert foreign.in_favour == len(foreign.differences) == 2
    assert exact.holds
    assert len(exact.differences) == 4 + 5 + 1 + 4 + 1


def test_permutations_do_not_depend_on_training_data(measured: Figure1) -> None:
    collection, foreign = some_crops.load()
    elsewhere = measure_figure1(
        collection, foreign=foreign[::-1].copy() + 0.1, settings=Settings((14,), (7,), (1,), (), False)
    )
    (alone,) = elsewhere.curves[CRELU]
    (together,) = (one for one in measured.curves[CRELU] if one.setting == "K=14")
    np.testing.assert_array_equal(alone.average_precisions, together.average_precisions)
    assert elsewhere.curves[FOREIGN][0].mean_average_precision != measured.curves[FOREIGN][0].mean_average_precision


def test_map_rises_with_entries_read(measured: Figure1) -> None:
    for curve in (CRELU, PLAIN, OWN, FOREIGN):
        points = measured.curves[curve]
        assert [one.postings_per_query for one in points] == sorted(one.postings_per_query for one in points)
        assert points[0].mean_average_precision < points[-1].mean_average_precision
    (scan,), (exact,) = measured.curves[SCAN], measured.curves[EXACT]
    assert scan.touched_fraction == exact.touched_fraction == 1.0
    assert exact.recalls.mean() == 1.0


def test_afda_has_its_theoretical_minimum(measured: Figure1) -> None:
    """With K of V codewords per document, posting lists hold K / V of the documents on average."""
    for one in measured.curves[CRELU]:
        top_k = int(one.setting.removeprefix("K="))
        assert one.afda_mean is not None
        assert one.afda_sum is not None
        assert one.afda_mean >= (top_k / (2 * 256)) ** 2 * 0.999
        assert one.afda_sum == pytest.approx(one.afda_mean * 512)


def test_the_same_seed_gives_the_same_figure() -> None:
    settings = Settings((4, 8), (2, 4), (1, 2), (), seed=3)
    foreign = np.random.default_rng(9).normal(size=(400, D)).astype(np.float32)
    first, again = (measure_figure1(clusters(), foreign=foreign, settings=settings).to_json() for _ in range(2))
    assert first == again
    other = measure_figure1(
        clusters(), foreign=foreign, settings=Settings((4, 8), (2, 4), (1, 2), (), seed=4)
    ).to_json()
    assert other["points"] != first["points"]


def test_curves_can_be_left_out() -> None:
    found = measure_figure1(clusters(), settings=Settings((4,), (), (), (), scan=False))
    assert list(found.curves) == [EXACT, CRELU]
    assert found.codebooks == {}
    assert not found.claims[0].differences


def test_k_larger_than_the_dimensions_is_skipped() -> None:
    found = measure_figure1(clusters(), settings=Settings((4, 4_000), (), (), (), scan=False))
    assert [one.setting for one in found.curves[CRELU]] == ["K=4"]


def test_foreign_descriptors_of_wrong_length_are_rejected() -> None:
    with pytest.raises(InvalidInput, match=rf"foreign descriptors have shape \(400, 5\); expected \(F, {D}\)"):
        measure_figure1(clusters(), foreign=np.ones((400, 5), np.float32), settings=SETTINGS)


def test_distractors_lower_map_and_add_postings() -> None:
    settings = Settings((6,), (), (), (), scan=False)
    few, many = (measure_figure1(clusters(distractors=n), settings=settings).curves[CRELU][0] for n in (0, 3_000))
    assert many.mean_average_precision < few.mean_average_precision
    assert many.postings_per_query > few.postings_per_query


@pytest.mark.parametrize(
    ("lows_and_highs", "holds"),
    [([(0.1, 0.3), (-0.1, 0.2)], True), ([(-0.1, 0.2)], False), ([(0.1, 0.3), (-0.3, -0.1)], False), ([], False)],
)
def test_a_claim_holds_if_supported_and_not_contradicted(
    lows_and_highs: list[tuple[float, float]], holds: bool
) -> None:
    claim = Claim("so it is", tuple(("here", Interval((low + high) / 2, low, high)) for low, high in lows_and_highs))
    assert claim.holds is holds
    assert claim.to_json()["holds"] is holds


def test_published_points_have_the_papers_k() -> None:
    computed = [point for point in FIGURE1 if point.accessed_from == "computed"]
    assert [point.setting for point in computed] == ["K=42", "K=100", "K=200", "K=400"]
    # At K = 100, sum d_i^2 as printed is at least 2.44; only divided by V does it fit the axis.
    fractions = {point.setting: point.accessed_fraction for point in computed}
    assert fractions["K=100"] == pytest.approx(2.44 / 4_096, rel=1e-3)
    exact, *others = FIGURE1
    assert all(point.mean_average_precision < exact.mean_average_precision for point in others)


def test_a_scan_of_complete_permutations_is_included() -> None:
    found = measure_figure1(clusters(), settings=Settings((D,), (), (), ()))
    (scan,), (inverted,) = found.curves[SCAN], found.curves[CRELU]
    assert str(DeepPermutation(D, top_k=D)) == scan.system
    np.testing.assert_allclose(scan.average_precisions, inverted.average_precisions, atol=0.02)


def test_a_collection_without_documents_is_rejected() -> None:
    empty = clusters(groups=1, views=2, distractors=0)
    object.__setattr__(empty, "judged", ArrayFeatures(np.empty((0, D), np.float32)))
    with pytest.raises(InvalidInput, match="clusters has no documents"):
        measure_figure1(empty, settings=Settings((4,), (), (), (), scan=False))
