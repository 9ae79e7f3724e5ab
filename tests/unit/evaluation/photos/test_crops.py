from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deepterms.errors import InvalidInput
from deepterms.evaluation.photos import crops
from deepterms.evaluation.photos.crops import MAX_CROPS, Crop, describe_crops, sample_crops


def test_overlap_is_intersection_over_union() -> None:
    left, right = Crop((0.0, 0.0, 0.5, 1.0), False), Crop((0.25, 0.0, 0.75, 1.0), True)
    assert left.measure_overlap(left) == 1.0
    assert left.measure_overlap(right) == pytest.approx(0.25 / 0.75)
    assert left.measure_overlap(Crop((0.5, 0.0, 1.0, 1.0), False)) == 0.0


def test_a_crop_is_cut_and_mirrored() -> None:
    pixels = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8)
    photograph = Image.fromarray(pixels)
    cut = np.asarray(Crop((0.25, 0.5, 0.75, 1.0), False).cut(photograph))
    np.testing.assert_array_equal(cut, pixels[4:, 2:6])
    np.testing.assert_array_equal(np.asarray(Crop((0.25, 0.5, 0.75, 1.0), True).cut(photograph)), cut[:, ::-1])


def test_crops_are_reproducible_and_lie_inside() -> None:
    cut = sample_crops(7)
    assert cut == sample_crops(7)
    assert cut != sample_crops(8)
    assert len(cut) == MAX_CROPS + 1
    boxes = np.array([crop.box for crop in cut])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (boxes[:, :2] < boxes[:, 2:]).all()


class _Extractor:
    """Describes an image by its mean colours and counts the images it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def extract_image(self, picture: Image.Image) -> NDArray[np.float32]:
        self.seen += 1
        colours: NDArray[np.float32] = np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)) + 1
        return colours


@pytest.fixture
def extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Extractor:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    found = _Extractor()
    monkeypatch.setattr(crops, "_build_photographs", lambda folder: (paths[:3], paths[3:]))
    monkeypatch.setattr(crops, "_load_extractor", lambda: found)
    return found


def test_photographs_become_a_collection(extractor: _Extractor, tmp_path: Path) -> None:
    reported: list[int] = []
    described = describe_crops(tmp_path, crops=12, on_progress=lambda done, total, name: reported.append(done))
    assert described.features.shape == (36, 3)
    assert described.queries.shape == (3, 3)
    assert described.foreign.shape == (26, 3)
    assert reported == [0, 1, 2, 3, 4, 5]
    collection = described.to_judged_features()
    for query, photograph in enumerate(sorted(described.relevant)):
        *cut, asked = sample_crops(photograph)
        right = [photograph * 12 + place for place, crop in enumerate(cut[:12]) if crop.measure_overlap(asked) >= 0.5]
        assert collection.relevant[query].tolist() == right
    assert extractor.seen == 5 * 13


def test_described_crops_are_not_described_again(extractor: _Extractor, tmp_path: Path) -> None:
    few = describe_crops(tmp_path, crops=4)
    seen = extractor.seen
    np.testing.assert_array_equal(describe_crops(tmp_path, crops=4).features, few.features)
    assert extractor.seen == seen
    describe_crops(tmp_path)
    seen = extractor.seen
    # The first crops are a prefix of all crops.
    six = describe_crops(tmp_path, crops=6).features.reshape(3, 6, 3)
    assert extractor.seen == seen
    np.testing.assert_array_equal(six[:, :4].reshape(12, 3), few.features)


@pytest.mark.parametrize("count", [0, MAX_CROPS + 1])
def test_a_number_of_crops_out_of_range_is_rejected(count: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"crops is {count}; expected 1 to 48"):
        describe_crops(tmp_path, crops=count)
