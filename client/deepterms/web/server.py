"""Server: everything besides the index that the routes share, assembled once when the application is created."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.web.access import Access
from deepterms.web.decoder import SandboxedDecoder
from deepterms.web.limits import Limits
from deepterms.web.prometheus import Metrics
from deepterms.web.thread_pool import ThreadPool, ThreadPools
from deepterms.web.thumbnails import Thumbnails

__all__ = ["Extractor", "Server"]


class Extractor(Protocol):
    """Extracts descriptors from images; an `RMACExtractor` is one.

    Attributes:
        sizes: the sizes in pixels at which an image is described.
        side: which side of the image these are the lengths of.
    """

    sizes: tuple[int, ...]
    side: Literal["min", "max"]

    def extract_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Extract the descriptor, float32 (D,), of one image given as uint8 (H, W, 3) at each size."""
        ...


@dataclass(frozen=True)
class Server:
    """The parts of a server.

    Attributes:
        access: which requests are allowed.
        limits: on requests, clients and the server.
        metrics: what it counts.
        decoder: decodes uploaded images.
        thumbnails: of the photos that documents were indexed from.
        extractor: describes uploaded images; None if the server cannot search by image.
        pools: threads for blocking calls.
    """

    access: Access
    limits: Limits
    metrics: Metrics
    decoder: SandboxedDecoder
    thumbnails: Thumbnails
    extractor: Extractor | None
    pools: ThreadPools

    @classmethod
    def create(
        cls, *, extractor: Extractor | None, photos: Iterable[str | Path], access: Access, limits: Limits
    ) -> Server:
        """Create the parts that follow from the limits, and the gauges that watch them.

        Args:
            extractor: as in the class.
            photos: folders whose files may be shown as thumbnails.
            access: as in the class.
            limits: as in the class.

        Raises:
            InvalidInput: one of the folders does not exist or is not a folder.
        """
        metrics, pools, decoder = Metrics(), ThreadPools.create(limits), SandboxedDecoder(limits)
        for name, pool in pools.by_name().items():
            metrics.add_gauge(f"{name}_taken", f"Running and queued {name}.", partial(_count_pending, pool))
        metrics.add_gauge(
            "decoders_replaced", "Decoding processes that crashed or were killed.", lambda: decoder.replaced
        )
        return cls(access, limits, metrics, decoder, Thumbnails(photos, decoder), extractor, pools)

    def start(self) -> None:
        """Start the decoding processes."""
        self.decoder.start()

    def close(self) -> None:
        """Stop the threads and the decoding processes."""
        self.pools.close()
        self.decoder.close()


def _count_pending(pool: ThreadPool) -> float:
    return pool.pending
