"""Which number formats a device computes in."""

from __future__ import annotations

import torch


def native_bf16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself. A CPU that emulates it is slower than in float32."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
