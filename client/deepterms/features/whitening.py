"""Region vectors of many photos into a PCA whitening, and the whitening into a file.

Whitening the regions before they are summed prevents a few frequent patterns from dominating the descriptor (Jégou and
Chum, "Negative evidences and co-occurrences in image retrieval", ECCV 2012); Gordo et al. do the same with a layer.

The file is an `.npz` without pickles: `mean` float32 (C,), `directions` float16 (D, C) and `scales` float32 (D,),
powers of two that scale each row into [-1, 1], so that float16 neither overflows nor loses small rows. Loading and
saving it again gives the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["PCAWhitening"]


@dataclass(frozen=True, eq=False)
class PCAWhitening:
    """A linear map that gives its training vectors zero mean and identity covariance.

    Attributes:
        mean: float32 (C,), subtracted first.
        projection: float32 (D, C), D ≤ C; rows in descending order of the training vectors' variance.
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]

    def __post_init__(self) -> None:
        mean, projection = np.array(self.mean, dtype=np.float32), np.array(self.projection, dtype=np.float32)
        if mean.ndim != 1 or projection.ndim != 2 or projection.shape[1] != len(mean) or 0 in projection.shape:
            raise InvalidInput(
                f"mean has shape {mean.shape} and projection {projection.shape}; expected (C,) and (D, C), not empty"
            )
        if not (np.isfinite(mean).all() and np.isfinite(projection).all()):
            raise InvalidInput("the whitening contains NaN or infinity; expected finite values")
        for name, array in (("mean", mean), ("projection", projection)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.floating[Any]] | Iterable[NDArray[np.floating[Any]]],
        *,
        dimensions: int | None = None,
        regularisation: float = 0.0,
    ) -> PCAWhitening:
        """Learn a whitening.

        Args:
            vectors: float (N, C), or batches of them; only their float64 moments (C, C) are kept in memory.
            dimensions: number of directions with the largest variance to keep, D; by default all C.
            regularisation: added to every variance, as a share of the largest. It limits the amplification of
                directions in which the training vectors hardly differ, which are mostly noise. With 0 the whitened
                training vectors have identity covariance.

        Returns:
            The whitening. Each row's largest component is positive, so that the result is the same on every platform.
        """
        count, mean, covariance = _compute_moments([vectors] if isinstance(vectors, np.ndarray) else vectors)
        channels = len(mean)
        kept = channels if dimensions is None else dimensions
        if not 1 <= kept <= channels:
            raise InvalidInput(f"dimensions is {dimensions}; expected 1 to {channels}, the number of channels")
        if not 0 <= regularisation < np.inf:
            raise InvalidInput(f"regularisation is {regularisation}; expected 0 or more")
        variances, directions = np.linalg.eigh(covariance)  # ascending (C,), columns (C, C)
        variances, directions = variances[::-1], directions[:, ::-1].T
        floor = variances[0] * channels * np.finfo(np.float64).eps * 10
        if variances[0] <= 0:
            raise InvalidInput(f"all {count} training vectors are equal; there is nothing to whiten")
        regularised = np.maximum(variances, 0) + regularisation * variances[0]
        if regularised[kept - 1] <= floor:
            rank = int((variances > floor).sum())
            raise InvalidInput(
                f"{count} training vectors vary in only {rank} of the {kept} directions requested; "
                f"pass more photos, dimensions={rank} or less, or a regularisation such as 1e-4"
            )
        directions = directions[:kept]
        largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)  # (D, 1)
        projection = directions * np.sign(largest) / np.sqrt(regularised[:kept, None])
        return cls(mean.astype(np.float32), projection.astype(np.float32))

    @classmethod
    def load(cls, path: str | Path) -> PCAWhitening:
        """Read a file that `save` wrote.

        Raises:
            InvalidInput: the file is missing, damaged or something else.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                mean, directions, scales = stored["mean"], stored["directions"], stored["scales"]
        # On damaged files numpy and zipfile raise anything: BadZipFile, KeyError, SyntaxError…
        except Exception as error:
            raise InvalidInput(f"{path} is not a whitening written by PCAWhitening.save: {error}") from error
        if directions.ndim != 2 or scales.shape != directions.shape[:1]:
            raise InvalidInput(f"{path} is damaged: directions {directions.shape} do not match scales {scales.shape}")
        if not all(array.dtype.kind == "f" for array in (mean, directions, scales)):
            raise InvalidInput(f"{path} contains {mean.dtype}, {directions.dtype} and {scales.dtype}; expected floats")
        with np.errstate(over="ignore", invalid="ignore"):  # the constructor rejects values that are not finite
            return cls(mean, directions.astype(np.float32) * scales[:, None])

    def save(self, path: str | Path) -> None:
        """Write the whitening with its directions rounded to float16 (three significant digits)."""
        directions, scales = self._round_to_float16()
        with Path(path).open("wb") as file:
            np.savez(file, mean=self.mean, directions=directions, scales=scales)

    def apply(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Whiten vectors.

        Args:
            vectors: float (N, C).

        Returns:
            float32 (N, D), not normalised.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.channels:
            raise InvalidInput(f"vectors have shape {vectors.shape}; expected (N, {self.channels})")
        whitened: NDArray[np.float32] = (vectors.astype(np.float32) - self.mean) @ self.projection.T
        return whitened

    @property
    def channels(self) -> int:
        """Length C of the input vectors."""
        return len(self.mean)

    @property
    def dimensions(self) -> int:
        """Length D of the whitened vectors."""
        return len(self.projection)

    @cached_property
    def checksum(self) -> str:
        """A hash of the saved form: the same before `save` and after `load`, although saving rounds."""
        directions, scales = self._round_to_float16()
        rounded = np.ascontiguousarray(directions.astype("<f4") * scales[:, None].astype("<f4"))
        return "sha256:" + hashlib.sha256(self.mean.astype("<f4").tobytes() + rounded.tobytes()).hexdigest()[:16]

    def _round_to_float16(self) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Split the projection into float16 (D, C) in [-1, 1] and float32 powers of two (D,)."""
        largest = np.abs(self.projection).max(axis=1)
        scales = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1)))).astype(np.float32)
        return (self.projection / scales[:, None]).astype(np.float16), scales


def _compute_moments(
    batches: Iterable[NDArray[np.floating[Any]]],
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Merge batches into the count, mean (C,) and covariance (C, C) of all rows (Chan, Golub and LeVeque 1979)."""
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for batch in batches:
        if batch.ndim != 2 or batch.shape[1] == 0 or (count and batch.shape[1] != len(mean)):
            expected = len(mean) if count else "C"
            raise InvalidInput(f"training vectors have shape {batch.shape}; expected (N, {expected})")
        if not np.isfinite(batch).all():
            raise InvalidInput("the training vectors contain NaN or infinity; expected finite values")
        if len(batch) == 0:
            continue
        rows = batch.astype(np.float64)
        batch_mean = rows.mean(axis=0)
        centred = rows - batch_mean
        if count == 0:
            mean, scatter = np.zeros(rows.shape[1]), np.zeros((rows.shape[1], rows.shape[1]))
        # The difference of sums of squares and squared sums would lose all digits; differences of means do not.
        shift = batch_mean - mean
        total = count + len(rows)
        scatter += centred.T @ centred + np.outer(shift, shift) * (count * len(rows) / total)
        mean = mean + shift * (len(rows) / total)
        count = total
    if count < 2:
        raise InvalidInput(f"got {count} training vectors; expected at least 2, and more vectors than channels")
    return count, mean, scatter / (count - 1)
