from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepterms.errors import InvalidInput
from deepterms.evaluation import Difficulty, read_oxford, read_revisited, trapezoid_average_precision, without_junk

TRUTH: dict[str, Any] = {
    "imlist": ["a", "b", "c", "d", "e"],
    "qimlist": ["q0", "q1"],
    "gnd": [
        {"easy": [0, 1], "hard": [2], "junk": [3], "bbx": [1.0, 2.0, 30.0, 40.0]},
        {"easy": [], "hard": [4], "junk": [], "bbx": [0, 0, 1, 1]},
    ],
}


@pytest.mark.parametrize(
    ("difficulty", "relevant", "junk"),
    [("easy", {"a", "b"}, {"c", "d"}), ("medium", {"a", "b", "c"}, {"d"}), ("hard", {"c"}, {"a", "b", "d"})],
)
def test_difficulties_of_the_revisited_protocol(
    difficulty: Difficulty, relevant: set[str], junk: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "gnd.json"
    file.write_text(json.dumps(TRUTH))
    judgements = read_revisited(file, difficulty=difficulty)
    assert judgements.relevant["q0"] == relevant
    assert judgements.junk["q0"] == junk
    assert judgements.boxes["q0"] == (1, 2, 30, 40)
    assert judgements.averaging == "trapezoids"
    # q1 has no easy image, so the authors' evaluation skips it.
    assert judgements.queries == (("q0",) if difficulty == "easy" else ("q0", "q1"))


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_pickles_of_lists_and_arrays_are_read(protocol: int, tmp_path: Path) -> None:
    truth = {**TRUTH, "gnd": [{kind: np.array(rows) for kind, rows in judged.items()} for judged in TRUTH["gnd"]]}
    for number, content in enumerate((TRUTH, truth)):
        file = tmp_path / f"gnd{number}.pkl"
        file.write_bytes(pickle.dumps(content, protocol=protocol))
        assert read_revisited(file).relevant == {"q0": {"a", "b", "c"}, "q1": {"e"}}


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gnd.pkl"
    file.write_bytes(pickle.dumps({**TRUTH, "more": Hostile()}))
    with pytest.raises(InvalidInput, match="does not need"):
        read_revisited(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"imlist": None},
        {"gnd": [{}]},
        {"gnd": [{"easy": [9], "hard": [], "junk": []}] * 2},
        {"qimlist": ["q"]},
        {"gnd": [{"easy": [-1], "hard": [], "junk": []}] * 2},
    ],
)
def test_other_content_is_rejected(change: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "gnd.json"
    file.write_text(json.dumps(TRUTH | change))
    with pytest.raises(InvalidInput, match="not the ground truth"):
        read_revisited(file)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x05"])
def test_damaged_files_are_rejected(content: bytes, tmp_path: Path) -> None:
    for name in ("gnd.json", "gnd.pkl", "missing.pkl"):
        if name != "missing.pkl":
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match="cannot read"):
            read_revisited(tmp_path / name)
    with pytest.raises(InvalidInput, match="one of easy, medium, hard"):
        read_revisited(tmp_path / "gnd.json", difficulty="brutal")  # type: ignore[arg-type]


def _old_truth(folder: Path, query_line: str = "oxc1_all_souls_000013 136.5 34.1 648.5 955.7") -> Path:
    texts = {"query": query_line, "good": "a\nb\n", "ok": "c\n", "junk": "d\n"}
    for kind, text in texts.items():
        (folder / f"all_souls_1_{kind}.txt").write_text(text)
    return folder


def test_original_text_files_are_read(tmp_path: Path) -> None:
    judgements = read_oxford(_old_truth(tmp_path))
    assert judgements.relevant == {"all_souls_1": {"a", "b", "c"}}
    assert judgements.junk == {"all_souls_1": {"d"}}
    assert judgements.images == {"all_souls_1": "all_souls_000013"}
    assert judgements.boxes == {"all_souls_1": (136.5, 34.1, 648.5, 955.7)}


def test_junk_does_not_push_relevant_images_down(tmp_path: Path) -> None:
    judgements = read_oxford(_old_truth(tmp_path))
    run = {"all_souls_1": {"d": 9.0, "a": 8.0, "b": 7.0, "c": 6.0, "x": 5.0}}
    assert trapezoid_average_precision(without_junk(run, judgements.junk), judgements.qrels) == {"all_souls_1": 1.0}
    # With the junk ranked first: ((0 + 1/2) + (1/2 + 2/3) + (2/3 + 3/4)) / 2 / 3.
    with_junk = trapezoid_average_precision(run, judgements.qrels)
    assert with_junk == {"all_souls_1": pytest.approx((1 / 2 + 1 / 2 + 2 / 3 + 2 / 3 + 3 / 4) / 6)}


def test_missing_and_damaged_text_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no NAME_query\.txt file"):
        read_oxford(tmp_path)
    _old_truth(tmp_path, "oxc1_all_souls_000013 one two three four")
    with pytest.raises(InvalidInput, match="expected a name and four numbers"):
        read_oxford(tmp_path)
    (tmp_path / "all_souls_1_junk.txt").unlink()
    _ = (tmp_path / "all_souls_1_query.txt").write_text("a 1 2 3 4")
    with pytest.raises(InvalidInput, match=r"all_souls_1_junk\.txt is missing"):
        read_oxford(tmp_path)
