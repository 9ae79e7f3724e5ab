"""An extractor for the store without torch, so that the processes to be killed start quickly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import UnreadableImage


class Outcome(NamedTuple):
    path: Path
    feature: NDArray[np.float32] | None
    error: UnreadableImage | None


@dataclass
class FakeExtractor:
    """Describes a file by its number, rejects files that contain "bad", and records the files it was given."""

    name: str = "fake"
    asked: list[str] = field(default_factory=list)
    dimensions: int = 5

    def spec(self) -> dict[str, Any]:
        return {"extractor": self.name, "sizes": [224], "dimensions": self.dimensions}

    def stream(self, paths: Iterable[str | Path]) -> Iterator[Outcome]:
        for path in map(Path, paths):
            self.asked.append(path.name)
            if "bad" in path.read_text():
                yield Outcome(path, None, UnreadableImage(path, "it is bad"))
            else:
                yield Outcome(path, expected_feature(path), None)


def expected_feature(path: Path) -> NDArray[np.float32]:
    return (np.random.default_rng(int(path.stem)).normal(size=5)).astype(np.float32)
