"""FieldMapping: the types of a MemoryIndex's metadata fields, declared or learnt from documents as the engines do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepterms.memory.date_formats import parse_date
from deepterms.memory.field_types import FieldType, build_field_type
from deepterms.schema.metadata_schema import DATE_FORMAT, DECIMAL, parse_schema
from deepterms.schema.rejections import explain_rejection

__all__ = ["FieldMapping", "read_values"]

_LEARNT: Mapping[str, Mapping[str, Any]] = {
    "boolean": {"type": "boolean"},
    "double": DECIMAL,
    "date": {"type": "date", "format": DATE_FORMAT},
    "keyword": {"type": "keyword"},
}
# Types whose values are objects, with fields of their own that a filter does not see.
_HOLD_OBJECTS = frozenset(
    {
        *("completion", "date_range", "double_range", "flat_object", "flattened", "float_range", "geo_point"),
        *("geo_shape", "histogram", "integer_range", "ip_range", "join", "long_range", "nested", "object"),
        *("percolator", "point", "rank_features", "semantic_text", "shape", "sparse_vector"),
    }
)


class FieldMapping:
    """The fields of an index.

    Args:
        schema: as users write it.

    Attributes:
        types: path of a field, without ``metadata.`` → its type.

    Raises:
        InvalidInput: the schema is malformed, or has a type that no engine has.
    """

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        self.schema = parse_schema(schema)
        self.types: dict[str, FieldType] = {}
        self._objects: set[str] = set()
        self._declare(self.schema, "")

    def _declare(self, fields: Mapping[str, Any], prefix: str) -> None:
        for name, field in fields.items():
            path = f"{prefix}{name}"
            if "properties" in field and field.get("type", "object") == "object":
                self._objects.add(path)
                self._declare(field["properties"], f"{path}.")
            elif field.get("type") == "object" and field.get("enabled", True):
                self._objects.add(path)
            else:
                self.types[path] = build_field_type(path, field)
            for part, inner in field.get("fields", {}).items():
                self.types[f"{path}.{part}"] = build_field_type(f"{path}.{part}", inner)

    def learn(self, metadata: Mapping[str, Any]) -> str:
        """Check the metadata of a document, and learn the types of its new fields.

        Returns:
            Why an engine would reject the document; empty if it would not. Then nothing is learnt.
        """
        new: dict[str, str] = {}
        objects: set[str] = set()
        for path, value in self._walk(metadata, ""):
            known = self.types.get(path)
            if known is not None:
                if not known.accepts(value) or (isinstance(value, Mapping) and known.name not in _HOLD_OBJECTS):
                    return explain_rejection(
                        f"failed to parse field [metadata.{path}] of type [{known.name}] in document. Preview of "
                        f"field's value: '{value}'"
                    )
                continue
            kind = "object" if isinstance(value, Mapping) else _name_type(value)
            if (kind == "object") != (path in self._objects or path in objects) and (
                path in self._objects or path in objects or path in new
            ):
                return explain_rejection(f"object mapping for [metadata.{path}] tried to parse field [] as object")
            if kind == "object":
                objects.add(path)
            elif new.setdefault(path, kind) != kind:
                return explain_rejection(
                    f"mapper [metadata.{path}] cannot be changed from type [{new[path]}] to [{kind}]"
                )
        self._objects |= objects
        self.types |= {path: build_field_type(path, _LEARNT[kind]) for path, kind in new.items()}
        return ""

    def _walk(self, value: Any, path: str) -> Iterator[tuple[str, Any]]:
        """Yield (path, value) of all values and objects; a dot in a name separates objects."""
        if isinstance(value, list | tuple):
            for item in value:
                yield from self._walk(item, path)
        elif isinstance(value, Mapping):
            if path:
                yield path, value
                if path in self.types:
                    return
            for name, inner in value.items():
                below, parts = path, name.split(".")
                for part in parts[:-1]:
                    below = f"{below}.{part}" if below else part
                    yield below, {}
                yield from self._walk(inner, f"{below}.{parts[-1]}" if below else parts[-1])
        elif value is not None:
            yield path, value

    def find(self, path: str) -> FieldType | None:
        """Return the type of a field; None if no document has it."""
        return self.types.get(path)

    def find_below(self, path: str) -> list[str]:
        """List the fields of an object, or the field itself."""
        return [known for known in self.types if known == path or known.startswith(f"{path}.") or not path]

    def find_opaque(self, path: str) -> str | None:
        """Find the field whose objects contain a path, such as the ``nested`` one; None for other paths."""
        parts = path.split(".")
        above = (".".join(parts[:length]) for length in range(1, len(parts)))
        return next((known for known in above if known in self.types and path not in self.types), None)

    def read(self, metadata: Mapping[str, Any], path: str) -> list[Any]:
        """Read the stored values of a field of a document; a multi-field has those of the field that it belongs to."""
        kind = self.types[path]
        above = path.rpartition(".")[0]
        values = read_values(metadata, above if above in self.types else path, objects=kind.name in _HOLD_OBJECTS)
        return [stored for value in values if (stored := kind.store(value)) is not None]

    def read_shown(self, metadata: Mapping[str, Any], path: str) -> list[Any]:
        """Read the values of a field as an engine's aggregations show them: of a date, its milliseconds since 1970."""
        kind = self.types[path]
        return [kind.show(stored) for stored in self.read(metadata, path)]


def _name_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "double"
    return "keyword" if parse_date(str(value), DATE_FORMAT) is None else "date"


def read_values(metadata: Mapping[str, Any], path: str, *, objects: bool = False) -> Iterator[Any]:
    """Yield the values of a field in a document, with arrays flattened.

    Args:
        metadata: of the document.
        path: the field; its dots separate objects or are part of a name.
        objects: whether its values may be objects.
    """
    yield from _read(metadata, path.split("."), objects)


def _read(value: Any, names: list[str], objects: bool) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _read(item, names, objects)
    elif not names:
        if value is not None and (objects or not isinstance(value, Mapping)):
            yield value
    elif isinstance(value, Mapping):
        for length in range(1, len(names) + 1):
            name = ".".join(names[:length])
            if name in value:
                yield from _read(value[name], names[length:], objects)
