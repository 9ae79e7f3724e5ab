"""Values of metadata become the JSON that both engines store, or are rejected by the name of their field."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.schema.json_values import to_json_object

ENCODER = dt.DeepPermutation(4, top_k=2)


class Colour(Enum):
    RED = "red"


class Name(str, Enum):
    FIRST = "first"


class Level(IntEnum):
    HIGH = 3


TOKYO = datetime.timezone(datetime.timedelta(hours=9))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.array(3), 3),
        (np.datetime64("2018-01-02"), "2018-01-02"),
        (np.datetime64("2018-01-02T03:04:05"), "2018-01-02T03:04:05"),
        (np.array(["2018-01-02"], dtype="M8[D]"), ["2018-01-02"]),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.datetime64("NaT"), None),
        ((1, ("a",)), [1, ["a"]]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (Decimal("19.99"), 19.99),
        (Decimal("20.00"), 20),
        (Decimal("1E+3"), 1000),
        (Decimal("-0.1"), -0.1),
        (datetime.date(2018, 1, 2), "2018-01-02"),
        (datetime.datetime(2018, 1, 2, 3, 4, 5), "2018-01-02T03:04:05"),
        (datetime.datetime(2018, 1, 2, 3, 4, 5, 6, tzinfo=TOKYO), "2018-01-02T03:04:05.000006+09:00"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(minutes=1.5), 90.0),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b.jpg"), "a/b.jpg"),
        (Colour.RED, "red"),
        (Name.FIRST, "first"),
        (Level.HIGH, 3),
        (pd.Timestamp("2018-01-02T03:04:05+09:00"), "2018-01-02T03:04:05+09:00"),
        (pd.Timedelta(seconds=90), 90.0),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Series([1, 2], index=[1, 0]), [1, 2]),
        (pd.Index(["a"]), ["a"]),
        (pl.Series([1, 2]), [1, 2]),
        (pa.array([1, None]), [1, None]),
        (pa.scalar(5), 5),
        (torch.tensor([1.5, 2.0], requires_grad=True), [1.5, 2.0]),
        (torch.tensor(3), 3),
        ({np.str_("a"): {Name.FIRST: np.int8(1)}}, {"a": {"first": 1}}),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        ([], []),
        ({}, {}),
        ([None], [None]),
        ("é\0\u2028😀", "é\0\u2028😀"),
    ],
    ids=repr,
)
def test_a_value_becomes_its_natural_json(value: Any, expected: Any) -> None:
    found = to_json_object({"field": value})
    assert found == {"field": expected}
    assert type(found["field"]) is type(expected)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), r"^metadata\.size\.width is nan, which JSON cannot represent"),
        (float("inf"), r"^metadata\.size\.width is inf"),
        (np.float32("nan"), r"^metadata\.size\.width is nan"),
        (Decimal("NaN"), r"^metadata\.size\.width is NaN"),
        (Decimal("Infinity"), r"^metadata\.size\.width is Infinity"),
        ([1.0, [float("nan")]], r"^metadata\.size\.width\[1\]\[0\] is nan"),
        (np.array([1, np.nan]), r"^metadata\.size\.width\[1\] is nan"),
        (Decimal("0.12345678901234567890"), r"^metadata\.size\.width is 0\.1234.* more digits than a double"),
        (2**63, r"^metadata\.size\.width is 9223372036854775808; both engines hold integers"),
        (-(2**63) - 1, r"^metadata\.size\.width is -9223372036854775809"),
        (10**5000, r"^metadata\.size\.width is an integer of 16610 bits"),
        (np.uint64(2**63), r"^metadata\.size\.width is 9223372036854775808"),
        (Decimal(2**63), r"^metadata\.size\.width is 9223372036854775808"),
        ("\ud800", r"^'metadata\.size\.width' contains a lone surrogate"),
        (["a", "\udfff"], r"^'metadata\.size\.width\[1\]' contains a lone surrogate"),
        (PurePosixPath("a\udcff.jpg"), "lone surrogate"),
        ({"a": {"\ud800": 1}}, r"^metadata\.size\.width\.a has the field name '\\ud800'"),
        ({"": 1}, r"^metadata\.size\.width has the field name ''"),
        ({" ": 1}, "has the field name ' '"),
        ({"\t": None}, "has the field name"),
        ({".a": 1}, r"has the field name '\.a'"),
        ({"a..b": 1}, r"has the field name 'a\.\.b'"),
        ({".": 1}, r"has the field name '\.'"),
        ({"a. .b": 1}, "has the field name"),
        ({3: 1}, r"^metadata\.size\.width has the field name 3, a int; expected a text"),
        ({True: 1}, "has the field name True, a bool"),
        ({None: 1}, "has the field name None"),
        (b"abc", r"^metadata\.size\.width is a bytes; expected what JSON can represent"),
        (np.bytes_(b"abc"), "is a bytes_"),
        (np.array([b"abc"]), r"\[0\] is a bytes"),
        ({1, 2}, "is a set"),
        (1j, "is a complex"),
        (np.complex64(1), "is a complex64"),
        (Fraction(1, 3), "is a Fraction"),
        (object(), "is a object"),
        (np.ma.masked_array([1, 2], mask=[False, True]), "is a masked array"),
        (pd.DataFrame({"a": [1]}), "is a DataFrame"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_or_the_engines_lack_names_its_field(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        to_json_object({"fine": 1, "size": {"width": value}})
    str(caught.value).encode()  # it can be printed and sent
    assert len(str(caught.value)) < 500
    index = dt.MemoryIndex(ENCODER)
    metadata: list[dict[str, Any]] = [{"x": 1}, {"size": {"width": value}}, {"x": 3}]
    report = index.add(["a", "b", "c"], np.eye(3, 4), metadata)
    assert report == dt.WriteReport(2, (dt.Failure("b", str(caught.value)),))
    assert index.add(["b"], np.eye(1, 4)).succeeded == 1
    report = index.update_metadata(["a", "b", "c"], metadata)
    assert report == dt.WriteReport(2, (dt.Failure("b", str(caught.value)),))


def test_depth_is_limited_as_in_the_engines() -> None:
    def nest(levels: int, leaf: Any) -> Any:
        for _ in range(levels):
            leaf = {"a": leaf}
        return leaf

    def wrap(levels: int) -> Any:
        values: Any = 1
        for _ in range(levels):
            values = [values]
        return values

    for fine in (nest(19, 1), nest(18, {}), {"a": wrap(20)}, nest(18, [{"b": wrap(20)}]), {".".join("a" * 19): 1}):
        assert to_json_object(fine) == fine
    for deep in (nest(20, 1), nest(19, {}), nest(10_000, 1), {".".join("a" * 20): 1}, {"x": {".".join("a" * 19): 1}}):
        with pytest.raises(InvalidInput, match="depth"):
            to_json_object(deep)
    for arrays in (wrap(21), wrap(10_000)):
        with pytest.raises(InvalidInput, match="more than 20 arrays inside each other"):
            to_json_object({"a": arrays})
    circle: dict[str, Any] = {}
    circle["circle"] = circle
    with pytest.raises(InvalidInput, match="depth"):
        to_json_object(circle)
    names = {"a.b": 1, "a. b": 2, "c.": 3, "_id": 4, "a*": 5}
    assert to_json_object(names) == names


NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_json_stays_as_it_is_and_shares_nothing(fields: dict[str, Any]) -> None:
    found = to_json_object(fields)
    assert found == fields
    assert json.dumps(found) == json.dumps(fields)
    assert found is not fields
    for name, value in found.items():
        assert not isinstance(value, dict | list) or value is not fields[name]


KEYS = st.text(max_size=5) | st.integers() | st.none()


@given(st.dictionaries(KEYS, VALUES | st.text(max_size=4) | st.floats(), max_size=4))
def test_whatever_is_accepted_can_be_sent(fields: dict[Any, Any]) -> None:
    try:
        found = to_json_object(fields)
    except InvalidInput as error:
        str(error).encode()
        return
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
