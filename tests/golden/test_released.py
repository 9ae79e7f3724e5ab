"""Released templates, pipelines and processors never change, because existing indices and clusters depend on them.

`released.sha256` in this folder locks each file by its hash (`sha256sum --check tests/golden/released.sha256` also
reads it). To add a file, finish it, run `pytest tests/golden/test_released.py --update-golden` and commit the new line.
Existing lines are never rewritten.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LOCK = Path(__file__).with_name("released.sha256")


def read_lock() -> dict[str, str]:
    """Read the lock: path from the top of the repository → SHA-256."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return {file: digest for digest, file in (line.split("  ") for line in lines)}


def hash_files(top: Path) -> dict[str, str]:
    return {
        f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("index_templates", "ingest_pipelines", "ingest_pipelines/processors")
        for path in (top / folder).glob("*.json")
    }


def find_faults(lock: dict[str, str], files: dict[str, str]) -> list[str]:
    """Describe each difference between the lock and the files in one sentence."""
    sentences = []
    for file, digest in sorted(lock.items()):
        if files.get(file) != digest:
            stem, version = re.fullmatch(r"(.*-v)(\d+)\.json", file).groups()  # type: ignore[union-attr]
            happened = "was changed" if file in files else "is missing"
            sentences.append(f"{file} is released but {happened}; restore it and add {stem}{int(version) + 1}.json")
    return sentences + [
        f"{file} is not locked; once it is final, run: pytest tests/golden/test_released.py --update-golden"
        for file in sorted(files.keys() - lock.keys())
    ]


def test_released_files_are_unchanged(request: pytest.FixtureRequest) -> None:
    lock, files = read_lock(), hash_files(TOP)
    if request.config.getoption("--update-golden"):
        lock = files | lock
        LOCK.write_text("".join(f"{digest}  {file}\n" for file, digest in sorted(lock.items())), encoding="utf-8")
    wrong = find_faults(lock, files)
    assert not wrong, "\n".join(wrong)


def test_a_change_is_reported_with_advice() -> None:
    lock = {"index_templates/deepterms-words-v1.json": "a", "ingest_pipelines/deepterms-words-v12.json": "b"}
    assert find_faults(lock, dict(lock)) == []
    assert find_faults(lock, {"index_templates/deepterms-words-v1.json": "c", "ingest_pipelines/new-v1.json": "d"}) == [
        "index_templates/deepterms-words-v1.json is released but was changed; "
        "restore it and add index_templates/deepterms-words-v2.json",
        "ingest_pipelines/deepterms-words-v12.json is released but is missing; "
        "restore it and add ingest_pipelines/deepterms-words-v13.json",
        "ingest_pipelines/new-v1.json is not locked; "
        "once it is final, run: pytest tests/golden/test_released.py --update-golden",
    ]
