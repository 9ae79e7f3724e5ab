from __future__ import annotations

import pytest

from deepterms.errors import InvalidInput
from deepterms.evaluation.photos.qt_resources import read_qt_resources
from tests.unit.evaluation.photos.archives import qt_resources

FILES = {"a/bear.webp": b"RIFF bear", "a/größe/cat.jpg": b"\xff\xd8 cat", "top.txt": b"", "b/c/d/e": b"x" * 5000}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_file_is_read_by_its_path(version: int, compressed: bool) -> None:
    assert read_qt_resources(qt_resources(FILES, version=version, compressed=compressed)) == FILES


def test_any_other_file_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="expected b'qres'"):
        read_qt_resources(b"RIFF....WEBP")


@pytest.mark.parametrize("length", [5, 30, 60, -1])
def test_a_truncated_file_is_rejected(length: int) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        read_qt_resources(qt_resources(FILES)[:length])


def test_a_folder_that_contains_itself_is_rejected() -> None:
    content = bytearray(qt_resources({"a/b": b"x"}))
    node_of_a = 24 + 22
    content[node_of_a + 10 : node_of_a + 14] = (1).to_bytes(4, "big")  # its first child: itself
    with pytest.raises(InvalidInput, match="damaged"):
        read_qt_resources(bytes(content))
