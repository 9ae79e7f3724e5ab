"""Image files into pixels ready for the network, decoded by threads or processes ahead of their use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

from deepterms.errors import UnreadableImage
from deepterms.features.images import Pixels, load_image, resize_image

__all__ = ["Decoded", "DecodingPool", "Workers", "decode_file"]

Decoded: TypeAlias = "tuple[Pixels, ...] | UnreadableImage"
Workers: TypeAlias = Literal["threads", "processes"]


def decode_file(path: Path, *, sizes: Sequence[int], side: Literal["min", "max"], max_pixels: int) -> Decoded:
    """Decode one file and resize the image to each size.

    Args:
        path: the file.
        sizes: target lengths of `side`, in pixels.
        side: whether `sizes` apply to the shorter ("min") or the longer ("max") side.
        max_pixels: larger images are rejected.

    Returns:
        One uint8 (H, W, 3) per size, or the error, if the file cannot be decoded.
    """
    try:
        return resize_image(load_image(path, max_pixels=max_pixels, min_side=max(sizes)), sizes, side=side)
    except UnreadableImage as error:
        return error


class DecodingPool:
    """Workers that decode files; a worker process that dies is replaced. Use it as a context manager."""

    def __init__(self, decode: Callable[[Path], Decoded], *, workers: int, kind: Workers) -> None:
        """Start the workers.

        Args:
            decode: applied to each file, such as a `partial` of `decode_file`; processes need it to be picklable.
            workers: files decoded at the same time.
            kind: of the workers. Processes are spawned, so a script that uses them must guard its entry point with
                ``if __name__ == "__main__"``, as `multiprocessing` requires.
        """
        self._decode = decode
        self._workers = workers
        self._kind = kind
        self._executor = self._start(workers)

    def __enter__(self) -> DecodingPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def decode_chunks(self, paths: Iterable[str | Path], *, size: int) -> Iterator[list[tuple[Path, Decoded]]]:
        """Decode files in chunks, in input order. The next chunk is decoded while the current one is in use.

        A file that kills its process (by crashing the decoder or by exhausting memory) affects no other file.

        Args:
            paths: the files, read as needed.
            size: files per chunk.
        """
        remaining = iter(paths)

        def submit() -> list[tuple[Path, Future[Decoded]]]:
            return [(Path(path), self._submit(Path(path))) for path in islice(remaining, size)]

        current = submit()
        while current:
            following = submit()
            yield [(path, self._wait(future, path)) for path, future in current]
            current = following

    def _submit(self, path: Path) -> Future[Decoded]:
        try:
            return self._executor.submit(self._decode, path)
        except BrokenProcessPool:
            self._executor.shutdown(cancel_futures=True)
            self._executor = self._start(self._workers)
            return self._executor.submit(self._decode, path)

    def _wait(self, future: Future[Decoded], path: Path) -> Decoded:
        """Return what was decoded. A dead process fails every pending file, so each is retried in its own process."""
        try:
            return future.result()
        except BrokenProcessPool:
            with self._start(1) as executor:
                try:
                    return executor.submit(self._decode, path).result()
                except BrokenProcessPool:
                    return UnreadableImage(path, "the process that decoded it died")

    def _start(self, workers: int) -> Executor:
        if self._kind == "threads":
            return ThreadPoolExecutor(workers, thread_name_prefix="deepterms-decode")
        # Spawned, not forked: a fork would copy locks that torch's and CUDA's threads hold, and nothing releases them.
        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
