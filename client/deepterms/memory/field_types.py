"""Field types: how values of one metadata field are stored and compared, as the engines do it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Protocol

import numpy as np

from deepterms.errors import InvalidInput
from deepterms.memory.date_formats import DEFAULT_FORMAT, parse_date, parse_zone, read_formats, resolve_date
from deepterms.schema.date_ranges import explain_keyword_dates, is_date_math
from deepterms.schema.metadata_values import MAX_KEYWORD_BYTES

__all__ = ["BOUNDS", "FieldType", "Test", "build_field_type"]

Test = Callable[[Any], bool]

BOUNDS = frozenset({"gt", "gte", "lt", "lte"})

_INTEGERS: Mapping[str, tuple[int, int]] = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned_long": (0, 2**64 - 1),
}
_DECIMALS: Mapping[str, type[np.floating[Any]]] = {"double": np.float64, "float": np.float32}
# Types that only an engine compares; MemoryIndex stores their values and answers `exists`.
_OPAQUE = frozenset(
    {
        *("alias", "annotated-text", "binary", "completion", "constant_keyword", "date_nanos", "date_range"),
        *("dense_vector", "double_range", "flat_object", "flattened", "float_range", "geo_point", "geo_shape"),
        *(
            "half_float",
            "histogram",
            "icu_collation_keyword",
            "integer_range",
            "ip",
            "ip_range",
            "join",
            "knn_vector",
            "long_range",
        ),
        *("match_only_text", "murmur3", "nested", "object", "percolator", "point", "rank_feature", "rank_features"),
        *("search_as_you_type", "semantic", "semantic_text", "shape", "sparse_vector", "text", "token_count"),
        *("version", "wildcard"),
    }
)
# Parameters of a field that change what a filter finds.
_UNSUPPORTED = frozenset({"ignore_malformed", "null_value", "normalizer", "copy_to", "locale"})
_JAVA_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[dDfF]?\s*", re.ASCII)


class FieldType(Protocol):
    """The type of one field."""

    name: str

    def accepts(self, value: Any) -> bool:
        """Whether a document may have this value."""
        ...

    def store(self, value: Any) -> Any:
        """Convert an accepted value to the form in which it is compared; None if it is not indexed."""
        ...

    def show(self, stored: Any) -> Any:
        """Convert a stored value to the one that an aggregation shows."""
        ...

    def build_term(self, wanted: Any) -> Test:
        """Build a test of stored values for equality. Raises InvalidInput if the type has no such value."""
        ...

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        """Build a test of stored values for a range. Raises InvalidInput if the type has no such bounds."""
        ...

    def build_prefix(self, prefix: str) -> Test:
        """Build a test of stored values for a prefix. Raises InvalidInput if the type has no prefixes."""
        ...


def build_field_type(path: str, field: Mapping[str, Any]) -> FieldType:
    """Build the type of a field of a mapping.

    Raises:
        InvalidInput: no engine has such a type, or MemoryIndex cannot read its format.
    """
    name = str(field.get("type", "object"))
    unsupported = sorted(_UNSUPPORTED & {key for key, value in field.items() if value})
    if name in _OPAQUE or (unsupported and name != "object"):
        return _Opaque(path, name, unsupported)
    if name == "keyword":
        return _Keyword(path, ignore_above=field.get("ignore_above"))
    if name == "boolean":
        return _Boolean(path)
    if name == "date":
        return _Date(path, str(field.get("format", DEFAULT_FORMAT)))
    coerce = bool(field.get("coerce", True))
    if name in _INTEGERS:
        return _Integer(path, name, coerce=coerce)
    if name in _DECIMALS:
        return _Decimal(path, name, coerce=coerce)
    if name == "scaled_float":
        factor = field.get("scaling_factor")
        if not isinstance(factor, int | float) or not factor > 0:
            raise InvalidInput(
                f"schema declares {path!r} as scaled_float without a scaling_factor; add one, such as 100"
            )
        return _ScaledFloat(path, float(factor), coerce=coerce)
    raise InvalidInput(f"neither engine has a type {name!r}, which the schema declares for {path!r}")


class _Typed:
    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self.name = name

    def show(self, stored: Any) -> Any:
        return stored

    def build_prefix(self, prefix: str) -> Test:
        raise InvalidInput(f"the filter 'prefix' is for keyword fields; metadata.{self.path} has the type {self.name}")

    def _reject(self, value: Any) -> InvalidInput:
        return InvalidInput(f"metadata.{self.path} has the type {self.name}, which has no value {value!r}")


class _Opaque(_Typed):
    def __init__(self, path: str, name: str, parameters: list[str]) -> None:
        super().__init__(path, name)
        self._parameters = parameters

    def accepts(self, value: Any) -> bool:
        return True

    def store(self, value: Any) -> Any:
        return value

    def build_term(self, wanted: Any) -> Test:
        raise self._refuse()

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        raise self._refuse()

    def build_prefix(self, prefix: str) -> Test:
        raise self._refuse()

    def _refuse(self) -> InvalidInput:
        of = f" with {', '.join(self._parameters)}" if self._parameters else ""
        return InvalidInput(
            f"MemoryIndex cannot compare metadata.{self.path}, which has the type {self.name}{of}; it supports "
            "'exists' on it. Use SurrogateIndex for other filters"
        )


class _Keyword(_Typed):
    def __init__(self, path: str, *, ignore_above: int | None) -> None:
        super().__init__(path, "keyword")
        self._ignore_above = ignore_above

    def accepts(self, value: Any) -> bool:
        if isinstance(value, Mapping):
            return False
        return self._ignore_above is not None or len(_to_text(value).encode("utf-8", "replace")) <= MAX_KEYWORD_BYTES

    def store(self, value: Any) -> str | None:
        text = _to_text(value)
        # The engines count UTF-16 units.
        too_long = self._ignore_above is not None and len(text.encode("utf-16-le", "surrogatepass")) // 2
        return None if self._ignore_above is not None and too_long > self._ignore_above else text

    def build_term(self, wanted: Any) -> Test:
        text = _to_text(wanted)
        return lambda stored: bool(stored == text)

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        dated = [str(bound) for bound in bounds.values() if is_date_math(bound)]
        if dated or options:
            raise InvalidInput(explain_keyword_dates(self.path, (*dated, *options)))
        texts = {name: _to_text(bound).encode("utf-8", "surrogatepass") for name, bound in bounds.items()}
        return lambda stored: _is_inside(stored.encode("utf-8", "surrogatepass"), texts)

    def build_prefix(self, prefix: str) -> Test:
        return lambda stored: bool(stored.startswith(prefix))


class _Boolean(_Typed):
    def __init__(self, path: str) -> None:
        super().__init__(path, "boolean")

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool) or (isinstance(value, str) and value in ("true", "false", ""))

    def store(self, value: Any) -> bool:
        return value is True or value == "true"

    def build_term(self, wanted: Any) -> Test:
        asked = self._parse(wanted)
        return lambda stored: stored is asked

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        parsed = {name: self._parse(bound) for name, bound in bounds.items()}
        return lambda stored: _is_inside(stored, parsed)

    def _parse(self, wanted: Any) -> bool:
        if not isinstance(wanted, bool) and wanted not in ("true", "false"):
            raise self._reject(wanted)
        return wanted is True or wanted == "true"


class _Number(_Typed):
    def __init__(self, path: str, name: str, *, coerce: bool) -> None:
        super().__init__(path, name)
        self._coerce = coerce

    def accepts(self, value: Any) -> bool:
        if isinstance(value, str):
            if not self._coerce or _JAVA_NUMBER.fullmatch(value) is None:
                return False
            value = _parse_number(value)
        return isinstance(value, int | float) and not isinstance(value, bool) and self._holds(value)

    def _holds(self, value: float) -> bool:
        raise NotImplementedError

    def _convert(self, value: float) -> Any:
        """Convert a number to the form in which it is compared."""
        raise NotImplementedError

    def store(self, value: Any) -> Any:
        return self._convert(_parse_number(value) if isinstance(value, str) else value)

    def build_term(self, wanted: Any) -> Test:
        asked = self._convert_asked(wanted)
        return lambda stored: bool(stored == asked)

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        parsed = {name: self._convert_asked(bound) for name, bound in bounds.items()}
        return lambda stored: _is_inside(stored, parsed)

    def _convert_asked(self, wanted: Any) -> Any:
        try:
            return self._convert(self._parse(wanted))
        except OverflowError:
            raise self._reject(wanted) from None

    def _parse(self, wanted: Any) -> float:
        if isinstance(wanted, str) and _JAVA_NUMBER.fullmatch(wanted):
            return _parse_number(wanted)
        if isinstance(wanted, bool) or not isinstance(wanted, int | float):
            raise self._reject(wanted)
        return wanted


class _Integer(_Number):
    def _holds(self, value: float) -> bool:
        least, most = _INTEGERS[self.name]
        return (self._coerce or value == int(value)) and least <= int(value) <= most

    def _convert(self, value: float) -> int:
        return int(value)

    def _convert_asked(self, wanted: Any) -> float:
        return self._parse(wanted)  # a decimal equals no stored value


class _Decimal(_Number):
    def _holds(self, value: float) -> bool:
        try:
            return math.isfinite(self._round(value))
        except OverflowError:
            return False

    def _round(self, value: float) -> float:
        with np.errstate(over="ignore"):
            return float(_DECIMALS[self.name](float(value)))

    def _convert(self, value: float) -> tuple[float, float]:
        rounded = self._round(value)
        return rounded, math.copysign(1, rounded)  # -0.0 comes before 0.0, and differs from it

    def show(self, stored: Any) -> Any:
        return stored[0]


class _ScaledFloat(_Number):
    def __init__(self, path: str, factor: float, *, coerce: bool) -> None:
        super().__init__(path, "scaled_float", coerce=coerce)
        self._factor = factor

    def _holds(self, value: float) -> bool:
        return math.isfinite(self._scale(value))

    def _convert(self, value: float) -> int:
        return math.floor(self._scale(value) + 0.5)

    def _scale(self, value: float) -> float:
        return float(Decimal(repr(float(value))) * Decimal(repr(self._factor)))

    def show(self, stored: Any) -> Any:
        return stored / self._factor

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        scaled = {name: self._scale(self._parse(bound)) for name, bound in bounds.items()}
        for name, bound in scaled.items():
            if not bound.is_integer():
                raise InvalidInput(
                    f"metadata.{self.path} has the type scaled_float, and the engines read the number {bounds[name]} "
                    f"in different ways; pass a bound that is a multiple of 1/{self._factor:g}"
                )
        return lambda stored: _is_inside(stored, scaled)


class _Date(_Typed):
    def __init__(self, path: str, formats: str) -> None:
        super().__init__(path, "date")
        read_formats(formats)  # raises for one that is not supported
        self._formats = formats

    def accepts(self, value: Any) -> bool:
        return not isinstance(value, bool | float | Mapping) and parse_date(str(value), self._formats) is not None

    def store(self, value: Any) -> int | None:
        return parse_date(str(value), self._formats)

    def build_term(self, wanted: Any) -> Test:
        return self.build_range({"gte": wanted, "lte": wanted}, {})

    def build_range(self, bounds: Mapping[str, Any], options: Mapping[str, Any]) -> Test:
        formats, now = str(options.get("format", self._formats)), datetime.now(timezone.utc)
        zone = parse_zone(str(options["time_zone"])) if "time_zone" in options else timezone.utc

        def resolve(bound: Any, *, round_up: bool) -> int:
            if isinstance(bound, bool) or not isinstance(bound, str | int | float):
                raise self._reject(bound)
            if not isinstance(bound, str) and not re.search(r"\bepoch_", formats):
                raise InvalidInput(
                    f"metadata.{self.path} has the type date, and the engines read the number {bound} in different "
                    "ways; pass a string such as '2024-01-31', or a format such as 'epoch_millis'"
                )
            return resolve_date(str(bound), formats, round_up=round_up, zone=zone, now=now)

        # A bound that excludes a day excludes all of it: `gt` begins after it, `lt` ends before it.
        parsed = {name: resolve(bound, round_up=name in ("gt", "lte")) for name, bound in bounds.items()}
        return lambda stored: _is_inside(stored, parsed)


def _is_inside(stored: Any, bounds: Mapping[str, Any]) -> bool:
    return (
        ("gt" not in bounds or stored > bounds["gt"])
        and ("gte" not in bounds or stored >= bounds["gte"])
        and ("lt" not in bounds or stored < bounds["lt"])
        and ("lte" not in bounds or stored <= bounds["lte"])
    )


def _parse_number(text: str) -> float:
    trimmed = text.strip().rstrip("dDfF")
    return int(trimmed) if re.fullmatch(r"[+-]?\d+", trimmed) else float(trimmed)


def _to_text(value: Any) -> str:
    """The text of a value in a keyword field; of a decimal, as Java writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value) if "e" not in repr(value) else format(Decimal(repr(value)), "f")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{int(exponent) + len(text) - 1}"
