"""Feature maps into R-MAC descriptors, as pure functions of torch tensors.

max-pool of every region → L2 → PCA whitening → L2 → sum over regions → L2, then sum over image sizes → L2 (Tolias et
al. 2016; Gordo et al., "End-to-end learning of deep visual representations for image retrieval", IJCV 2017, Section 3).
"""

from __future__ import annotations

from deepterms.errors import InvalidInput
from deepterms.features.regions import DEFAULT_LEVELS, place_regions
from deepterms.optional import require

with require("torch", "features"):
    import torch
    from torch import Tensor

__all__ = ["combine_regions", "combine_sizes", "compute_rmac", "pool_regions"]


def compute_rmac(
    maps: Tensor, *, levels: int = DEFAULT_LEVELS, whitening: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Compute the R-MAC descriptor of each feature map.

    Args:
        maps: float (B, C, H, W).
        levels: scales of the region grid.
        whitening: mean (C,) and projection (D, C), or None for no whitening (then D = C).

    Returns:
        float (B, D), rows L2-normalised.
    """
    return combine_regions(pool_regions(maps, levels=levels), whitening=whitening)


def pool_regions(maps: Tensor, *, levels: int = DEFAULT_LEVELS) -> Tensor:
    """Max-pool every region of every map.

    Args:
        maps: float (B, C, H, W).
        levels: scales of the region grid.

    Returns:
        float (B, R, C), each region's vector L2-normalised; a region without activations stays zero.
    """
    if maps.ndim != 4 or 0 in maps.shape:
        raise InvalidInput(f"feature maps have shape {tuple(maps.shape)}; expected (B, C, H, W), each at least 1")
    grid = place_regions(maps.shape[2], maps.shape[3], levels=levels).tolist()
    pooled = [maps[:, :, top : top + side, left : left + side].amax(dim=(2, 3)) for top, left, side in grid]
    return _normalise(torch.stack(pooled, dim=1))  # (B, R, C)


def combine_regions(regions: Tensor, *, whitening: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Whiten the vectors of the regions and sum them.

    Args:
        regions: float (B, R, C), L2-normalised along C.
        whitening: mean (C,) and projection (D, C), or None.

    Returns:
        float (B, D), rows L2-normalised.
    """
    if regions.ndim != 3 or 0 in regions.shape:
        raise InvalidInput(f"region vectors have shape {tuple(regions.shape)}; expected (B, R, C), each at least 1")
    if whitening is not None:
        mean, projection = whitening
        channels = regions.shape[2]
        if mean.shape != (channels,) or projection.ndim != 2 or projection.shape[1] != channels:
            raise InvalidInput(
                f"the whitening has mean {tuple(mean.shape)} and projection {tuple(projection.shape)}; "
                f"expected ({channels},) and (D, {channels}) for regions of {channels} channels"
            )
        regions = _normalise((regions - mean) @ projection.T)  # (B, R, D)
    return _normalise(regions.sum(dim=1))


def combine_sizes(descriptors: Tensor) -> Tensor:
    """Sum the descriptors of the same images at several sizes.

    Args:
        descriptors: float (S, B, D), L2-normalised along D.

    Returns:
        float (B, D), rows L2-normalised.
    """
    if descriptors.ndim != 3 or descriptors.shape[0] == 0:
        raise InvalidInput(f"descriptors have shape {tuple(descriptors.shape)}; expected (S, B, D), S at least 1")
    return _normalise(descriptors.sum(dim=0))


def _normalise(vectors: Tensor) -> Tensor:
    """L2-normalise along the last axis; zero vectors stay zero."""
    return torch.nn.functional.normalize(vectors, dim=-1, eps=1e-12)
