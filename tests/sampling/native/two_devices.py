"""Two devices where there is one CPU: tensors carry a label, and mixing labels is an error.

Inside `TwoDevices()` "cpu:0" and "cpu:1" behave as two devices do: a tensor is on the one it was made on or
moved to, `tensor.device` says so, and an operation on tensors of both raises, as on two GPUs. The arithmetic
is the CPU's own. (torch itself takes both names for the one CPU.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

_DEVICE = torch.Tensor.device.__get__
_MOVES = (torch.Tensor.to,)
_CROSSING = (torch.Tensor.copy_, torch._has_compatible_shallow_copy_type)  # may see two devices
_SET_DATA = torch.Tensor.data.__set__
_LIKE = "_label"
_STORAGES: dict[
    int, torch.device
] = {}  # for parameters, which are made around a tensor without its attributes


class TwoDevices(TorchFunctionMode):
    """Counts in `moves` how many tensors went from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == _DEVICE:
            return label(args[0])
        if getattr(func, "__name__", "") == "__set__":
            if func == _SET_DATA:  # a parameter that takes another tensor's memory goes where that lies
                setattr(args[0], _LIKE, label(args[1]))
            return func(*args, **kwargs)
        wanted = None
        if func in _MOVES:
            wanted, args = _split(args)
        if "device" in kwargs:
            wanted = kwargs["device"] if kwargs["device"] is not None else wanted
            kwargs["device"] = None if kwargs["device"] is None else "cpu"
        tensors = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        labels = {label(tensor) for tensor in tensors if tensor.dim() or label(tensor).index is not None}
        if len(labels) > 1 and func not in _CROSSING:
            raise RuntimeError(f"{getattr(func, '__name__', func)} mixes {sorted(map(str, labels))}")
        out = func(*args, **kwargs)
        here = torch.device(wanted) if wanted is not None else next(iter(labels), torch.device("cpu"))
        if func in _MOVES and wanted is not None and here != label(tensors[0]):
            self.moves += 1
            out = out.clone() if out is tensors[0] else out

        def mark(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                setattr(leaf, _LIKE, here)
                _STORAGES[leaf.untyped_storage().data_ptr()] = here
            return leaf

        return tree_map(mark, out)


def label(tensor: torch.Tensor) -> torch.device:
    """Where a tensor is taken to lie; "cpu" for one that was made elsewhere."""
    found = getattr(tensor, _LIKE, None)
    return found or _STORAGES.get(tensor.untyped_storage().data_ptr(), torch.device("cpu"))


def _split(args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """The device among the arguments of `Tensor.to`, and the arguments with the CPU in its place."""
    device = next((each for each in args[1:] if isinstance(each, str | torch.device)), None)
    return device, tuple("cpu" if isinstance(each, str | torch.device) else each for each in args)
