from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepterms import features
from deepterms.features import FeatureStore, RMACExtractor, extract_to_store, find_images
from tests.unit.features.odd_files import photograph, write_odd_but_good, write_odd_files


def run(code: str) -> None:
    finished = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_importing_the_package_is_light() -> None:
    run(
        "import sys, deepterms.features as f\n"
        "heavy = {'torch', 'torchvision', 'PIL', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "f.read_npy\n"
        "heavy = {'torch', 'torchvision', 'PIL', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )


@pytest.mark.parametrize(
    ("missing", "name"),
    [("torch", "RMACExtractor"), ("torch", "BACKBONES"), ("PIL", "load_image"), ("PIL", "find_images")],
)
def test_missing_packages_are_named_on_first_use(missing: str, name: str) -> None:
    run(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import deepterms.features as f\n"
        "from deepterms.errors import MissingExtra\n"
        "try:\n"
        f"    f.{name}\n"
        "except MissingExtra as error:\n"
        "    assert error.extra == 'features', error\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )


def test_every_public_name_can_be_imported() -> None:
    assert features.__all__ == sorted(features._MODULES) == dir(features)
    for name in features.__all__:
        assert getattr(features, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        features.nothing  # noqa: B018


def test_a_folder_with_broken_files_becomes_a_store(tiny_extractor: RMACExtractor, tmp_path: Path) -> None:
    good = write_odd_but_good(tmp_path / "photos" / "good")
    odd = write_odd_files(tmp_path / "photos" / "odd", 23)
    assert find_images(tmp_path / "photos") == [*good, *odd]
    report = extract_to_store(tiny_extractor, tmp_path / "photos", tmp_path / "store", shard_size=10)
    assert [failure.path for failure in report.failures] == odd
    store = FeatureStore.open(tmp_path / "store", extractor_spec=tiny_extractor.spec())
    assert store.ids == [f"good/{path.name}" for path in good]
    np.testing.assert_allclose(store.features_of(store.ids), tiny_extractor.extract(good), atol=1e-5)


def test_photographs_of_different_seeds_differ() -> None:
    assert not np.array_equal(photograph(1), photograph(2))
    assert np.array_equal(photograph(1), photograph(1))
