"""Progress: the neighbours found so far, in a file from which an interrupted tuning resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput

__all__ = ["Neighbours", "TuningState"]

# Equal cosines are summed in another order where documents were found in another way.
SCORE_TOLERANCE = 2e-6


@dataclass(frozen=True)
class Neighbours:
    """The nearest documents of one query.

    Attributes:
        scores: their cosines, at most ten, highest first.
        ms: milliseconds in which they were found.
    """

    scores: Sequence[float]
    ms: float

    def count_found(self, scores: Sequence[float]) -> float:
        """Count what share of them hits with these scores are; of documents that are equally near, any will do."""
        if not self.scores:
            return 1.0
        least = self.scores[-1] - SCORE_TOLERANCE
        return min(len(self.scores), sum(score >= least for score in scores)) / len(self.scores)


class TuningState:
    """Neighbours by the number of the query, kept in a file if there is one.

    The first line of the file says what was measured; each other line holds the neighbours of one query.

    Args:
        path: the file; None to keep nothing.
        about: what is measured, as plain JSON. A file about something else is rejected.

    Raises:
        InvalidInput: the file is about another index or other queries, or is none of ours.
    """

    def __init__(self, path: Path | None = None, about: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._known: dict[int, Neighbours] = {}
        if path is None:
            return
        if not path.exists():
            path.write_text(json.dumps(dict(about or {})) + "\n", encoding="utf-8")
            return
        try:
            first, *lines = path.read_text(encoding="utf-8").splitlines()
            same = json.loads(first) == dict(about or {})
        except ValueError as error:
            raise InvalidInput(f"{path} is not the state of a tuning; choose another file, or delete it") from error
        if not same:
            raise InvalidInput(
                f"{path} is the state of a tuning of another index, or with other queries; delete it, or choose "
                "another file"
            )
        for line in lines:
            try:
                number, scores, ms = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the process ended
            self._known[int(number)] = Neighbours(scores, ms)
        if lines and not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def read(self, number: int) -> Neighbours | None:
        """Return the neighbours of a query; None if they were not found yet."""
        return self._known.get(number)

    def write(self, number: int, neighbours: Neighbours) -> None:
        """Keep the neighbours of a query."""
        self._known[number] = neighbours
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, list(neighbours.scores), round(neighbours.ms, 3)]) + "\n")
