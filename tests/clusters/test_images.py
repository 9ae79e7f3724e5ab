"""Images of OpenSearch 2 are built from their own lock, with what version 2 needs and version 3 does not."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import pytest

from deepterms.node.distribution import MODULES, VERSION
from deepterms.node.java_arguments import java_arguments
from deepterms.node.lock import load_lock
from tests.clusters import images

HERE = Path(__file__).parent
LOCKS = sorted(path.name[len("opensearch-") : -len(".lock.json")] for path in HERE.glob("opensearch-*.lock.json"))


@pytest.mark.parametrize("version", LOCKS)
def test_a_lock_is_complete(version: str) -> None:
    lock = load_lock(version, HERE)
    assert (HERE / f"opensearch-{version}.lock.json").read_text(encoding="utf-8") == lock.to_json()
    assert lock.version == version
    assert {f"modules/{module.name}" for module in MODULES} <= lock.folders.keys()
    for module in MODULES:
        assert module.root(version) in lock.folders[f"modules/{module.name}"]


def test_before_version_3_a_security_manager_is_used() -> None:
    assert "agent" not in load_lock("2.19.6", HERE).folders
    assert "-Djava.security.manager=allow" in java_arguments(PurePosixPath("/x"), version="2.19.6")
    assert "-Djava.security.manager=allow" not in java_arguments(PurePosixPath("/x"))
    descriptors = "".join(module.descriptor("2.19.6") for module in MODULES)
    assert "classname=org.opensearch.painless.PainlessPlugin\n" in descriptors
    assert "ModulePlugin" not in descriptors


def test_images_are_recognised_by_their_names() -> None:
    assert images._recipe(f"opensearchproject/opensearch:{VERSION}") is not None
    assert images._recipe("opensearchproject/opensearch:2.19.6") is not None
    assert images._recipe("opensearchproject/opensearch:1.0.0") is None
    assert images._recipe("mirror/opensearch:2.19.6") is None


def test_score_functions_are_appended_only_once(tmp_path: Path) -> None:
    jar, name = tmp_path / "lang-painless-9.2.0.jar", images._SCORE_FUNCTIONS_OF_PAINLESS
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("some.class", b"\0")
        archive.writestr(name, "static_import {\n}\n")
    for _ in range(2):
        images._allow_score_functions(jar)
        with zipfile.ZipFile(jar) as archive:
            assert archive.namelist() == ["some.class", name]
            assert archive.read("some.class") == b"\0"
            assert archive.read(name).count(b" dotProduct(") == 1
