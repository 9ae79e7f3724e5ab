"""The one tree of exceptions: what deepterms raises on purpose.

DeepTermsError
├── InvalidInput                 a value the caller gave (also a ValueError)
│   ├── UnreadableImage          one picture that cannot be decoded
│   │   └── TooManyPixels        one that is larger than is taken
│   ├── UnreadableImages         several of them, after the readable ones were processed
│   ├── EncoderMismatch          terms or vectors made for another encoder
│   ├── MissingPivots            the spec of an encoder whose pivots are not given, or are others
│   └── CheckpointMismatch       a checkpoint of another index, or no checkpoint
├── MissingExtra                 an optional dependency that is not installed (also an ImportError)
├── FeatureStoreError            a feature store that is damaged or belongs to another extractor
├── PackageUnavailable           a package that photographs come from cannot be downloaded
├── NodeError                    the embedded OpenSearch cannot be assembled, started or stopped
└── ClusterError                 anything the cluster answered or failed to answer
    ├── ClusterUnreachable       no answer
    ├── RequestRejected           an answer that says no; carries the HTTP status
    ├── UnsupportedEngine        the engine or its version cannot do what was asked
    ├── IndexNotFound
    ├── IndexAlreadyExists
    ├── PivotsUnavailable        the pivots of an index are not in the cluster, or damaged
    ├── MigrationFailed          an index cannot be moved to a new one now; the name still points to the old
    └── DeploymentConflict       a resource differs from what would be deployed; carries the diff
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "CheckpointMismatch",
    "ClusterError",
    "ClusterUnreachable",
    "DeepTermsError",
    "DeploymentConflict",
    "EncoderMismatch",
    "FeatureStoreError",
    "IndexAlreadyExists",
    "IndexNotFound",
    "InvalidInput",
    "MigrationFailed",
    "MissingExtra",
    "MissingPivots",
    "NodeError",
    "PackageUnavailable",
    "PivotsUnavailable",
    "RequestRejected",
    "TooManyPixels",
    "UnreadableImage",
    "UnreadableImages",
    "UnsupportedEngine",
]


class DeepTermsError(Exception):
    """Base of every error that deepterms raises on purpose."""


class InvalidInput(DeepTermsError, ValueError):
    """A value given by the caller is not usable; the message says what was expected and what to do."""


class UnreadableImage(InvalidInput):
    """A picture cannot be decoded, or is refused because decoding it would be dangerous."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Crosses process boundaries (decoding happens in workers)."""
        return (type(self), (self.path, self.reason))


class TooManyPixels(UnreadableImage):
    """A picture has more pixels than are taken.

    Attributes:
        pixels: that its header announces.
        allowed: at most.
    """

    def __init__(self, path: str | Path, *, width: int, height: int, allowed: int) -> None:
        super().__init__(
            path,
            f"{width} x {height} = {width * height} pixels, more than the {allowed} allowed; "
            "pass a larger max_pixels if you trust the file",
        )
        self.width, self.height, self.allowed = width, height, allowed

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Crosses process boundaries."""
        return (_too_many_pixels, (self.path, self.width, self.height, self.allowed))


def _too_many_pixels(path: Path, width: int, height: int, allowed: int) -> TooManyPixels:
    return TooManyPixels(path, width=width, height=height, allowed=allowed)


class UnreadableImages(InvalidInput):
    """Some pictures of a batch cannot be decoded.

    Attributes:
        failures: one UnreadableImage a picture, in the order given.
    """

    def __init__(self, failures: list[UnreadableImage]) -> None:
        first = "; ".join(str(failure) for failure in failures[:3])
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        super().__init__(
            f"{len(failures)} of the pictures cannot be read: {first}{more}. "
            "Leave them out, or use RMACExtractor.stream, which reports each one and goes on."
        )
        self.failures = failures


class EncoderMismatch(InvalidInput):
    """Terms or vectors were made for another encoder than the index's."""


class MissingPivots(InvalidInput):
    """An encoder's spec names pivots that were not given, or others than those given."""


class CheckpointMismatch(InvalidInput):
    """A checkpoint file belongs to another index or encoder, or is something else."""


class MissingExtra(DeepTermsError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; install it with: pip install "deepterms[{extra}]"')
        self.package = package
        self.extra = extra


class FeatureStoreError(DeepTermsError):
    """A feature store is damaged, or was written with other settings."""


class PackageUnavailable(DeepTermsError):
    """A package cannot be downloaded here; the message is the client's own, or says which client is missing."""


class NodeError(DeepTermsError):
    """The embedded OpenSearch node cannot be assembled, started, reached or stopped."""


class ClusterError(DeepTermsError):
    """Something the cluster answered, or failed to answer."""


class ClusterUnreachable(ClusterError):
    """The cluster did not answer."""


class RequestRejected(ClusterError):
    """The cluster answered with an error.

    Attributes:
        status: the HTTP status.
        body: the answer as parsed from JSON, or its text.
    """

    def __init__(self, message: str, *, status: int, body: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class UnsupportedEngine(ClusterError):
    """The engine, or its version, cannot do what was asked."""


class IndexNotFound(ClusterError):
    """No index of that name."""


class IndexAlreadyExists(ClusterError):
    """An index or alias of that name is there already."""


class PivotsUnavailable(ClusterError):
    """The pivots that an index needs are not in the cluster beside it, or damaged."""


class MigrationFailed(ClusterError):
    """An index cannot be moved to a new one: another migration runs, or what was copied is not equal."""


class DeploymentConflict(ClusterError):
    """A template or pipeline in the cluster is not to be overwritten by the one to deploy.

    Attributes:
        diffs: resource's file → unified diff, cluster's body against ours.
    """

    def __init__(self, message: str, *, diffs: Mapping[str, str]) -> None:
        super().__init__(message)
        self.diffs = dict(diffs)
