"""Products with int8 weights on a CPU, by torch's own kernel: one bfloat16 scale a row.

The kernel reads half the bytes of bfloat16, which is what decides for a few rows. For many rows, as of a
prompt, blocks of the weight are made bfloat16 in the cache and multiplied as usual.

Axes: M rows of the input, O outputs, I inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FEW_ROWS = 12  # up to here the kernel is the faster of the two (measured on AVX-512)
_BLOCK = 256  # outputs made bfloat16 at a time: 2 MB at 4096 inputs, so that they stay in the cache


def fits_int8(rows: int, columns: int) -> bool:
    """The kernel reads 16 columns at a time and does not check."""
    return columns % 16 == 0


def quantise_int8(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """int8 (O, I) and bfloat16 (O,): each row's largest magnitude becomes 127."""
    weight = weight_OI.float()
    scale_O = (weight.abs().amax(1) / 127).clamp_min(1e-12).to(torch.bfloat16)
    return (weight / scale_O.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale_O


def aligned(tensor: Tensor, size: int = 16) -> Tensor:
    """The tensor, or a copy where its address is not a multiple of `size` bytes.

    The kernel reads weights 16 bytes and inputs 32 bytes at a time; elsewhere it ends the process.
    """
    return tensor.clone() if tensor.data_ptr() % size else tensor


def multiply_int8(x_MI: Tensor, weight_OI: Tensor, scale_O: Tensor) -> Tensor:
    """x W^T, bfloat16 (M, O)."""
    rows = len(x_MI)
    if rows <= _FEW_ROWS:
        return torch.ops.aten._weight_int8pack_mm(aligned(x_MI.contiguous(), 32), weight_OI, scale_O)
    out_MO = x_MI.new_empty(rows, len(weight_OI))
    block = torch.empty(_BLOCK, weight_OI.shape[1], dtype=x_MI.dtype)
    for at in range(0, len(weight_OI), _BLOCK):
        part = weight_OI[at : at + _BLOCK]
        product = x_MI @ block[: len(part)].copy_(part).T
        torch.mul(product, scale_O[at : at + _BLOCK], out=out_MO[:, at : at + _BLOCK])
    return out_MO
