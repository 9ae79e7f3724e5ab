"""Decoding: picture files into pixels ready for the network, in threads or processes, ahead of whoever takes them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from deepterms.errors import UnreadableImage
from deepterms.features.images import Pixels, load_image, resized_pixels

__all__ = ["Decoded", "Decoder", "Workers", "decoded_chunks"]

Decoded: TypeAlias = "tuple[Pixels, ...] | UnreadableImage"
Workers: TypeAlias = Literal["threads", "processes"]


@dataclass(frozen=True)
class Decoder:
    """What becomes of each file.

    Attributes:
        sizes: a picture is resized to each.
        side: which side of it they speak of.
        max_pixels: larger pictures are refused.
    """

    sizes: tuple[int, ...]
    side: Literal["min", "max"]
    max_pixels: int

    def __call__(self, path: Path) -> Decoded:
        """One uint8 (H, W, 3) a size, or why there is none."""
        try:
            picture = load_image(path, max_pixels=self.max_pixels, min_side=max(self.sizes))
            return resized_pixels(picture, self.sizes, side=self.side)
        except UnreadableImage as error:
            return error


def decoded_chunks(
    paths: Iterable[str | Path], decoder: Decoder, *, size: int, workers: int, kind: Workers
) -> Iterator[list[tuple[Path, Decoded]]]:
    """Files in the order given, so many at a time; one chunk is decoded while the one before it is used.

    A process that a file kills (a decoder that crashes, or memory that is not there) takes none but that file with it.

    Args:
        paths: the files, read as needed.
        decoder: applied to each.
        size: files of a chunk.
        workers: how many are decoded at once.
        kind: of the workers. Processes start anew, so a script that uses them has its calls under
            ``if __name__ == "__main__"``, as for `multiprocessing`.
    """
    remaining = iter(paths)
    pool = _Pool(kind, workers)

    def submit() -> list[tuple[Path, Future[Decoded]]]:
        return [(Path(path), pool.submit(decoder, Path(path))) for path in islice(remaining, size)]

    try:
        current = submit()
        while current:
            following = submit()
            yield [(path, pool.result(future, decoder, path)) for path, future in current]
            current = following
    finally:
        pool.close()


class _Pool:
    """Workers, replaced once one of them has died."""

    def __init__(self, kind: Workers, workers: int) -> None:
        self._kind, self._workers = kind, workers
        self._executor = self._started(workers)

    def submit(self, decoder: Decoder, path: Path) -> Future[Decoded]:
        try:
            return self._executor.submit(decoder, path)
        except BrokenProcessPool:
            self.close()
            self._executor = self._started(self._workers)
            return self._executor.submit(decoder, path)

    def result(self, future: Future[Decoded], decoder: Decoder, path: Path) -> Decoded:
        """What was decoded. All that a dead process leaves undone fails alike, so each of these is tried alone."""
        try:
            return future.result()
        except BrokenProcessPool:
            with self._started(1) as alone:
                try:
                    return alone.submit(decoder, path).result()
                except BrokenProcessPool:
                    return UnreadableImage(path, "the process that decoded it died")

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _started(self, workers: int) -> Executor:
        if self._kind == "threads":
            return ThreadPoolExecutor(workers, thread_name_prefix="deepterms-decode")
        # Started anew, not forked: what torch's and CUDA's threads hold at that moment would be held for ever.
        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
