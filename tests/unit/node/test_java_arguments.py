from __future__ import annotations

from pathlib import PurePosixPath

from deepterms.node import java_arguments

HOME = PurePosixPath("/usr/share/opensearch")


def test_arguments_for_an_image_use_its_own_paths() -> None:
    line = java_arguments(HOME, heap="512m", settings={"http.port": "9200", "discovery.type": "single-node"})
    assert line[:2] == ["-Xms512m", "-Xmx512m"]
    assert "-javaagent:/usr/share/opensearch/agent/opensearch-agent-3.8.0.jar" in line
    assert "-Dopensearch.path.home=/usr/share/opensearch" in line
    assert "-Dopensearch.path.conf=/usr/share/opensearch/config" in line
    start = line.index("-cp")
    assert line[start:] == [
        "-cp",
        "/usr/share/opensearch/lib/*",
        "org.opensearch.bootstrap.OpenSearch",
        "-Ehttp.port=9200",
        "-Ediscovery.type=single-node",
    ]
    assert not any(argument.startswith("-Djava.io.tmpdir") for argument in line)


def test_config_and_temporary_folders_can_be_moved() -> None:
    line = java_arguments(HOME, config=PurePosixPath("/data/config"), temp=PurePosixPath("/data/tmp"))
    assert "-Dopensearch.path.conf=/data/config" in line
    assert {"-Djava.io.tmpdir=/data/tmp", "-Djna.tmpdir=/data/tmp"} <= set(line)
    assert line[-1] == "org.opensearch.bootstrap.OpenSearch"
