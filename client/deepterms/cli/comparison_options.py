"""The option that chooses what compares vectors, for `deepterms index` and `deepterms migrate`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

__all__ = ["CompareChoice", "CompareOption"]


class CompareChoice(str, Enum):
    """Values of `--compare`."""

    native = "native"
    script = "script"


CompareOption = Annotated[
    CompareChoice | None,
    typer.Option(
        help="native: the vector field of Elasticsearch 9.2 or later compares all documents that share a codeword with "
        "the query; for pivots, with int8 vectors. script: only the best candidates are compared; any engine and "
        "encoder. For a new index. Default: native where it is possible.",
        show_default=False,
    ),
]
