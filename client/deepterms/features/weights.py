"""Published weight files into state dicts, even from training checkpoints with objects of programs that are not here.

No code in a file is run. Tensors are read; an object of any other class is replaced by an inert placeholder.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.optional import require

with require("torch", "features"):
    import torch
    from torch import Tensor

__all__ = ["read_state_dict"]

# The parts of a checkpoint. Any other name in it is not looked up.
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


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict, or the one inside a training checkpoint.

    Returns:
        Name → tensor, on the CPU.

    Raises:
        InvalidInput: the file cannot be read, or contains no state dict.
    """
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # Checkpoints of Gordo et al. also contain a PCA of scikit-learn and meters of their training program.
            state = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_make_inert_pickle())
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise InvalidInput(
            f"the weights {str(path)!r} cannot be read ({error}); expected 'imagenet', 'random' or the path of a state "
            "dict written by torch.save"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInput(f"{path} contains a {type(state).__name__}; expected a state dict (names and tensors)")
    return {str(name).removeprefix("module."): value for name, value in state.items()}  # "module.": from DataParallel


class _Inert:
    """Stands in for an object of any other class: accepts whatever pickle does with it, and does nothing."""

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
        """Ignore an item, like `list.append`."""

    def extend(self, values: Any) -> None:
        """Ignore items, like `list.extend`."""


class _Unpickler(pickle.Unpickler):
    """Finds the classes of tensors, and the placeholder for all others."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), _Inert)


def _make_inert_pickle() -> ModuleType:
    """Create a replacement for the module pickle, for `torch.load`."""
    module: Any = ModuleType("deepterms_pickle")
    module.Unpickler = _Unpickler
    module.load = lambda file, **options: _Unpickler(file, **options).load()
    replacement: ModuleType = module
    return replacement
