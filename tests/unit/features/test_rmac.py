from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.features.regions import place_regions
from deepterms.features.rmac import combine_regions, combine_sizes, compute_rmac, pool_regions

Vector = NDArray[np.float64]


def unit(vector: Vector) -> Vector:
    length = np.sqrt((vector * vector).sum())
    return vector / length if length > 0 else vector


def slow_rmac(feature_map: Vector, levels: int, mean: Vector | None = None, projection: Vector | None = None) -> Vector:
    """The definition, one number at a time, in float64."""
    channels, height, width = feature_map.shape
    total: Vector | None = None
    for top, left, side in place_regions(height, width, levels=levels).tolist():
        pooled = np.full(channels, -np.inf)
        for channel in range(channels):
            for row in range(top, top + side):
                for column in range(left, left + side):
                    pooled[channel] = max(pooled[channel], feature_map[channel, row, column])
        region = unit(pooled)
        if mean is not None and projection is not None:
            region = unit(np.array([row @ (region - mean) for row in projection]))
        total = region if total is None else total + region
    assert total is not None
    return unit(total)


@pytest.mark.parametrize("shape", [(7, 7), (7, 10), (10, 7), (1, 1), (1, 6), (2, 3), (3, 20)])
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("whitened", [False, True])
def test_equals_the_definition(shape: tuple[int, int], levels: int, whitened: bool) -> None:
    rng = np.random.default_rng(levels)
    maps = np.maximum(rng.normal(size=(3, 6, *shape)), 0)
    mean, projection = rng.normal(size=6) * 0.1, rng.normal(size=(4, 6))
    whitening = (torch.tensor(mean).float(), torch.tensor(projection).float()) if whitened else None
    got = compute_rmac(torch.tensor(maps).float(), levels=levels, whitening=whitening).numpy()
    for row, feature_map in zip(got, maps, strict=True):
        expected = slow_rmac(feature_map, levels, *((mean, projection) if whitened else (None, None)))
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_worked_by_hand() -> None:
    # Two channels on 2 x 2 cells; level 2 has four regions of one cell.
    maps = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]], [[4.0, 2.0], [0.0, 0.0]]]])
    regions = pool_regions(maps, levels=2)
    expected = [[0.6, 0.8], [0.6, 0.8], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    torch.testing.assert_close(regions, torch.tensor([expected]))
    torch.testing.assert_close(combine_regions(regions), torch.tensor([[1.2, 2.6]]) / (1.2**2 + 2.6**2) ** 0.5)


def test_shapes_and_norms() -> None:
    maps = torch.rand(5, 8, 6, 9, generator=torch.Generator().manual_seed(0))
    assert pool_regions(maps, levels=2).shape == (5, len(place_regions(6, 9, levels=2)), 8)
    descriptors = compute_rmac(maps)
    assert descriptors.shape == (5, 8)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(5))


def test_a_map_without_activations_gives_zero_not_nan() -> None:
    assert compute_rmac(torch.zeros(1, 4, 5, 5)).tolist() == [[0.0] * 4]


def test_memory_format_makes_no_difference() -> None:
    maps = torch.rand(2, 8, 6, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(compute_rmac(maps), compute_rmac(maps.to(memory_format=torch.channels_last)))


def test_sizes_are_summed() -> None:
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    expected = torch.tensor([[1.6, 0.8]]) / (1.6**2 + 0.8**2) ** 0.5
    torch.testing.assert_close(combine_sizes(torch.stack([first, second])), expected)
    torch.testing.assert_close(combine_sizes(second[None]), second)


@pytest.mark.parametrize("shape", [(4, 5, 5), (1, 4, 0, 5), (0, 4, 5, 5), (1, 0, 5, 5)])
def test_maps_of_other_shapes_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"expected \(B, C, H, W\)"):
        compute_rmac(torch.zeros(shape))


@pytest.mark.parametrize(("mean", "projection"), [((5,), (4, 6)), ((6,), (4, 5)), ((6,), (6,))])
def test_a_whitening_of_other_channels_is_rejected(mean: tuple[int, ...], projection: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="6 channels"):
        compute_rmac(torch.rand(1, 6, 3, 3), whitening=(torch.zeros(mean), torch.zeros(projection)))


def test_vectors_of_other_shapes_are_rejected() -> None:
    with pytest.raises(InvalidInput, match=r"expected \(B, R, C\)"):
        combine_regions(torch.rand(3, 4))
    with pytest.raises(InvalidInput, match=r"expected \(S, B, D\)"):
        combine_sizes(torch.rand(0, 3, 4))
