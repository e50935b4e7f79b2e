"""Dtypes and devices by the names that users give them."""

from __future__ import annotations

import torch

from earl.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    """A torch dtype, or None for "auto". Raises ConfigError on another word."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype '{dtype}'; there are auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def plain_device(device: str | torch.device) -> str:
    """As safetensors spells it: ranks on a CPU are given "cpu:0", which is "cpu" there."""
    device = torch.device(device)
    return "cpu" if device.type == "cpu" else str(device)
