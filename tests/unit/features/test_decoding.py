from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from deepterms.errors import InvalidInput, TooManyPixels, UnreadableImage
from deepterms.features.backbones import Backbone
from deepterms.features.decoding import Decoded, Decoder, decoded_chunks
from deepterms.features.extractor import RMACExtractor
from tests.unit.features.odd_files import write_odd_files

DECODER = Decoder((48, 64), "min", 10_000)


class Deadly(Decoder):
    """Dies of some files, as a decoder with an error of its own would."""

    def __call__(self, path: Path) -> Decoded:
        if path.name.startswith("deadly"):
            os._exit(1)
        return super().__call__(path)


def test_processes_give_what_threads_give(photos: Sequence[Path], tmp_path: Path) -> None:
    odd = write_odd_files(tmp_path, 3)
    paths = [*photos[:3], *odd, *photos[3:6]]
    threads, processes = (
        [pair for chunk in decoded_chunks(paths, DECODER, size=4, workers=2, kind=kind) for pair in chunk]
        for kind in ("threads", "processes")
    )
    assert [path for path, _ in processes] == paths
    for (_, ours), (path, theirs) in zip(threads, processes, strict=True):
        if path in odd:
            assert isinstance(ours, UnreadableImage)
            assert str(theirs) == str(ours)
        else:
            assert isinstance(ours, tuple)
            assert isinstance(theirs, tuple)
            assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_refusal_comes_back_from_a_process_as_it_is(photos: Sequence[Path]) -> None:
    small = Decoder((48,), "min", 100)
    ((_, refused),) = next(decoded_chunks(photos[:1], small, size=4, workers=1, kind="processes"))
    assert isinstance(refused, TooManyPixels)
    assert refused.allowed == 100


def test_a_file_that_kills_its_process_takes_no_other_with_it(photos: Sequence[Path], tmp_path: Path) -> None:
    deadly = [tmp_path / f"deadly-{number}.jpg" for number in range(2)]
    paths = [photos[0], deadly[0], photos[1], photos[2], deadly[1], photos[3]]
    decoder = Deadly((48,), "min", 10_000)
    pairs = [pair for chunk in decoded_chunks(paths, decoder, size=3, workers=2, kind="processes") for pair in chunk]
    assert [path for path, _ in pairs] == paths
    for path, decoded in pairs:
        if path in deadly:
            assert isinstance(decoded, UnreadableImage)
            assert "the process that decoded it died" in str(decoded)
        else:
            assert isinstance(decoded, tuple)


def test_the_extractor_decodes_in_processes(
    tiny: Backbone, tiny_extractor: RMACExtractor, photos: Sequence[Path]
) -> None:
    extractor = RMACExtractor(tiny, weights="random", whitening=None, workers=1, decode_in="processes")
    np.testing.assert_allclose(extractor.extract(photos[:5]), tiny_extractor.extract(photos[:5]), atol=1e-5)
    assert extractor.spec() == tiny_extractor.spec()
    with pytest.raises(InvalidInput, match="expected 'threads' or 'processes'"):
        RMACExtractor(tiny, weights="random", whitening=None, decode_in="fibres")  # type: ignore[arg-type]
