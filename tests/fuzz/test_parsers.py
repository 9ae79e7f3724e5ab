"""Feed every parser arbitrary bytes, JSON values and damaged valid inputs; only DeepTermsError may be raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, closing

FOUND = Path(__file__).parent / "found"

QUICK = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -1, 0, 2**63, 1e308, float("nan"), float("inf")])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "../_all", "a?b=c", '"}', "\n", "$(x)", "\ud800", "t1", "t" + "9" * 5000, "٣"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(autouse=True, scope="module")
def _closed() -> Iterator[None]:
    with closing():
        yield


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Iterate over the paths of a value and everything inside it."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _places(each, (*path, key))


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with the value at a path replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy


@st.composite
def damaged_json(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    value = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 2))):
        value = _with(value, draw(st.sampled_from(list(_places(value)))), draw(VALUES))
    return json.dumps(value).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        stop = at + draw(st.sampled_from([0, 1, 1, 1, 4, 64]))
        content[at:stop] = draw(st.binary(max_size=8))
    return bytes(content[: draw(st.sampled_from([len(content)] * 3 + [len(content) // 2]))])


@pytest.mark.parametrize("name", TARGETS)
def test_valid_input_is_accepted(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].parse(seed)


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inputs_found_by_atheris(path: Path) -> None:
    TARGETS[path.parent.name].parse(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_arbitrary_bytes(name: str) -> None:
    target = TARGETS[name]

    @settings(QUICK, max_examples=60)
    @given(st.binary(max_size=200) | damaged_bytes(target.seeds))
    def run(content: bytes) -> None:
        target.parse(content)

    run()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.json])
def test_arbitrary_json(name: str) -> None:
    target = TARGETS[name]
    seeds = tuple(seed for seed in target.seeds if seed[:1] in b'[{"')

    @settings(QUICK, max_examples=150)
    @given(damaged_json(seeds) | VALUES.map(lambda value: json.dumps(value).encode()))
    def run(content: bytes) -> None:
        target.parse(content)

    run()


def test_deep_nesting() -> None:
    for target in TARGETS.values():
        for deep in (b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 900 + b"]" * 900):
            target.parse(deep)
