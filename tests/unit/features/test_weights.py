"""Weight files in the formats of their publishers: their names and shapes, with random values."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
from torch import Tensor

from deepterms.errors import InvalidInput
from deepterms.features.backbones import BACKBONES
from deepterms.features.weights import read_state_dict

THEIR_MODULES = ("sklearn", "sklearn.decomposition", "sklearn.decomposition.pca", "utils", "utils.watcher")


@pytest.fixture(scope="module")
def torchvision_state() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return dict(torchvision.models.resnet101(weights=None).state_dict())


@pytest.fixture
def their_modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Classes of programs that are not installed when the file is read."""
    made: dict[str, type] = {}
    for path in THEIR_MODULES:
        monkeypatch.setitem(sys.modules, path, ModuleType(path))
    for path, name in ((THEIR_MODULES[2], "PCA"), (THEIR_MODULES[4], "AverageMeter")):
        made[name] = type(name, (), {"__module__": path})
        setattr(sys.modules[path], name, made[name])
    return made


def gordo_checkpoint(state: dict[str, Tensor], their: dict[str, type]) -> dict[str, Any]:
    """Like those of github.com/naver/deep-image-retrieval, from PyTorch 0.3, whose batch norm counted no batches."""
    pca, meter = their["PCA"](), their["AverageMeter"]()
    pca.__dict__ |= {"mean_": np.zeros(8), "components_": np.eye(8), "whiten": True}
    meter.__dict__ |= {"values": [1.0, 2.0]}
    trunk = {
        f"module.{name}": value
        for name, value in state.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    head = {"module.adpool.p": torch.full((1,), 3.0), "module.fc.bias": torch.zeros(2_048)}
    return {
        "epoch": 12,
        "model_options": {"arch": "resnet101_rmac", "out_dim": 2_048, "pooling": "gem", "gemp": 3},
        "state_dict": trunk | head | {"module.fc.weight": torch.zeros(2_048, 2_048)},
        "pca": {"Landmarks_clean": pca},
        "watcher": meter,
    }


def test_the_trunk_has_the_published_names_and_shapes() -> None:
    names = {name: tuple(value.shape) for name, value in BACKBONES["resnet101"].build().state_dict().items()}
    assert names["conv1.weight"] == (64, 3, 7, 7)
    assert names["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert names["layer3.22.conv2.weight"] == (256, 256, 3, 3)
    assert names["layer4.2.bn3.running_var"] == (2_048,)
    assert not any(name.startswith(("fc", "avgpool")) for name in names)


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_gordo_et_al_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torchvision_state: dict[str, Tensor],
    their_modules: dict[str, type],
    zipped: bool,
) -> None:
    path = tmp_path / "Resnet-101-AP-GeM.pt"
    torch.save(gordo_checkpoint(torchvision_state, their_modules), path, _use_new_zipfile_serialization=zipped)
    for module in THEIR_MODULES:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    torch.save(torchvision_state, tmp_path / "resnet101-63fe2227.pth")
    theirs, plain = (BACKBONES["resnet101"].load(tmp_path / name) for name in (path.name, "resnet101-63fe2227.pth"))
    pictures = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain.network(pictures)
        torch.testing.assert_close(theirs.network(pictures), expected)
    assert expected.abs().max() > 0
    assert theirs.checksum == plain.checksum


class _Runs:
    """Runs code when plain pickle reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_in_a_file_is_run(tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "was-run"
    pickle.loads(pickle.dumps(_Runs(trap)))
    assert trap.exists()  # the trap works
    trap.unlink()
    state = {"conv.weight": torch.arange(3.0)}
    torch.save({"state_dict": state, "more": _Runs(trap)}, tmp_path / "it.pth", _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_state_dict(tmp_path / "it.pth")["conv.weight"], torch.arange(3.0))
    assert not trap.exists()


def test_objects_in_place_of_tensors_are_rejected(tmp_path: Path) -> None:
    torch.save({"conv.weight": _Runs(tmp_path / "was-run")}, tmp_path / "it.pth")
    with pytest.raises(InvalidInput, match="expected a state dict"):
        read_state_dict(tmp_path / "it.pth")


def test_weights_of_a_smaller_network_are_rejected(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    with pytest.raises(InvalidInput, match="not the weights of this network"):
        BACKBONES["resnet101"].load(tmp_path / "resnet50.pth")
