"""Every exception of the tree crosses process boundaries with its message and attributes."""

from __future__ import annotations

import copy
import pickle
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest

from deepterms import errors
from deepterms.errors import (
    DeepTermsError,
    DeploymentConflict,
    MissingExtra,
    RequestRejected,
    TooManyPixels,
    UnreadableImage,
    UnreadableImages,
)

CLASSES = [getattr(errors, name) for name in errors.__all__]
WITH_ATTRIBUTES: list[DeepTermsError] = [
    RequestRejected("[400] no such field", status=400, body={"error": {"type": "parsing_exception"}}),
    DeploymentConflict("1 resource differs", diffs={"index_templates/a.json": "-1\n+2\n"}),
    UnreadableImage("a.jpg", "the file is empty"),
    TooManyPixels("b.png", width=300, height=200, allowed=59_999),
    UnreadableImages([UnreadableImage("a.jpg", "empty"), TooManyPixels("b.png", width=3, height=2, allowed=5)]),
    MissingExtra("torch", "features"),
]
EXAMPLES = WITH_ATTRIBUTES + [
    kind("the message") for kind in CLASSES if kind not in {type(example) for example in WITH_ATTRIBUTES}
]


def attributes(error: BaseException) -> dict[str, Any]:
    """Attributes with exceptions written out, which compare by identity."""
    values = {"message": str(error), "args": error.args, **vars(error)}
    if isinstance(error, ImportError):
        values |= {"msg": error.msg, "name": error.name, "path": error.path}
    if isinstance(error, UnreadableImages):
        values["failures"] = [(type(failure), attributes(failure)) for failure in error.failures]
    return values


def raise_rejected(status: int) -> None:
    raise RequestRejected("too many requests", status=status)


def test_examples_cover_the_tree() -> None:
    assert {type(example) for example in EXAMPLES} == set(CLASSES)
    assert all(issubclass(kind, DeepTermsError) for kind in CLASSES)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickling_keeps_type_and_attributes(error: DeepTermsError) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        restored = pickle.loads(pickle.dumps(error, protocol))
        assert type(restored) is type(error)
        assert attributes(restored) == attributes(error)
    assert attributes(copy.deepcopy(error)) == attributes(error)


def test_a_pool_raises_what_its_worker_raised() -> None:
    with Pool(1) as pool, pytest.raises(RequestRejected, match="too many requests") as caught:
        pool.apply_async(raise_rejected, (429,)).get(timeout=60)
    assert caught.value.status == 429


def test_too_many_pixels_names_the_limit() -> None:
    error = TooManyPixels(Path("b.png"), width=300, height=200, allowed=59_999)
    assert error.pixels == 60_000
    assert "300 x 200 = 60000 pixels, more than the 59999 allowed" in str(error)


def test_missing_extra_names_the_command() -> None:
    error = MissingExtra("torch", "features")
    assert (error.package, error.extra) == ("torch", "features")
    assert str(error) == 'torch is not installed; install it with: pip install "deepterms[features]"'
