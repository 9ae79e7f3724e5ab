"""Random rotations of descriptors that are the same, bit for bit, on all machines."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SEED", "draw_signs", "rotate", "round_up_to_power_of_two"]

MAX_SEED = 2**63 - 1


def round_up_to_power_of_two(dimensions: int) -> int:
    """D′: the power of two that is not below D."""
    return int(2 ** (dimensions - 1).bit_length())


def draw_signs(label: str, dimensions: int) -> NDArray[np.float32]:
    """Random signs, float32 (D,): bits of SHAKE-256 of a text, which is the same everywhere and always."""
    stream = hashlib.shake_256(label.encode())
    bits = np.unpackbits(np.frombuffer(stream.digest(-(-dimensions // 8)), dtype=np.uint8))
    signs: NDArray[np.float32] = (1 - 2 * bits[:dimensions].astype(np.float32)).astype(np.float32)
    return signs


def rotate(block: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors turned into a random direction, as long as before in proportion to each other's components.

    Components are multiplied by signs, filled up with zeros to a power of two, and multiplied by a Hadamard matrix
    (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", 2009): float32 sums in a fixed order, which a
    product with a random orthogonal matrix would not be. Time O(n·D′·log D′).

    Args:
        block: float32 (n, D), each row finite and not zero.
        signs: float32 (D,), from `draw_signs`.

    Returns:
        float32 (n, D′). Each row has a factor of its own, by which no sum overflows.
    """
    n, D = block.shape
    size = round_up_to_power_of_two(D)
    # A power of two brings the largest component near 1: ranks stay, and no sum overflows.
    scale = np.ldexp(1.0, -np.frexp(np.abs(block).max(axis=1, keepdims=True))[1])
    sums = np.zeros((n, size), dtype=np.float32)
    sums[:, :D] = block * scale * signs
    half = 1
    while half < size:  # the Walsh-Hadamard transform in the order of Sylvester
        pairs = sums.reshape(n, size // (2 * half), 2, half)
        sums = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    return sums.reshape(n, size)
