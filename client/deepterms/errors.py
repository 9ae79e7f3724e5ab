"""The exceptions that deepterms raises on purpose, as one tree.

DeepTermsError
├── InvalidInput                 a value from the caller that cannot be used (also a ValueError)
│   ├── UnreadableImage          an image that cannot be decoded
│   │   └── TooManyPixels        an image larger than the limit
│   ├── UnreadableImages         several such images, raised after all the others were processed
│   ├── EncoderMismatch          terms or vectors made by a different encoder
│   ├── MissingPivots            an encoder's pivots are missing, or are not the ones its spec names
│   └── CheckpointMismatch       a checkpoint of a different index, or a file that is not a checkpoint
├── MissingExtra                 an optional dependency that is not installed (also an ImportError)
├── FeatureStoreError            a feature store that is damaged or belongs to a different extractor
├── PackageUnavailable           a package of photographs that cannot be downloaded
├── NodeError                    the embedded OpenSearch cannot be assembled, started or stopped
└── ClusterError                 a failed request, or a response that cannot be used
    ├── ClusterUnreachable       no response
    ├── RequestRejected          a response that rejects the request; carries the HTTP status
    │   └── IndexNotFound        no index has that name
    ├── UnsupportedEngine        the engine, or its version, lacks a feature that the call needs
    ├── IndexAlreadyExists       an index or alias with that name exists
    ├── PivotsUnavailable        the pivots of an index are missing from the cluster, or damaged
    ├── MigrationFailed          an index cannot be migrated now; its name still points to the old index
    └── DeploymentConflict       a deployed resource differs from the one to deploy; carries the diff

Every one of them can be pickled, so it crosses process boundaries with its attributes.
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
    """Base class of every exception that deepterms raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes.

        By default pickle calls the constructor with the message alone. Constructors with other arguments raise
        TypeError then, and a `multiprocessing.Pool` that cannot unpickle a worker's exception waits forever.
        """
        return (_restore, (type(self), self.args), self.__dict__)


def _restore(kind: type[DeepTermsError], args: tuple[Any, ...]) -> DeepTermsError:
    """Recreate an exception without calling its constructor; pickle adds the attributes."""
    return kind.__new__(kind, *args)


class InvalidInput(DeepTermsError, ValueError):
    """A value from the caller cannot be used; the message says what was expected and what to do."""


class UnreadableImage(InvalidInput):
    """An image cannot be decoded, or is rejected because decoding it would be dangerous.

    Attributes:
        path: the file, or what stands for it.
        reason: why it cannot be read.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class TooManyPixels(UnreadableImage):
    """An image has more pixels than the limit.

    Attributes:
        width: in pixels, according to the file's header.
        height: in pixels, according to the file's header.
        allowed: the limit, in pixels.
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


class UnreadableImages(InvalidInput):
    """Some images of a batch cannot be decoded.

    Attributes:
        failures: one UnreadableImage per image, in input order.
    """

    def __init__(self, failures: list[UnreadableImage]) -> None:
        first = "; ".join(str(failure) for failure in failures[:3])
        more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        super().__init__(
            f"{len(failures)} of the images cannot be read: {first}{more}. "
            "Leave them out, or use RMACExtractor.stream, which reports each one and continues."
        )
        self.failures = failures


class EncoderMismatch(InvalidInput):
    """Terms or vectors were made by a different encoder than the index uses."""


class MissingPivots(InvalidInput):
    """An encoder's pivots are missing, or are not the ones that its spec names."""


class CheckpointMismatch(InvalidInput):
    """A file is the checkpoint of a different index or encoder, or is not a checkpoint."""


class MissingExtra(DeepTermsError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        package: what pip installs.
        extra: the extra of deepterms that includes it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; install it with: pip install "deepterms[{extra}]"')
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through the constructor, which also sets ImportError's own attributes."""
        return (type(self), (self.package, self.extra), self.__dict__)


class FeatureStoreError(DeepTermsError):
    """A feature store is damaged, in use by another writer, or was written with different settings."""


class PackageUnavailable(DeepTermsError):
    """A package cannot be downloaded; the message is the download client's, or names the client that is missing."""


class NodeError(DeepTermsError):
    """The embedded OpenSearch node cannot be assembled, started, reached or stopped."""


class ClusterError(DeepTermsError):
    """A request to the cluster failed, or its response cannot be used."""


class ClusterUnreachable(ClusterError):
    """The cluster did not respond."""


class RequestRejected(ClusterError):
    """The cluster responded with an error.

    Attributes:
        status: the HTTP status.
        body: the response, parsed if it is JSON and as text if not.
    """

    def __init__(self, message: str, *, status: int, body: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class UnsupportedEngine(ClusterError):
    """The engine, or its version, lacks a feature that the call needs."""


class IndexNotFound(RequestRejected):
    """No index has that name; also what the cluster responds when an index is deleted meanwhile."""

    def __init__(self, message: str, *, status: int = 404, body: object = None) -> None:
        super().__init__(message, status=status, body=body)


class IndexAlreadyExists(ClusterError):
    """An index or alias with that name exists."""


class PivotsUnavailable(ClusterError):
    """The pivots that an index needs are missing from the cluster, or damaged."""


class MigrationFailed(ClusterError):
    """An index cannot be migrated: another migration is running, or the copy differs from the original."""


class DeploymentConflict(ClusterError):
    """A template or pipeline in the cluster differs from the one to deploy and must not be overwritten.

    Attributes:
        diffs: file of the resource → unified diff from the cluster's body to ours.
    """

    def __init__(self, message: str, *, diffs: Mapping[str, str]) -> None:
        super().__init__(message)
        self.diffs = dict(diffs)
