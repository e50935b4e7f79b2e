"""Placement of one policy on several devices, and a forward pass that follows it.

A block (the embedding, a decoder layer, the last norm, the head) is never split, and is computed where it
lies. accelerate works out the map and moves what flows between blocks. What a policy over several devices
is for: sampling and scoring. It is not trained; training cuts every weight over the ranks instead
(`ranks.sharding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from earl.errors import ConfigError

Place = str | int | torch.device
DeviceMap = str | Mapping[str, Place]
MaxMemory = Mapping[str, int | str] | Mapping[int | str, int | str]

LAYER = "Emu3DecoderLayer"
_EMBEDDING, _ROPE, _HEAD = "model.embed_tokens", "model.rotary_emb", "lm_head"
_GIB = 2**30


def plan_devices(
    model: Any, device_map: DeviceMap, dtype: torch.dtype, *, max_memory: MaxMemory | None = None
) -> dict[str, torch.device]:
    """Give every block of a policy its device.

    Args:
        model: an Emu3ForCausalLM; one on the meta device will do.
        device_map: "auto" shares the blocks out evenly, in order, over the CUDA devices there are (all on the
            CPU where there is none). Or a device for each block by name, as in transformers: a name stands
            for everything below it ("model.layers.0", "model", "" for the rest), the longest one counts.
        dtype: what the weights will be held in.
        max_memory: with "auto", how much of each device may be taken: {0: "10GiB", 1: "10GiB"}, in
            accelerate's units; {..., "cpu": "30GiB"} lets what is left be computed on the CPU. None takes
            90% of what is free on each CUDA device.

    Returns:
        A device for "model.embed_tokens", each "model.layers.N", "model.norm", "model.rotary_emb", "lm_head".
        The table of positions has no weights and lies beside the embedding.

    Raises:
        ConfigError: the weights do not fit; an unknown name or device; a block without a device; a device for
            a part of a layer; "disk"; a head tied to an embedding that lies elsewhere.
    """
    if isinstance(device_map, str):
        if device_map != "auto":
            raise ConfigError(
                f"unknown device_map {device_map!r}; give 'auto' or a mapping from blocks to devices"
            )
        device_map = _share_out(model, dtype, max_memory)
    elif max_memory is not None:
        raise ConfigError("max_memory is for device_map='auto'; a mapping already says what lies where")
    return _by_block(model, device_map)


def check_present(places: Mapping[str, torch.device]) -> None:
    """Raises ConfigError where a map names a CUDA device that torch does not see."""
    count = torch.cuda.device_count()
    for block, place in places.items():
        if place.type == "cuda" and (place.index or 0) >= count:
            raise ConfigError(f"device_map puts {block} on {place}, but torch sees {count} CUDA devices here")


def block_of(name: str) -> str:
    """The block that a weight belongs to: "model.layers.3.mlp.up_proj.weight" gives "model.layers.3"."""
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[:2] == ["model", "layers"] else name.rpartition(".")[0]


def follow_devices(model: Any, places: Mapping[str, torch.device]) -> None:
    """Make the forward pass of a policy move what flows to the device of each block, and its result back.

    `hf_device_map` of the model tells the map to transformers, peft and accelerate. Nothing is left to train.
    """
    from accelerate.hooks import attach_align_device_hook_on_blocks

    attach_align_device_hook_on_blocks(
        model,
        execution_device=dict(places),
        offload=dict.fromkeys(places, False),
        skip_keys=["past_key_values", "cache"],  # transformers has one word or the other for it
    )
    model.hf_device_map = dict(places)
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def native_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself. A CPU that emulates it is slower than in float32."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def names_cuda(device_map: DeviceMap) -> bool:
    """Whether a map means CUDA devices; "auto" does where there are any."""
    if isinstance(device_map, str):
        return torch.cuda.is_available()
    return any(isinstance(place, int) or "cuda" in str(place) for place in device_map.values())


def devices_of(model: Any) -> set[torch.device]:
    """Where the weights of a policy lie: one device, or several for a policy that was split."""
    return {parameter.device for parameter in model.parameters()}


def refuse_split(model: Any, what: str) -> None:
    """Raises ConfigError where a policy lies on several devices; `what` names what cannot be done with it."""
    devices = devices_of(model)
    if len(devices) > 1:
        raise ConfigError(
            f"{what} takes a policy on one device, this one lies on {', '.join(sorted(map(str, devices)))}; "
            "load it without device_map"
        )


def _share_out(model: Any, dtype: torch.dtype, max_memory: MaxMemory | None) -> dict[str, Place]:
    """accelerate's map: even where that fits, else each device filled in turn."""
    from accelerate.utils import get_balanced_memory, get_max_memory, infer_auto_device_map

    if max_memory is None:
        if not torch.cuda.is_available():
            return {"": "cpu"}
        free = {place: size for place, size in get_max_memory().items() if isinstance(place, int)}
        limits: dict[Any, Any] = {place: int(0.9 * size) for place, size in free.items()}
    else:
        try:
            by_place = {int(p) if str(p).isdigit() else p: size for p, size in max_memory.items()}
            limits = dict(get_max_memory(by_place))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"max_memory {dict(max_memory)} is not understood: {error}; give sizes such as '10GiB' "
                "by number of the CUDA device, and for 'cpu'"
            ) from error
    even = get_balanced_memory(model, dict(limits), no_split_module_classes=[LAYER], dtype=dtype)
    for shares in (even, limits):
        places: dict[str, Place] = infer_auto_device_map(
            model, max_memory=dict(shares), no_split_module_classes=[LAYER], dtype=dtype, clean_result=False
        )
        if "disk" not in places.values():
            return places
    size = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    given = ", ".join(f"{place}: {limit / _GIB:.1f} GiB" for place, limit in limits.items())
    raise ConfigError(
        f"a policy of {size / _GIB:.1f} GiB in {str(dtype).removeprefix('torch.')} does not fit into {given} "
        "with room for the largest block; take more devices, quantize, or let max_memory name 'cpu' too"
    )


def _by_block(model: Any, device_map: Mapping[str, Place]) -> dict[str, torch.device]:
    layers = [f"model.layers.{index}" for index in range(len(model.model.layers))]
    blocks = [_EMBEDDING, *layers, "model.norm", _ROPE, _HEAD]
    for name in device_map:
        if any(name.startswith(f"{layer}.") for layer in layers):
            raise ConfigError(f"device_map names {name}: a layer is not split; give a device for the layer")
        if name and not any(block == name or block.startswith(f"{name}.") for block in blocks):
            raise ConfigError(
                f"device_map names {name!r}, which a policy of {len(layers)} layers does not have; its "
                f"blocks are {_EMBEDDING}, model.layers.0 to {layers[-1]}, model.norm, {_HEAD}"
            )
    places = {}
    for block in blocks:
        above = [name for name in device_map if not name or block == name or block.startswith(f"{name}.")]
        if above:
            places[block] = _device(device_map[max(above, key=len)], block)
        elif block != _ROPE:
            raise ConfigError(f"device_map has no device for {block}; '' names all that is not named")
    places[_ROPE] = places[_EMBEDDING]
    if model.config.tie_word_embeddings and places[_HEAD] != places[_EMBEDDING]:
        raise ConfigError(
            f"device_map puts {_EMBEDDING} on {places[_EMBEDDING]} and {_HEAD} on {places[_HEAD]}, "
            "but they are one weight in this policy; give both the same device"
        )
    return places


def _device(place: Place, block: str) -> torch.device:
    """Numbers are CUDA devices. Weights must lie in memory: nothing is fetched from disk while it runs."""
    try:
        device = torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
    except (RuntimeError, TypeError) as error:
        if place != "disk":
            raise ConfigError(f"device_map puts {block} on {place!r}, which is no device") from error
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device_map puts {block} on {place!r}; blocks lie on CUDA devices or the CPU, not on disk"
        )
    return torch.device("cuda", 0) if device == torch.device("cuda") else device
