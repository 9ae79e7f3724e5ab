"""Weight files as they were published: state dicts, and training checkpoints full of objects of programs long gone.

Nothing in a file is run. Tensors and arrays are read; every object of another class becomes an empty one that only
remembers what it was.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from deepterms.errors import InvalidInput, MissingExtra

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise MissingExtra("torch", "features") from error

__all__ = ["read_state"]

# What a checkpoint is made of. Whatever else it names is not looked up.
_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "device"): torch.device,
    ("torch", "Size"): torch.Size,
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    **{("torch", name): getattr(torch, name) for name in dir(torch) if name.endswith("Storage")},
}
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError)


def read_state(path: Path) -> dict[str, Tensor]:
    """The names and tensors of a state dict, or of the one inside a training checkpoint.

    Raises:
        InvalidInput: it cannot be read, or holds none.
    """
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # A checkpoint of Gordo et al. holds a PCA of scikit-learn and meters of their training program besides.
            state = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_inert_pickle())
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise InvalidInput(
            f"the weights {str(path)!r} cannot be read ({error}); expected 'imagenet', 'random' or the path of a state "
            "dict written by torch.save"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInput(f"{path} does not hold a state dict (names and tensors) but a {type(state).__name__}")
    return {str(name).removeprefix("module."): value for name, value in state.items()}  # "module.": from DataParallel


class _Inert:
    """In place of an object of a class that is not looked up: takes whatever pickle gives it, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **named: Any) -> _Inert:
        return _Inert()

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As a list's."""

    def extend(self, values: Any) -> None:
        """As a list's."""


class _Unpickler(pickle.Unpickler):
    """Knows tensors and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), _Inert)


def _inert_pickle() -> ModuleType:
    """What `torch.load` takes for the module pickle."""
    module: Any = ModuleType("deepterms_pickle")
    module.Unpickler = _Unpickler
    module.load = lambda file, **options: _Unpickler(file, **options).load()
    made: ModuleType = module
    return made
