"""deepterms paper on the user's own descriptors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deepterms.cli.app import app
from deepterms.evaluation.metrics import trapezoid_ap_from_ranks
from deepterms.features import write_store
from tests.unit.evaluation.judged import D, clusters

pytest.importorskip("faiss")

ids = [f"{group:04d}{view:02d}.jpg" for group in range(20) for view in range(5)]


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder with the feature stores holidays, distractors and foreign."""
    collection = clusters(distractors=500)
    judged, others = (np.concatenate(list(stream.blocks())) for stream in collection.streams)
    foreign = np.random.default_rng(5).normal(size=(600, D)).astype(np.float32)
    for name, rows in (("holidays", judged), ("distractors", others), ("foreign", foreign)):
        names = ids if name == "holidays" else [f"{name}-{row}" for row in range(len(rows))]
        write_store([(names, rows, names)], tmp_path / name, dimensions=D, spec={})
    return tmp_path


def _run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, ["paper", *map(str, arguments)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def test_figure_and_report_of_own_descriptors(stores: Path) -> None:
    out = stores / "out"
    printed = _run(
        "figure1", stores / "holidays", "--distractors", stores / "distractors", "--foreign", stores / "foreign",
        "--top-k", 4, "--top-k", 8, "--no-graph", "--output", out,
    )  # fmt: skip
    assert "deep permutations, CReLU" in printed
    result = json.loads((out / "figure1.json").read_text())
    assert result["collection"] == {
        "name": "holidays", "documents": 600, "judged": 100, "distractors": 500, "queries": 20, "dimensions": D,
        "averaging": "trapezoids",
    }  # fmt: skip
    assert result["command"] == (
        "deepterms paper figure1 holidays --seed 0 --top-k 4 --top-k 8 --qrels holidays "
        "--distractors distractors --foreign foreign --no-graph"
    )
    curves = {point["curve"] for point in result["points"]}
    assert "HNSW" not in curves
    assert {"IVFPQ, own codebooks", "IVFPQ, foreign codebooks"} < curves
    assert str(stores) not in json.dumps(result)
    printed = _run("report", out)
    assert printed.split() == [str(out / "report.html"), str(out / "report.md")]


def test_judgements_of_oxford_and_of_trec(stores: Path) -> None:
    truth = stores / "truth"
    truth.mkdir()
    for kind, text in {"query": "000000 0 0 9 9", "good": "000001", "ok": "000002", "junk": "000000"}.items():
        (truth / f"group_0_{kind}.txt").write_text(text)
    (stores / "qrels.txt").write_text("000000.jpg 0 000001.jpg 1\n000000.jpg 0 000000.jpg -1\n")
    out = stores / "out"
    for qrels, averaging in ((truth, "trapezoids"), (stores / "qrels.txt", "precisions")):
        _run("figure1", stores / "holidays", "--qrels", qrels, "--top-k", 4, "--no-graph", "--output", out,
             "--mixtures", 300, "--foreign", stores / "foreign",
             "--distractors", stores / "distractors")  # fmt: skip
        collection = json.loads((out / "figure1.json").read_text())["collection"]
        assert (collection["queries"], collection["averaging"]) == (1, averaging)
        assert collection["distractors"] == 800


def test_queries_can_have_their_own_descriptors(stores: Path) -> None:
    (stores / "qrels.txt").write_text("one 0 000001.jpg 1\n")
    query = np.concatenate(list(clusters().judged.blocks()))[1:2]
    write_store([(["one.jpg"], query, ["one.jpg"])], stores / "queries", dimensions=D, spec={})
    out = stores / "out"
    _run("figure1", stores / "holidays", "--qrels", stores / "qrels.txt", "--queries", stores / "queries",
         "--distractors", stores / "distractors", "--top-k", 4, "--no-graph", "--output", out)  # fmt: skip
    points = json.loads((out / "figure1.json").read_text())["points"]
    assert points[0]["map"] == 1.0


def test_queries_can_be_named_like_their_files(stores: Path) -> None:
    """In Holidays, a query is judged by its file name, including the suffix."""
    firsts = list(range(0, 100, 5))
    rows, names = np.concatenate(list(clusters().judged.blocks()))[firsts], [ids[row] for row in firsts]
    write_store([(names, rows, names)], stores / "queries", dimensions=D, spec={})
    out, found = stores / "out", []
    for more in ((), ("--queries", stores / "queries")):
        _run("figure1", stores / "holidays", *more, "--top-k", 4, "--no-graph", "--no-ivfpq", "--output", out)
        found.append(json.loads((out / "figure1.json").read_text())["points"])
    assert found[0] == found[1]


def test_mixtures_need_something_to_mix(stores: Path) -> None:
    outcome = CliRunner().invoke(app, ["paper", "figure1", str(stores / "holidays"), "--mixtures", "5"])
    assert outcome.exit_code == 1
    assert "name some with --foreign" in str(outcome.exception)


def test_descriptors_of_another_extractor_are_rejected(stores: Path) -> None:
    for name in ("one", "other"):
        rows = np.random.default_rng(1).normal(size=(100, D)).astype(np.float32)
        write_store([(ids, rows, ids)], stores / name, dimensions=D, spec={"extractor": name})
    arguments = ["paper", "figure1", str(stores / "one"), "--distractors", str(stores / "other")]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 1
    assert "other holds descriptors of another extractor than" in str(outcome.exception)


def test_a_small_collection_requires_no_ivfpq(stores: Path) -> None:
    arguments = ["figure1", stores / "holidays", "--top-k", 4, "--output", stores / "out"]
    outcome = CliRunner().invoke(app, ["paper", *map(str, arguments)])
    assert "100 rows cannot train" in str(outcome.exception)
    assert "HNSW" in _run(*arguments, "--no-ivfpq")
    assert json.loads((stores / "out" / "figure1.json").read_text())["command"].endswith("--no-ivfpq")


def test_options_of_an_own_collection_require_one(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["paper", "figure1", "--distractors", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "require your own collection" in re.sub(r"[│\s]+", " ", outcome.output)  # the message is in a frame


@pytest.mark.parametrize(("difficulty", "relevant"), [("easy", 1), ("hard", 2)])
def test_the_revisited_protocol(difficulty: str, relevant: int, stores: Path) -> None:
    names = [id.removesuffix(".jpg") for id in ids]
    judged = {"easy": [1], "hard": [2, 3], "junk": [0], "bbx": [0, 0, 1, 1]}
    truth = stores / "gnd.json"
    truth.write_text(json.dumps({"imlist": names, "qimlist": ["000000"], "gnd": [judged]}))
    out = stores / "out"
    _run("figure1", stores / "holidays", "--qrels", truth, "--difficulty", difficulty, "--top-k", 4, "--no-graph",
         "--no-ivfpq", "--output", out)  # fmt: skip
    result = json.loads((out / "figure1.json").read_text())
    assert f"--difficulty {difficulty}" in result["command"]
    assert result["collection"]["averaging"] == "trapezoids"
    collection = clusters(distractors=0)
    features = next(collection.judged.blocks())
    near = np.argsort(-(features @ features[0]), kind="stable")
    kept = [row for row in near if row not in ({0, 2, 3} if difficulty == "easy" else {0, 1})]
    right = {1} if difficulty == "easy" else {2, 3}
    ranks = [rank for rank, row in enumerate(kept, start=1) if row in right]
    assert len(ranks) == relevant
    assert result["points"][0]["map"] == pytest.approx(trapezoid_ap_from_ranks(ranks, relevant=relevant))
