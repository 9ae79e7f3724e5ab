"""Blocks: apply a function to descriptors block by block, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["map_blocks"]

T = TypeVar("T")


def map_blocks(function: Callable[[NDArray[np.float32]], T], blocks: list[NDArray[np.float32]]) -> list[T]:
    """Apply a function to blocks (n, D) in parallel and return its results in the order of the blocks.

    Threads suffice: numpy releases the interpreter's lock while it sorts.
    """
    if len(blocks) <= 1:
        return list(map(function, blocks))
    with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1)) as pool:
        return list(pool.map(function, blocks))
