"""Golden files: the output of each pipeline for example documents, from the real `_simulate` of both engines.

`ingest_pipelines/golden/<pipeline>/<case>.json` is a body for `_simulate`, ready for curl; each `_id` in it says what
the document tests. `<case>.expected.json` is the response, without the parts that differ between runs.
`--update-golden` rewrites it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import extract_reason
from deepterms.schema.layouts import LAYOUTS

TOP = Path(__file__).parents[2]
PIPELINES = TOP / "ingest_pipelines"
EXPECTED = ".expected.json"
CASES = sorted(path for path in (PIPELINES / "golden").glob("*/*.json") if not path.name.endswith(EXPECTED))

# Files that this run has written: the first engine writes them, the second must produce the same.
_written: set[Path] = set()


def as_file(body: object, *, sort_keys: bool = False) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False, sort_keys=sort_keys) + "\n"


def normalise(document: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Reduce a response to its source or error message, without times, stack traces and index names."""
    if "error" in answer:
        return {"_id": document["_id"], "error": extract_reason(answer["error"])}
    source = answer["doc"]["_source"]
    if isinstance(source.get("codewords"), str):
        # Each engine orders the members of an object differently, and no score depends on the order of the words.
        source["codewords"] = " ".join(sorted(source["codewords"].split()))
    return {"_id": answer["doc"]["_id"], "_source": source}


@pytest.fixture
def pipelines(cluster: Any) -> Cluster:
    """A cluster with every pipeline of the folder, because some call others."""
    own = Cluster(cluster)
    for path in sorted(PIPELINES.glob("*.json")):
        own.request("PUT", f"/_ingest/pipeline/{path.stem}", body=json.loads(path.read_text(encoding="utf-8")))
    return own


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_the_response_is_the_expected_one(pipelines: Cluster, case: Path, request: pytest.FixtureRequest) -> None:
    body = json.loads(case.read_text(encoding="utf-8"))
    answer = pipelines.request("POST", f"/_ingest/pipeline/{case.parent.name}/_simulate", body=body)
    pairs = zip(body["docs"], answer["docs"], strict=True)
    result = {"docs": [normalise(document, given) for document, given in pairs]}
    expected = case.with_name(case.stem + EXPECTED)
    if request.config.getoption("--update-golden") and expected not in _written:
        expected.write_text(as_file(result, sort_keys=True), encoding="utf-8")
        _written.add(expected)
        return
    assert expected.is_file(), f"{expected.relative_to(TOP)} is missing; pytest --update-golden writes it"
    assert result == json.loads(expected.read_text(encoding="utf-8"))


def test_every_layout_has_cases() -> None:
    assert {layout.resource for layout in LAYOUTS} <= {case.parent.name for case in CASES}


@pytest.mark.parametrize("pipeline", sorted({case.parent.name for case in CASES}))
def test_cases_accept_reject_and_cover_every_check(pipeline: str) -> None:
    expected = [json.loads(path.read_text()) for path in (PIPELINES / "golden" / pipeline).glob(f"*{EXPECTED}")]
    kinds = {"rejected" if "error" in document else "accepted" for body in expected for document in body["docs"]}
    assert kinds == {"accepted", "rejected"}
    sentences = [document["error"] for body in expected for document in body["docs"] if "error" in document]
    processors = json.loads((PIPELINES / f"{pipeline}.json").read_text())["processors"]
    checks = {
        part["tag"] for processor in processors for part in processor.values() if "throw" in part.get("source", "")
    }
    for tag in checks:
        assert any(f"[{tag}]" in sentence for sentence in sentences), f"no document is rejected by {tag}"


def test_files_are_formatted_and_come_in_pairs() -> None:
    files = {path for path in (PIPELINES / "golden").rglob("*") if path.is_file()}
    assert files == {case.with_name(case.stem + end) for case in CASES for end in (".json", EXPECTED)}
    for path in files:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text)
        assert text == as_file(body), path
        names = [document["_id"] for document in body["docs"]]
        assert len(set(names)) == len(names), path
