"""Weights and optimiser state as flat named tensors, so that safetensors can hold them.

Sharded parameters (FSDP2's DTensor) are made full on saving and sharded again on loading; both are
then collective: every rank calls them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from earl.errors import CheckpointError


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that receive gradients and the persistent buffers, by name.

    Frozen weights are left out: under LoRA they are the start's, unchanged. A model whose frozen
    weights do change (a codebook) names them in an attribute `also_saved`.
    """
    return {name: full(value) for name, value in _saved(model).items()}


def _saved(model: nn.Module) -> dict[str, Tensor]:
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    frozen -= set(getattr(model, "also_saved", ()))
    return {name: value for name, value in model.state_dict().items() if name not in frozen | _aliases(model)}


def _aliases(model: nn.Module) -> set[str]:
    """Second names of parameters that have two, as a head tied to the embedding has."""
    every = model.named_parameters(remove_duplicate=False)
    return {name for name, _ in every} - {name for name, _ in model.named_parameters()}


@torch.no_grad()
def load_trained_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved weights into the model; names and shapes must be the same.

    Raises:
        CheckpointError: the checkpoint is of another model.
    """
    present = _saved(model)
    if differing := sorted(present.keys() ^ tensors.keys()):
        raise CheckpointError(
            f"the checkpoint is of another model: {len(differing)} weights differ, first {differing[0]!r}"
        )
    for name, value in present.items():
        saved = tensors[name]
        if saved.shape != value.shape:
            raise CheckpointError(
                f"the checkpoint is of another model: {name} is {tuple(saved.shape)} there and "
                f"{tuple(value.shape)} here"
            )
        value.copy_(sharded_like(saved, value))


def optimiser_tensors(
    optimisers: Iterable[torch.optim.Optimizer], names: Mapping[Any, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flatten optimiser state to `index|parameter|key`; numbers that are no tensors go to the rest."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for index, optimiser in enumerate(optimisers):
        for parameter, state in optimiser.state.items():
            for key, value in state.items():
                label = f"{index}|{names[parameter]}|{key}"
                if isinstance(value, Tensor):
                    tensors[label] = full(value)
                else:
                    rest[label] = value
    return tensors, rest


def load_optimiser_tensors(
    optimisers: Iterable[torch.optim.Optimizer],
    names: Mapping[nn.Parameter, str],
    tensors: Mapping[str, Tensor],
    rest: Mapping[str, Any],
) -> None:
    """Undo `optimiser_tensors`.

    Raises:
        CheckpointError: the state is of other parameters.
    """
    by_index = list(optimisers)
    parameters = {name: parameter for parameter, name in names.items()}
    for optimiser in by_index:
        optimiser.state.clear()
    for label, value in [*tensors.items(), *rest.items()]:
        index, name, key = label.split("|")
        if int(index) >= len(by_index) or name not in parameters:
            raise CheckpointError(f"the checkpoint's optimiser state {label!r} has no parameter here")
        parameter = parameters[name]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = sharded_like(value, parameter).to(parameter.device)
        by_index[int(index)].state[parameter][key] = value


def full(tensor: Tensor) -> Tensor:
    """The tensor itself, or the full one where it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, model: Tensor) -> Tensor:
    """The tensor, sharded as `model` is."""
    if isinstance(model, DTensor):
        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
    return tensor
