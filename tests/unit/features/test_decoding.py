from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deepterms.errors import InvalidInput, TooManyPixels, UnreadableImage
from deepterms.features.backbones import Backbone
from deepterms.features.decoding import Decoded, DecodingPool, decode_file
from deepterms.features.extractor import RMACExtractor
from tests.unit.features.odd_files import write_odd_files

decode = partial(decode_file, sizes=(48, 64), side="min", max_pixels=10_000)


def decode_or_die(path: Path) -> Decoded:
    """Ends the process for some files, like a decoder that crashes."""
    if path.name.startswith("deadly"):
        os._exit(1)
    return decode(path)


def test_processes_decode_what_threads_decode(photos: Sequence[Path], tmp_path: Path) -> None:
    odd = write_odd_files(tmp_path, 3)
    paths = [*photos[:3], *odd, *photos[3:6]]
    results = []
    for kind in ("threads", "processes"):
        with DecodingPool(decode, workers=2, kind=kind) as pool:
            results.append([pair for chunk in pool.decode_chunks(paths, size=4) for pair in chunk])
    threads, processes = results
    assert [path for path, _ in processes] == paths
    for (_, ours), (path, theirs) in zip(threads, processes, strict=True):
        if path in odd:
            assert isinstance(ours, UnreadableImage)
            assert str(theirs) == str(ours)
        else:
            assert isinstance(ours, tuple)
            assert isinstance(theirs, tuple)
            assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_process_returns_the_error_with_its_attributes(photos: Sequence[Path]) -> None:
    small = partial(decode_file, sizes=(48,), side="min", max_pixels=100)
    with DecodingPool(small, workers=1, kind="processes") as pool:
        ((_, rejected),) = next(pool.decode_chunks(photos[:1], size=4))
    assert isinstance(rejected, TooManyPixels)
    assert rejected.allowed == 100


def test_a_file_that_kills_its_process_affects_no_other(photos: Sequence[Path], tmp_path: Path) -> None:
    deadly = [tmp_path / f"deadly-{number}.jpg" for number in range(2)]
    paths = [photos[0], deadly[0], photos[1], photos[2], deadly[1], photos[3]]
    with DecodingPool(decode_or_die, workers=2, kind="processes") as pool:
        pairs = [pair for chunk in pool.decode_chunks(paths, size=3) for pair in chunk]
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
