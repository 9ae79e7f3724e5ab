"""Turns options into the schema of an index's metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deepterms.errors import InvalidInput

__all__ = ["FieldLimitOption", "FieldTypesOption", "SchemaOption", "read_schema"]

SchemaOption = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        help='A JSON file with the types of metadata fields, such as {"taken": "date", "caption": "text"}; see '
        "docs/metadata.md.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
FieldTypesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        help="The type of one metadata field; repeat the option for more. It overrides --schema.",
        metavar="NAME=TYPE",
        show_default=False,
    ),
]
FieldLimitOption = Annotated[
    int | None,
    typer.Option(
        "--field-limit",
        help="How many fields the index may have. For a new index. Default: the engine's, 1,000.",
        min=1,
        show_default=False,
    ),
]


def read_schema(path: Path | None, fields: Sequence[str] | None) -> dict[str, Any] | None:
    """Read the schema from `--schema` and `--field`; None if neither is given. An empty type becomes None.

    Raises:
        InvalidInput: the file is not a JSON object, or a field is not written as NAME=TYPE.
    """
    if path is None and not fields:
        return None
    schema: dict[str, Any] = {}
    if path is not None:
        try:
            schema = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is not a JSON file: {error}") from None
        if not isinstance(schema, dict):
            raise InvalidInput(f'{path} is not a JSON object of fields and types, such as {{"taken": "date"}}')
    for field in fields or ():
        name, separator, kind = field.partition("=")
        if not separator or not name:
            raise InvalidInput(f"--field {field!r}: expected NAME=TYPE, such as taken=date")
        schema[name] = kind or None
    return schema
