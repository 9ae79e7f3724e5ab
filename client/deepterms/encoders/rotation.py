"""Random rotations of descriptors that every machine computes identically, bit for bit."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SEED", "draw_signs", "rotate", "round_up_to_power_of_two"]

MAX_SEED = 2**63 - 1


def round_up_to_power_of_two(dimensions: int) -> int:
    """Return D′, the smallest power of two that is at least D."""
    return int(2 ** (dimensions - 1).bit_length())


def draw_signs(label: str, dimensions: int) -> NDArray[np.float32]:
    """Draw pseudorandom signs, float32 (D,), from the SHAKE-256 hash of a label, which is the same on every machine."""
    stream = hashlib.shake_256(label.encode())
    bits = np.unpackbits(np.frombuffer(stream.digest(-(-dimensions // 8)), dtype=np.uint8))
    signs: NDArray[np.float32] = (1 - 2 * bits[:dimensions].astype(np.float32)).astype(np.float32)
    return signs


def rotate(block: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotate descriptors randomly, which preserves the angles between them but not their lengths.

    Components are multiplied by the signs, padded with zeros to a power of two, and multiplied by a Hadamard matrix
    (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", 2009). The float32 sums have a fixed order, unlike
    those of a product with a random orthogonal matrix. Time O(n·D′·log D′).

    Args:
        block: float32 (n, D), each row finite and not zero.
        signs: float32 (D,), from `draw_signs`.

    Returns:
        float32 (n, D′). Each row has its own scale, chosen so that no sum overflows.
    """
    n, D = block.shape
    size = round_up_to_power_of_two(D)
    # Scaling by a power of two brings the largest component near 1. It changes no rank and prevents overflow.
    scale = np.ldexp(1.0, -np.frexp(np.abs(block).max(axis=1, keepdims=True))[1])
    sums = np.zeros((n, size), dtype=np.float32)
    sums[:, :D] = block * scale * signs
    half = 1
    while half < size:  # the Walsh-Hadamard transform in Sylvester's order
        pairs = sums.reshape(n, size // (2 * half), 2, half)
        sums = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    return sums.reshape(n, size)
