"""Turn the ground truth of Oxford5k and Paris6k, original or revisited, into judgements."""

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
"""Which images count as relevant in the revisited protocols."""

# Difficulty → what is relevant and what is junk (Radenović et al., Revisiting Oxford and Paris, Section 3.3).
_PROTOCOLS: Mapping[Difficulty, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
_OXFORD_PREFIX = "oxc1_"  # only in the query files of Oxford5k


def read_oxford(folder: str | Path) -> Judgements:
    """Read the original protocol's text files: ``NAME_query.txt``, ``_good``, ``_ok`` and ``_junk`` for each query.

    Good and ok images are relevant. AP uses the trapezoidal rule, as in the authors' compute_ap.cpp.

    Args:
        folder: contains the text files.

    Raises:
        InvalidInput: there are no query files, one of the four files is missing, or a query file does not hold a name
            and a box.
    """
    folder = Path(folder)
    found = sorted(folder.glob("*_query.txt"))
    if not found:
        raise InvalidInput(f"{folder} has no NAME_query.txt file; expected the ground truth of Oxford5k or Paris6k")
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
            raise InvalidInput(f"{error.filename} is missing; download the ground truth again") from error
        except ValueError as error:
            raise InvalidInput(f"{path} is malformed: {error}; expected a name and four numbers") from error
        relevant[query] = listed["good"] | listed["ok"]
        junk[query] = listed["junk"]
        images[query] = image.removeprefix(_OXFORD_PREFIX)
        boxes[query] = (left, top, right, bottom)
    return Judgements(relevant, junk, images, boxes, averaging="trapezoids")


def read_revisited(file: str | Path, *, difficulty: Difficulty = "medium") -> Judgements:
    """Read gnd_roxford5k.pkl, gnd_rparis6k.pkl, or the same content as JSON.

    Queries without a relevant image at this difficulty are skipped, as in the authors' evaluation. AP uses the
    trapezoidal rule. Pickles can run arbitrary code, so only numbers, lists, dictionaries and arrays are accepted.

    Args:
        file: {"imlist": […], "qimlist": […], "gnd": [{"easy": […], "hard": […], "junk": […], "bbx": […]}, …]}.
        difficulty: easy, medium or hard.

    Raises:
        InvalidInput: the difficulty is unknown, or the file cannot be read or has any other content.
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
            if found := _select_images(judged, right, images):
                relevant[query] = found
                junk[query] = _select_images(judged, left_out, images)
                if "bbx" in judged:
                    x0, y0, x1, y1 = map(float, judged["bbx"])
                    boxes[query] = (x0, y0, x1, y1)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{file} is not the ground truth of revisited Oxford or Paris ({type(error).__name__}: {error}); "
            "expected imlist, qimlist, and gnd with easy, hard and junk"
        ) from error
    return Judgements(relevant, junk, boxes=boxes, averaging="trapezoids")


def _select_images(judged: Mapping[str, Iterable[int]], kinds: Iterable[str], images: list[str]) -> frozenset[str]:
    numbers = [int(number) for kind in kinds for number in judged[kind]]
    if any(number < 0 for number in numbers):  # as an index it would count from the end of the list
        raise IndexError("an image number is negative")
    return frozenset(images[number] for number in numbers)


def _read_truth(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.load(file) if path.suffix == ".json" else _PlainUnpickler(file, encoding="latin1").load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, IndexError, KeyError, AttributeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles only numpy arrays and scalars, under their names in any numpy version."""

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
        if (module, name) == ("_codecs", "encode"):  # how old protocols store bytes
            return codecs.encode
        if (module, name) == ("__builtin__", "bytes"):  # how old protocols store empty bytes
            return bytes
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which a ground truth does not need")
