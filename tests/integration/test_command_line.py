"""The command line on real clusters, as a user runs it: exit status, stdout and stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

import deepterms as dt
from deepterms.cli.store_indexing import add_store
from deepterms.cluster.cluster import Cluster
from deepterms.features import FeatureStore
from deepterms.features.folder_sync import sync_folder
from deepterms.schema.assets import load_asset
from deepterms.schema.layouts import select_default_layout
from tests.unit.cli.test_folders import NAMES, ContentExtractor, Setting, apply_operation, describe
from tests.unit.features.odd_files import photograph, write_odd_but_good, write_odd_files
from tests.unit.features.test_embeddings import write_part

TOP = Path(__file__).parents[2]

# Small pictures at a small size: the test is about the workflow, not about the descriptors.
SMALL = ("--sizes", "64")


def deepterms(*arguments: str | Path, url: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deepterms", *map(str, arguments)]
    environment = {**os.environ, "DEEPTERMS_URL": url, "COLUMNS": "200", "PYTHONWARNINGS": ""}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(12):
        path = folder / ("more" if number % 2 else "") / f"{number:02}.png"
        Image.fromarray(photograph(number)).save(path)
    return folder


def test_a_third_of_the_folder_is_broken(url: str, unique_name: str, tmp_path: Path) -> None:
    """100 broken or odd files in a folder of 300: 200 are indexed, 100 reported, exit status 1 and a summary."""
    folder = tmp_path / "photos"
    folder.mkdir()
    good = write_odd_but_good(folder)
    for number in range(200 - len(good)):
        Image.fromarray(photograph(number)).save(folder / f"plain-{number:03}.jpg")
    broken = write_odd_files(folder, 100)

    done = deepterms("index", unique_name, folder, *SMALL, url=url, cwd=tmp_path)

    assert done.returncode == 1, done.stderr
    assert "200 indexed, 0 rejected, 100 unreadable; 200 in " in done.stderr
    assert done.stderr.count("unreadable ") >= 20
    assert "and 80 more" in done.stderr
    assert "Traceback" not in done.stderr
    listed = [
        json.loads(line) for line in (tmp_path / f"{unique_name}-features" / "failures.jsonl").read_text().splitlines()
    ]
    assert {Path(line["path"]).name for line in listed} == {path.name for path in broken}
    assert all(line["reason"] for line in listed)


def test_index_then_search(cluster: Any, url: str, unique_name: str, photos: Path, tmp_path: Path) -> None:
    done = deepterms("index", unique_name, photos, *SMALL, "--top-k", "50", "--replicas", "0", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert dt.SurrogateIndex.open(cluster, unique_name).encoder == dt.DeepPermutation(1280, top_k=50)

    # The extractor is rebuilt from the index, so --sizes is not given again.
    done = deepterms("search", unique_name, photos / "more" / "03.png", "-k", "3", "--json", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["id"] == "more/03.png"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    assert hits[0]["metadata"]["path"] == str(photos / "more" / "03.png")

    done = deepterms("search", unique_name, "--id", "00.png", "--rerank", "0", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["rank", "score", "path"]
    assert str(photos / "00.png") not in done.stdout
    assert "of 12 documents" in done.stderr

    only = json.dumps({"ids": {"values": ["02.png"]}})
    done = deepterms("search", unique_name, photos / "00.png", "--filter", only, "--json", url=url, cwd=tmp_path)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["02.png"]

    # Again, with one more photograph: the store is extended.
    Image.fromarray(photograph(99)).save(photos / "99.png")
    done = deepterms("index", unique_name, photos, *SMALL, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "13 indexed (12 by an earlier run), 0 rejected" in done.stderr
    assert "13 in " in done.stderr

    done = deepterms("index", unique_name, photos, "--sizes", "96", "--store", "other", url=url, cwd=tmp_path)
    assert done.returncode == 1
    assert "sizes is [64] in the index, but [96] here" in done.stderr


def indexed(cluster: Any, name: str) -> dict[str, str]:
    """Id → path of every document."""
    hits = Cluster(cluster).request("POST", f"/{name}/_search", body={"size": 1000})["hits"]["hits"]
    return {hit["_id"]: hit["_source"]["metadata"]["path"] for hit in hits}


def test_an_index_follows_two_folders(cluster: Any, url: str, unique_name: str, tmp_path: Path) -> None:
    first, second = tmp_path / "camA", tmp_path / "camB"
    for number in range(6):
        folder = (first, second)[number // 3]
        folder.mkdir(exist_ok=True)
        Image.fromarray(photograph(number)).save(folder / f"IMG_{number % 3}.png")

    def index(folder: Path, *options: str, status: int = 0, cwd: Path = tmp_path) -> str:
        done = deepterms("index", unique_name, folder, *SMALL, "--top-k", "50", *options, url=url, cwd=cwd)
        assert done.returncode == status, done.stderr
        return done.stderr

    said = index(first)
    assert "camA: 3 added, 0 replaced, 0 unchanged, 0 moved, 0 removed, 0 unreadable" in said
    said = index(second)
    assert "camB: 3 added, 0 replaced, 0 unchanged, 0 moved, 0 removed, 0 unreadable" in said
    assert "6 indexed (3 by an earlier run), 0 rejected, 0 unreadable; 6 in " in said
    found = indexed(cluster, unique_name)
    assert sorted(found.values()) == sorted(map(str, (*first.iterdir(), *second.iterdir())))
    assert {item_id for item_id, path in found.items() if path.startswith(str(first))} == {
        f"IMG_{number}.png" for number in range(3)
    }
    (prefix,) = {item_id.partition("/")[0] for item_id in found if "/" in item_id}
    assert prefix.startswith("camB-")
    assert f"ids of {second} begin with {prefix}/" in said

    # Replaced, moved and removed; then the folder itself is moved.
    Image.fromarray(photograph(77)).save(first / "IMG_0.png")
    (first / "sub").mkdir()
    (first / "IMG_1.png").rename(first / "sub" / "moved.png")
    (first / "IMG_2.png").unlink()
    said = index(first)
    assert "camA: 0 added, 1 replaced, 0 unchanged, 1 moved, 1 removed, 0 unreadable" in said
    assert "moved IMG_1.png to sub/moved.png" in said
    assert "--delete-missing deletes them" in said
    assert len(indexed(cluster, unique_name)) == 6
    assert "1 removed, 0 unreadable" in index(first, "--delete-missing")
    moved = second.rename(tmp_path / "elsewhere")
    assert "0 added, 0 replaced, 0 unchanged, 3 moved" in index(moved)
    found = indexed(cluster, unique_name)
    assert set(found) == {"IMG_0.png", "sub/moved.png", *(f"{prefix}/IMG_{number}.png" for number in range(3))}
    assert sorted(found.values()) == sorted(map(str, (*first.rglob("*.png"), *moved.iterdir())))
    done = deepterms("search", unique_name, first / "IMG_0.png", "-k", "1", "--json", url=url, cwd=tmp_path)
    hit = json.loads(done.stdout)
    assert (hit["id"], hit["score"]) == ("IMG_0.png", pytest.approx(1, abs=1e-3))

    # Another working directory means another store: ids that are in use elsewhere are not taken.
    third, away = tmp_path / "camC", tmp_path / "away"
    for folder in (third, away):
        folder.mkdir()
    Image.fromarray(photograph(8)).save(third / "IMG_0.png")
    (third / "broken.jpg").write_text("broken")
    assert "1 added" in index(third, status=1, cwd=away)
    assert len(indexed(cluster, unique_name)) == 6
    # And a store that is lost is described again under the same ids.
    said = index(third, "--store", "new", status=1, cwd=away)
    assert "1 added" in said
    assert len(indexed(cluster, unique_name)) == 6
    for path in (tmp_path / f"{unique_name}-features").iterdir():
        path.unlink()
    (tmp_path / f"{unique_name}-features").rmdir()
    assert "2 added" in index(first)
    assert len(indexed(cluster, unique_name)) == 6
    assert deepterms("index", unique_name, "away/new", "--delete-missing", url=url, cwd=tmp_path).returncode == 2
    assert deepterms("index", unique_name, "nowhere", url=url, cwd=tmp_path).returncode == 2

    # A folder that is gone for good.
    (third / "IMG_0.png").unlink()
    (third / "broken.jpg").unlink()
    assert "is the drive mounted?" in index(third, "--delete-missing", status=1, cwd=away)
    third.rmdir()
    assert "camC: 1 removed" in index(third, "--delete-folder", cwd=away)
    assert len(indexed(cluster, unique_name)) == 5
    assert "contains no photos of" in index(third, "--delete-folder", status=1, cwd=away)


def test_random_changes_in_two_folders(cluster: Any, unique_name: str, tmp_path: Path) -> None:
    """The property test of `tests/unit/cli/test_folders.py` once more, on an index in a cluster."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(8, top_k=8), replicas=0)
    cams = Setting(tmp_path)
    for number, root in enumerate(cams.roots):
        cams.write(root, "always.jpg", f"always there {number}")
    random = Random(2018)
    extractor = ContentExtractor()
    for _ in range(6):
        for _ in range(8):
            kind = random.choice(["write", "write", "touch", "move", "remove"])
            extra = (random.randrange(2), random.choice(NAMES)) if kind == "move" else str(random.randrange(6))
            apply_operation(cams, kind, random.randrange(2), random.choice(NAMES), extra)
        for root in cams.roots:
            report = sync_folder(extractor, root, cams.top / "store", delete_missing=True, shard_size=3)
            add_store(index, report.store, checkpoint=cams.top / "store" / "cams.checkpoint")
        index.refresh()
        expected = cams.files()
        assert indexed(cluster, unique_name) == {item_id: path for item_id, (path, _) in expected.items()}
        for item_id, (_, content) in expected.items():
            document = index.get(item_id)
            assert document is not None
            assert document.vector is not None
            np.testing.assert_allclose(document.vector, describe(content), atol=1e-6)


def test_duplicate_ids_of_an_embedding_folder(url: str, unique_name: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(5).standard_normal((3, 32)).astype(np.float16)
    for part in range(2):
        write_part(tmp_path / "embeddings", part, rows, image_path=[f"IMG_{number}.jpg" for number in range(3)])
    done = deepterms("index", unique_name, "embeddings", "--top-k", "12", url=url, cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "contains duplicate ids: 'IMG_0.jpg' (row 0 of metadata_0.parquet, row 0 of metadata_1.parquet)" in done.stderr
    )
    done = deepterms("search", unique_name, "--id", "IMG_0.jpg", url=url, cwd=tmp_path)
    assert "no index" in done.stderr


def test_lists_and_structs_of_an_embedding_folder(cluster: Any, url: str, unique_name: str, tmp_path: Path) -> None:
    columns = {"tags": [["sea", "sun"], []], "exif": [{"iso": 100}, None], "price": [Decimal("1.50"), None]}
    rows = np.random.default_rng(5).standard_normal((2, 32)).astype(np.float16)
    write_part(tmp_path / "embeddings", 0, rows, key=[0, 1], **columns)
    done = deepterms("index", unique_name, "embeddings", "--top-k", "12", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    index = dt.SurrogateIndex.open(cluster, unique_name)
    first = index.get("0")
    assert first is not None
    assert first.metadata == {"key": 0, "tags": ["sea", "sun"], "exif": {"iso": 100}, "price": 1.5}
    assert index.count(filter={"term": {"metadata.tags": "sea"}}) == 1
    assert index.count(filter={"range": {"metadata.exif.iso": {"gte": 100}}}) == 1


def test_index_descriptors_of_any_origin(url: str, unique_name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32))
    (tmp_path / "ids.txt").write_text("a\nb\nc\nd\ne\n")
    done = deepterms(
        "index", unique_name, "own.npy", "--ids", "ids.txt", "--top-k", "8", "--vectors", "none", url=url, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    done = deepterms("search", unique_name, "--id", "c", "--json", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} <= {"a", "b", "d", "e"}
    Image.fromarray(photograph(1)).save(tmp_path / "photo.png")
    done = deepterms("search", unique_name, "photo.png", url=url, cwd=tmp_path)
    assert done.returncode == 1
    assert "does not record which extractor made its descriptors" in done.stderr


def test_index_an_embedding_folder_and_export_a_store(cluster: Any, url: str, unique_name: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(5).standard_normal((9, 32)).astype(np.float32)
    names = [f"p{number}.jpg" for number in range(9)]
    folder = tmp_path / "embeddings"
    for part, piece in enumerate((slice(0, 5), slice(5, 9))):
        chosen = names[piece]
        captions = [f"caption of {name}" for name in chosen]
        write_part(folder, part, rows[piece].astype(np.float16), image_path=chosen, caption=captions)
    options = ("--top-k", "12", "--vectors", "int8", "--replicas", "0")
    done = deepterms("index", unique_name, folder, *options, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 indexed, 0 rejected, 0 unreadable; 9 in " in done.stderr
    index = dt.SurrogateIndex.open(cluster, unique_name)
    assert (index.vector_type, index.encoder) == ("int8", dt.DeepPermutation(32, top_k=12))

    def found(*options: str) -> list[Any]:
        done = deepterms("search", unique_name, "--id", "p3.jpg", "--json", *options, url=url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    everything = found()
    assert everything[0]["metadata"] == {"path": everything[0]["id"], "caption": f"caption of {everything[0]['id']}"}
    expected = index.search_by_id("p3.jpg", effort=0.5, min_score=-0.1, fields=["caption"])
    filtered = found("--effort", "0.5", "--min-score", "-0.1", "--field", "caption")
    assert [(hit["id"], hit["score"]) for hit in filtered] == [(hit.id, hit.score) for hit in expected]
    assert 0 < len(filtered) < len(everything)
    assert all(hit["metadata"] == {"caption": f"caption of {hit['id']}"} for hit in filtered)
    assert found("--field", "caption", "--field", "path") == everything
    assert deepterms("search", unique_name, "--id", "p3.jpg", "--effort", "2", url=url, cwd=tmp_path).returncode == 2

    done = deepterms("export", unique_name, "store", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 descriptors of 32 dimensions in store" in done.stderr
    store = FeatureStore.open(tmp_path / "store")
    kept = store.features_of(names)
    exact = rows.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(kept, exact / np.linalg.norm(exact, axis=1, keepdims=True), atol=4e-3)
    done = deepterms("export", unique_name, "store", url=url, cwd=tmp_path)
    assert done.returncode == 1  # never overwrites an existing folder
    assert "store" in done.stderr
    assert "Traceback" not in done.stderr
    done = deepterms("index", f"{unique_name}-2", "store", "--top-k", "12", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = dt.SurrogateIndex.open(cluster, f"{unique_name}-2")
    assert again.search(rows[3], k=3, rerank=0).ids == index.search(rows[3], k=3, rerank=0).ids


def test_errors_are_one_sentence_and_an_exit_status(url: str, unique_name: str, tmp_path: Path) -> None:
    done = deepterms("search", unique_name, "--id", "x", url=url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: no index '{unique_name}' in the cluster")
    for usage in (["search", unique_name], ["search", unique_name, "--id", "x", "--filter", "{"], ["nothing"]):
        assert deepterms(*usage, url=url, cwd=tmp_path).returncode == 2
    done = deepterms("deploy", url="http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the cluster did not respond")
    done = deepterms("deploy", url="nonsense", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not the address of a cluster" in done.stderr


def test_deploy_and_check(cluster: Any, url: str, tmp_path: Path) -> None:
    dt.deploy(cluster)
    done = deepterms("deploy", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"unchanged"}
    assert deepterms("check", url=url, cwd=tmp_path).returncode == 0

    changed = select_default_layout(Cluster(cluster).engine)
    template = load_asset("index_templates", changed.resource)
    Cluster(cluster).request("PUT", template.endpoint, body={**template.body, "priority": 7, "version": 2})
    try:
        done = deepterms("check", url=url, cwd=tmp_path)
        assert done.returncode == 1
        assert '-  "priority": 7,' in done.stdout
        assert "1 of " in done.stderr
        done = deepterms("check", "--json", url=url, cwd=tmp_path)
        assert done.returncode == 1
        (found,) = [line for line in map(json.loads, done.stdout.splitlines()) if line["state"] != "same"]
        assert (found["resource"], found["state"]) == (template.file, "newer")
        assert (found["version"], found["expected"]) == (2, 1)

        done = deepterms("deploy", "--dry-run", url=url, cwd=tmp_path)
        assert done.returncode == 1
        assert f"downgrade {template.file}" in done.stdout.splitlines()
        assert "--allow-downgrade" in done.stderr
        done = deepterms("deploy", "--dry-run", "--allow-downgrade", url=url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert deepterms("check", url=url, cwd=tmp_path).returncode == 1  # still

        done = deepterms("deploy", "--allow-downgrade", url=url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines().count(f"replaced  {template.file}") == 1
        assert deepterms("check", url=url, cwd=tmp_path).returncode == 0
    finally:
        dt.deploy(cluster, replace=True, allow_downgrade=True)


def test_deploy_with_python_and_with_curl_alone(cluster: Any, url: str, tmp_path: Path) -> None:
    dt.deploy(cluster)
    script = [str(TOP / "scripts" / "ops" / "deploy.sh")]
    again = subprocess.run([*script, url], capture_output=True, text=True, timeout=60, check=True)
    assert {line.split()[0] for line in again.stdout.splitlines()} == {"exists"}
    template = f"/_index_template/{select_default_layout(Cluster(cluster).engine).resource}"
    Cluster(cluster).request("DELETE", template)
    again = subprocess.run([*script, url], capture_output=True, text=True, timeout=60, check=True)
    assert [line.split()[0] for line in again.stdout.splitlines()].count("created") == 1
    done = deepterms("deploy", url=url, cwd=tmp_path)
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"unchanged"}
    unreachable = subprocess.run(
        [*script, "http://127.0.0.1:9"], capture_output=True, text=True, timeout=60, check=False
    )
    assert unreachable.returncode == 1
    assert "no response" in unreachable.stderr
