"""The ground truth of Oxford5k and Paris6k, old and revisited, into judgements."""

from __future__ import annotations

import codecs
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from deepterms.errors import InvalidInput
from deepterms.evaluation.collections.judgements import Box, Judgements

__all__ = ["Difficulty", "read_oxford", "read_revisited"]

Difficulty: TypeAlias = Literal["easy", "medium", "hard"]
"""Of the revisited protocols: which images count as right."""

# What counts as right, and what as junk (Radenović et al., Revisiting Oxford and Paris, Section 3.3).
_PROTOCOLS: Mapping[Difficulty, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
_OXFORD_PREFIX = "oxc1_"  # only the query files of Oxford5k have it


def read_oxford(folder: str | Path) -> Judgements:
    """Reads the text files of the first protocol: for each query ``NAME_query.txt``, ``_good``, ``_ok`` and ``_junk``.

    Good and ok images are right. AP is taken by trapezoids, as the compute_ap.cpp beside these files does.

    Args:
        folder: of the files.

    Raises:
        InvalidInput: no such files, one of the four is missing, or a query line is not name and box.
    """
    folder = Path(folder)
    found = sorted(folder.glob("*_query.txt"))
    if not found:
        raise InvalidInput(f"{folder} has no file NAME_query.txt; expected the ground truth of Oxford5k or Paris6k")
    relevant, junk, images, boxes = {}, {}, {}, {}
    for path in found:
        query = path.name.removesuffix("_query.txt")
        try:
            image, *corners = path.read_text(encoding="utf-8").split()
            left, top, right, bottom = map(float, corners)
            listed = {
                kind: frozenset((folder / f"{query}_{kind}.txt").read_text(encoding="utf-8").split())
                for kind in ("good", "ok", "junk")
            }
        except FileNotFoundError as error:
            raise InvalidInput(f"{error.filename} is missing; copy the ground truth again") from error
        except ValueError as error:
            raise InvalidInput(f"{path} is not a name and four numbers: {error}") from error
        relevant[query] = listed["good"] | listed["ok"]
        junk[query] = listed["junk"]
        images[query] = image.removeprefix(_OXFORD_PREFIX)
        boxes[query] = (left, top, right, bottom)
    return Judgements(relevant, junk, images, boxes, averaging="trapezoids")


def read_revisited(file: str | Path, *, difficulty: Difficulty = "medium") -> Judgements:
    """Reads gnd_roxford5k.pkl, gnd_rparis6k.pkl, or the same as JSON.

    Queries without a right answer at this difficulty are left out, as the authors' own evaluation does. AP is taken by
    trapezoids. A pickle may run anything that it names; here only numbers, lists, dictionaries and arrays are let in.

    Args:
        file: {"imlist": […], "qimlist": […], "gnd": [{"easy": […], "hard": […], "junk": […], "bbx": […]}, …]}.
        difficulty: easy, medium or hard.

    Raises:
        InvalidInput: no such file, or another content.
    """
    if difficulty not in _PROTOCOLS:
        raise InvalidInput(f"difficulty is {difficulty!r}; expected one of {', '.join(get_args(Difficulty))}")
    right, left_out = _PROTOCOLS[difficulty]
    truth = _read_truth(Path(file))
    relevant: dict[str, frozenset[str]] = {}
    junk: dict[str, frozenset[str]] = {}
    boxes: dict[str, Box] = {}
    try:
        images = [str(name) for name in truth["imlist"]]
        for query, judged in zip(map(str, truth["qimlist"]), truth["gnd"], strict=True):
            if found := _named(judged, right, images):
                relevant[query] = found
                junk[query] = _named(judged, left_out, images)
                if "bbx" in judged:
                    x0, y0, x1, y1 = map(float, judged["bbx"])
                    boxes[query] = (x0, y0, x1, y1)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{file} is not a ground truth of revisited Oxford or Paris ({type(error).__name__}: {error}); "
            "expected imlist, qimlist, and gnd with easy, hard and junk"
        ) from error
    return Judgements(relevant, junk, boxes=boxes, averaging="trapezoids")


def _named(judged: Mapping[str, Iterable[int]], kinds: Iterable[str], images: list[str]) -> frozenset[str]:
    numbers = [int(number) for kind in kinds for number in judged[kind]]
    if any(number < 0 for number in numbers):  # Python would count from the end
        raise IndexError("an image has a negative number")
    return frozenset(images[number] for number in numbers)


def _read_truth(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.load(file) if path.suffix == ".json" else _PlainUnpickler(file, encoding="latin1").load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, IndexError, KeyError, AttributeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Of all that a pickle may name, only numpy's arrays and their numbers, under the names of any numpy."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[str, Any] = {
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "_reconstruct": np.empty(0).__reduce__()[0],
            "_frombuffer": np.empty(1).__reduce_ex__(5)[0],
            "scalar": np.float64(0).__reduce__()[0],
        }
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        if (module, name) == ("_codecs", "encode"):  # how old protocols write bytes
            return codecs.encode
        if (module, name) == ("__builtin__", "bytes"):  # the same, of none
            return bytes
        raise pickle.UnpicklingError(f"it names {module}.{name}, which a ground truth does not need")
