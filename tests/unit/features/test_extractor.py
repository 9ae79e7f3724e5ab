from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepterms.errors import InvalidInput, UnreadableImage, UnreadableImages
from deepterms.features.backbones import Backbone
from deepterms.features.extractor import BATCH_PIXELS, CHUNK_BATCHES, RMACExtractor
from deepterms.features.images import load_image, scale_shape
from deepterms.features.rmac import combine_sizes, compute_rmac
from deepterms.features.whitening import PCAWhitening
from tests.unit.features.odd_files import photograph, write_odd_but_good, write_odd_files


@pytest.fixture(scope="module")
def whitening(tiny_extractor: RMACExtractor, photos: Sequence[Path]) -> PCAWhitening:
    return tiny_extractor.fit_whitening(photos, dimensions=10)


def test_equals_each_image_on_its_own_step_by_step(
    tiny: Backbone, tiny_extractor: RMACExtractor, whitening: PCAWhitening, photos: Sequence[Path]
) -> None:
    extractor = tiny_extractor.with_whitening(whitening)
    features = extractor.extract(photos)
    assert features.shape == (30, 10) == (len(photos), extractor.dimensions)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    network = tiny.load("random").network
    matrices = (torch.tensor(whitening.mean), torch.tensor(whitening.projection))
    for path, feature in zip(photos, features, strict=True):
        picture = load_image(path)
        descriptors = []
        for size in (48, 64):
            resized = picture.resize(scale_shape(*picture.size, size), Image.Resampling.BICUBIC)
            pixels = torch.tensor(np.asarray(resized)).permute(2, 0, 1)[None] / 255
            with torch.inference_mode():
                descriptors.append(compute_rmac(network((pixels - 0.5) / 0.25), whitening=matrices))
        np.testing.assert_allclose(feature, combine_sizes(torch.stack(descriptors))[0].numpy(), atol=1e-5)


def test_a_descriptor_does_not_depend_on_its_batch(
    tiny: Backbone, tiny_extractor: RMACExtractor, photos: Sequence[Path]
) -> None:
    expected = tiny_extractor.extract(photos)
    order = random.Random(0).sample(range(30), 30)
    np.testing.assert_allclose(tiny_extractor.extract([photos[i] for i in order]), expected[order], atol=1e-5)
    for batch_size, workers in ((1, 1), (7, 3), (30, 2)):
        other = RMACExtractor(tiny, weights="random", whitening=None, batch_size=batch_size, workers=workers)
        np.testing.assert_allclose(other.extract(photos), expected, atol=1e-5)


def test_an_open_image_gives_what_its_file_gives(tiny_extractor: RMACExtractor, tmp_path: Path) -> None:
    for path in write_odd_but_good(tmp_path):
        with Image.open(path) as picture:
            feature = tiny_extractor.extract_image(picture)
        assert feature.shape == (12,)
        np.testing.assert_allclose(feature, tiny_extractor.extract([path])[0], atol=1e-5)


def test_exif_orientation_does_not_change_descriptors(tiny_extractor: RMACExtractor, tmp_path: Path) -> None:
    paths = {path.name: path for path in write_odd_but_good(tmp_path)}
    plain, mirrored = tiny_extractor.extract([paths["bitmap.bmp"], paths["mirrored.png"]])
    np.testing.assert_allclose(plain, mirrored, atol=1e-5)


def test_broken_files_do_not_stop_the_stream(
    tiny_extractor: RMACExtractor, photos: Sequence[Path], tmp_path: Path
) -> None:
    odd = write_odd_files(tmp_path, 23)
    mixed = [*photos, *odd]
    random.Random(1).shuffle(mixed)
    outcomes = list(tiny_extractor.stream(mixed))
    assert [outcome.path for outcome in outcomes] == mixed
    assert {outcome.path for outcome in outcomes if outcome.error} == set(odd)
    assert all((outcome.feature is None) != (outcome.error is None) for outcome in outcomes)
    expected = dict(zip(photos, tiny_extractor.extract(photos), strict=True))
    for outcome in outcomes:
        if outcome.feature is not None:
            np.testing.assert_allclose(outcome.feature, expected[outcome.path], atol=1e-5)
    with pytest.raises(UnreadableImages, match="23 of the images") as caught:
        tiny_extractor.extract(mixed)
    assert [failure.path for failure in caught.value.failures] == [path for path in mixed if path in set(odd)]


def test_the_stream_reads_ahead_by_a_bounded_number(tiny_extractor: RMACExtractor, photos: Sequence[Path]) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            yield photos[taken % 30]
            taken += 1

    stream = tiny_extractor.stream(endless())
    chunk = tiny_extractor.batch_size * CHUNK_BATCHES
    for number in range(3 * chunk):
        assert next(stream).error is None
        assert taken <= number + 2 * chunk
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deepterms-decode")]


def test_no_files_give_no_descriptors(tiny_extractor: RMACExtractor) -> None:
    assert tiny_extractor.extract([]).shape == (0, 12)


def test_an_image_without_activations_is_reported(tiny: Backbone, photos: Sequence[Path]) -> None:
    blind = replace(tiny, build=lambda: nn.Sequential(nn.Conv2d(3, 12, 8, stride=8), nn.Threshold(1e9, 0.0)))
    extractor = RMACExtractor(blind, weights="random", whitening=None)
    (outcome,) = extractor.stream(photos[:1])
    assert outcome.feature is None
    assert "descriptor is zero" in str(outcome.error)
    with pytest.raises(UnreadableImage, match="descriptor is zero"):
        extractor.extract_image(Image.fromarray(photograph(0)))


def test_large_images_are_described_in_smaller_batches(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    class Watched(nn.Conv2d):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            batches.append(len(pictures))
            return super().forward(pictures)

    watched = replace(tiny, sizes=(32,), build=lambda: nn.Sequential(Watched(3, 12, 8, stride=8)))
    extractor = RMACExtractor(watched, weights="random", whitening=None, batch_size=8)
    monkeypatch.setitem(BATCH_PIXELS, extractor.device.type, 3 * 32 * 32)
    extractor._describe([(photograph(seed, width=32, height=32),) for seed in range(8)])
    assert batches == [3, 3, 2]


def test_too_many_pixels_are_rejected(tiny: Backbone, photos: Sequence[Path]) -> None:
    extractor = RMACExtractor(tiny, weights="random", whitening=None, max_pixels=6_200)
    rejected = [outcome.path for outcome in extractor.stream(photos) if outcome.error]
    assert rejected == [path for number, path in enumerate(photos) if number % 3 == 2]  # 80 x 80


def test_spec_covers_all_that_descriptors_depend_on(tiny: Backbone, whitening: PCAWhitening) -> None:
    base = RMACExtractor(tiny, weights="random", whitening=whitening)
    spec = base.spec()
    assert json.loads(json.dumps(spec)) == spec
    assert spec["dimensions"] == 10
    same = RMACExtractor(tiny, weights="random", whitening=whitening, batch_size=3, workers=1)
    assert same.spec() == spec
    others = [
        RMACExtractor(tiny, weights="random", whitening=whitening, seed=1),
        RMACExtractor(tiny, weights="random", whitening=whitening, sizes=(48,)),
        RMACExtractor(tiny, weights="random", whitening=whitening, side="max"),
        RMACExtractor(tiny, weights="random", whitening=whitening, levels=3),
        base.with_whitening(None),
        base.with_whitening(PCAWhitening(whitening.mean, whitening.projection[:5])),
    ]
    assert len({json.dumps(extractor.spec(), sort_keys=True) for extractor in [base, *others]}) == 7
    assert base.spec() == spec


def test_whitened_regions_have_identity_covariance(tiny_extractor: RMACExtractor, photos: Sequence[Path]) -> None:
    whitening = tiny_extractor.fit_whitening(photos, regularisation=0)
    regions = np.concatenate(list(tiny_extractor._stream_region_vectors(photos, [])))
    np.testing.assert_allclose(np.cov(whitening.apply(regions).T), np.eye(12), atol=5e-3)


def test_fitting_reports_all_broken_files(
    tiny_extractor: RMACExtractor, photos: Sequence[Path], tmp_path: Path
) -> None:
    odd = write_odd_files(tmp_path, 3)
    with pytest.raises(UnreadableImages) as caught:
        tiny_extractor.fit_whitening([odd[0], *photos, *odd[1:]])
    assert [failure.path for failure in caught.value.failures] == odd


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg"}, "unknown"),
        ({"sizes": ()}, "sizes"),
        ({"sizes": (7,)}, "8 pixels or more"),
        ({"side": "both"}, "'min' or 'max'"),
        ({"levels": 0}, "levels=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"workers": 0}, "workers=0"),
        ({"whitening": "default"}, "no whitening is shipped for tiny"),
        ({"whitening": PCAWhitening(np.zeros(3, np.float32), np.eye(3, dtype=np.float32))}, "gives 12"),
    ],
)
def test_invalid_settings_are_rejected(tiny: Backbone, options: dict[str, object], message: str) -> None:
    settings = {"backbone": tiny, "weights": "random", "whitening": None, **options}
    with pytest.raises(InvalidInput, match=message):
        RMACExtractor(**settings)  # type: ignore[arg-type]


def test_shipped_whitening_needs_the_published_weights() -> None:
    with pytest.raises(InvalidInput, match="weights='random'; pass whitening=None"):
        RMACExtractor("efficientnet_lite0", weights="random")
    with pytest.raises(InvalidInput, match="no whitening is shipped for resnet101"):
        RMACExtractor("resnet101")


def test_the_default_matches_cropped_images(tmp_path: Path) -> None:
    extractor = RMACExtractor()
    assert extractor.dimensions == 1280
    assert extractor.spec()["sizes"] == [224, 320]
    whitening = extractor.whitening
    assert whitening is not None
    assert (whitening.channels, whitening.dimensions) == (1280, 1280)
    originals = [Image.fromarray(photograph(seed, width=320, height=240)) for seed in range(4)]
    features = []
    for number, picture in enumerate(originals):
        cropped = picture.crop((20, 15, 310, 230)).resize((400, 300))
        for name, view in (("original", picture), ("cropped", cropped)):
            view.save(tmp_path / f"{number}-{name}.jpg")
            features.append(extractor.extract_image(load_image(tmp_path / f"{number}-{name}.jpg")))
    similarity = np.array(features[::2]) @ np.array(features[1::2]).T  # originals, cropped
    assert similarity.argmax(axis=1).tolist() == similarity.argmax(axis=0).tolist() == [0, 1, 2, 3]


def test_resnet_describes_files(photos: Sequence[Path]) -> None:
    extractor = RMACExtractor("resnet101", sizes=(64, 96), weights="random", whitening=None)
    features = extractor.extract(photos[:2])
    assert features.shape == (2, 2048)
    np.testing.assert_allclose(features[1], extractor.extract(photos[1:2])[0], atol=1e-5)
