"""Feature maps into R-MAC descriptors: pure functions of torch tensors.

max-pool of every region → L2 → PCA whitening → L2 → sum over regions → L2, then sum over picture sizes → L2 (Tolias et
al. 2016; Gordo et al., "End-to-end learning of deep visual representations for image retrieval", IJCV 2017, Section 3).
"""

from __future__ import annotations

from deepterms.errors import InvalidInput, MissingExtra
from deepterms.features.regions import DEFAULT_LEVELS, region_grid

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise MissingExtra("torch", "features") from error

__all__ = ["combine_regions", "combine_sizes", "region_vectors", "rmac"]


def rmac(maps: Tensor, *, levels: int = DEFAULT_LEVELS, whitening: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Describes each feature map by one vector.

    Args:
        maps: float (B, C, H, W).
        levels: scales of the region grid.
        whitening: mean (C,) and projection (D, C), or None for the plain descriptor (then D = C).

    Returns:
        float (B, D), rows L2-normalised.
    """
    return combine_regions(region_vectors(maps, levels=levels), whitening=whitening)


def region_vectors(maps: Tensor, *, levels: int = DEFAULT_LEVELS) -> Tensor:
    """Max-pools every region of every map.

    Args:
        maps: float (B, C, H, W).
        levels: scales of the region grid.

    Returns:
        float (B, R, C), each region's vector L2-normalised; a region without any activation stays zero.
    """
    if maps.ndim != 4 or 0 in maps.shape:
        raise InvalidInput(f"feature maps have shape {tuple(maps.shape)}; expected (B, C, H, W), none of them 0")
    grid = region_grid(maps.shape[2], maps.shape[3], levels=levels).tolist()
    pooled = [maps[:, :, top : top + side, left : left + side].amax(dim=(2, 3)) for top, left, side in grid]
    return _normalized(torch.stack(pooled, dim=1))  # (B, R, C)


def combine_regions(regions: Tensor, *, whitening: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Whitens the vectors of the regions and sums them.

    Args:
        regions: float (B, R, C), L2-normalised along C.
        whitening: mean (C,) and projection (D, C), or None.

    Returns:
        float (B, D), rows L2-normalised.
    """
    if regions.ndim != 3 or 0 in regions.shape:
        raise InvalidInput(f"region vectors have shape {tuple(regions.shape)}; expected (B, R, C), none of them 0")
    if whitening is not None:
        mean, projection = whitening
        channels = regions.shape[2]
        if mean.shape != (channels,) or projection.ndim != 2 or projection.shape[1] != channels:
            raise InvalidInput(
                f"the whitening has mean {tuple(mean.shape)} and projection {tuple(projection.shape)}; "
                f"regions of {channels} channels need ({channels},) and (D, {channels})"
            )
        regions = _normalized((regions - mean) @ projection.T)  # (B, R, D)
    return _normalized(regions.sum(dim=1))


def combine_sizes(descriptors: Tensor) -> Tensor:
    """Sums the descriptors that the same pictures got at several sizes.

    Args:
        descriptors: float (S, B, D), L2-normalised along D.

    Returns:
        float (B, D), rows L2-normalised.
    """
    if descriptors.ndim != 3 or descriptors.shape[0] == 0:
        raise InvalidInput(f"descriptors have shape {tuple(descriptors.shape)}; expected (S, B, D) with S of 1 or more")
    return _normalized(descriptors.sum(dim=0))


def _normalized(vectors: Tensor) -> Tensor:
    """L2-normalises along the last axis; zero vectors stay zero."""
    return torch.nn.functional.normalize(vectors, dim=-1, eps=1e-12)
