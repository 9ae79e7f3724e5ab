"""Arrays: from whatever holds numbers in rows to one numpy array, by position, or a sentence that says why not.

Containers are recognised by what they offer, not by their type, so that none of their libraries is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput

__all__ = ["Features", "as_array"]

# What `as_array` accepts; Python's type system cannot list the containers without importing their libraries.
Features = ArrayLike | Iterable[Any]

# Kinds of numpy's dtypes that are not numbers to compute with.
_KINDS = {
    "b": "booleans",
    "c": "complex numbers",
    "M": "dates",
    "m": "durations",
    "S": "bytes",
    "T": "texts",
    "U": "texts",
}
_PLAIN_ROWS = frozenset({float, int, list, tuple})
_NUMBERS = (int, float, Decimal, Fraction, np.integer, np.floating)
_MISSING = frozenset({"NoneType", "NAType", "NaTType"})  # no value; of pandas, whose types are not imported


def as_array(features: Features, *, name: str = "features") -> NDArray[Any]:
    """View or copy rows of numbers as one array.

    Arrays, memory-mapped ones included, are returned without a copy. Also accepted are tables of pandas, polars and
    Arrow, whose rows count by position whatever their labels; tensors; nested sequences; sequences, views and one-shot
    iterators of rows. A missing number is NaN, and so are all numbers of a missing row, so that only this row is
    unusable.

    Args:
        features: numbers (N, D) or (D,), of any real type, bfloat16 of `ml_dtypes` included.
        name: what the caller calls them, for the message.

    Returns:
        The numbers, of the same type where numpy has it.

    Raises:
        InvalidInput: they are no real numbers in rows of one length, such as complex or masked arrays, booleans,
            texts, sparse matrices, dictionaries or sets.
    """
    try:
        return _check(features if isinstance(features, np.ndarray) else _read(features, name), name)
    except InvalidInput:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InvalidInput(
            f"{name} must be numbers in an array (N, D); got {type(features).__name__}: {_first_line(error)}"
        ) from error


def _read(features: Any, name: str) -> NDArray[Any]:
    kind = type(features).__name__
    if features is None or isinstance(features, str | bytes | bytearray):
        raise InvalidInput(f"{name} must be numbers in an array (N, D); got {kind}")
    if isinstance(features, Mapping):
        raise InvalidInput(f"{name} must be numbers in an array (N, D), by position; got {kind}: pass list(….values())")
    if isinstance(features, Set) and not isinstance(features, KeysView):
        raise InvalidInput(f"{name} must be numbers in an array (N, D), by position; got {kind}, which has no order")
    if hasattr(features, "toarray") and hasattr(features, "nnz"):
        raise InvalidInput(f"{name} must be a dense array (N, D); got a sparse {kind}: pass {name}.toarray()")
    if hasattr(features, "detach") and hasattr(features, "cpu"):
        return _read_tensor(features, name)
    if hasattr(features, "__array__"):
        return np.asarray(features)
    try:
        return np.asarray(memoryview(features))
    except TypeError:  # no buffer
        return _read_rows(features if isinstance(features, list | tuple) else list(features), name)


def _read_tensor(tensor: Any, name: str) -> NDArray[Any]:
    """Read a tensor of torch, without gradients, from whichever device."""
    if "strided" not in str(getattr(tensor, "layout", "strided")):
        raise InvalidInput(f"{name} must be a dense array (N, D); got a sparse Tensor: pass {name}.to_dense()")
    plain = tensor.detach().cpu()
    try:
        return np.asarray(plain)
    except TypeError:  # numpy has no such type: bfloat16, float8
        return np.asarray(plain.float())


def _read_rows(rows: Sequence[Any], name: str) -> NDArray[Any]:
    kinds = set(map(type, rows))
    if not kinds <= _PLAIN_ROWS and kinds != {np.ndarray} and not all(issubclass(kind, np.generic) for kind in kinds):
        # numpy would look into masked arrays, tensors and labelled rows in its own way.
        rows = [row if _is_number(row) else as_array(row, name=name)[()] for row in rows]  # [()]: a 0-d tensor
    lengths = {len(row) for row in rows if not _is_number(row)}
    if lengths:
        absent = np.full(min(lengths), np.nan)
        rows = [absent if _is_missing(row) else row for row in rows]
        lengths |= {1 for row in rows if _is_number(row)}
    if len(lengths) > 1:
        got = ", ".join(map(str, sorted(lengths)[:5]))
        raise InvalidInput(f"{name} must be rows of one length; got rows of {got} numbers")
    return np.asarray(rows)


def _check(array: NDArray[Any], name: str) -> NDArray[Any]:
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidInput(
            f"{name} are a masked array, whose masked values would be read as numbers; pass {name}.filled(np.nan) to "
            "have those rows reported, or leave them out"
        )
    array = np.asarray(array)  # np.matrix never has one dimension
    kind = array.dtype.kind
    if kind in "fiu" or (kind == "V" and array.dtype.names is None and np.can_cast(array.dtype, np.float32)):
        return array
    if kind == "O":
        return _read_objects(array, name)
    what = _KINDS.get(kind, f"the type {array.dtype}")
    raise InvalidInput(f"{name} must be numbers in an array (N, D); got {what}: convert them to np.float32 first")


def _read_objects(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Read an array of Python objects: numbers, or rows of numbers."""
    values = array.ravel().tolist()
    strange = [value for value in values if isinstance(value, bool) or not _is_number(value)]
    if array.ndim == 1 and strange and not isinstance(strange[0], str | bytes | bool):
        return _check(_read_rows(values, name), name)
    if strange:
        raise InvalidInput(
            f"{name} must be numbers in an array (N, D); got a {type(strange[0]).__name__} among them: convert them to "
            "np.float32 first"
        )
    numbers = [np.nan if _is_missing(value) else float(value) for value in values]
    return np.array(numbers, dtype=np.float64).reshape(array.shape)


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) or type(value).__module__ == "ml_dtypes" or _is_missing(value)


def _is_missing(value: Any) -> bool:
    """Whether a value stands for no number: None, NA, NaT or, for a whole row, NaN."""
    return type(value).__name__ in _MISSING or (isinstance(value, float) and value != value)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
