"""Products with 4-bit weights on a CPU, by torch's own kernel: scale and middle for each 32 weights.

A weight is (q - 8) scale + middle with q from 0 to 15. Two are kept in a byte, in the order in which the
kernel reads them under AVX-512: blocks of 64 outputs, in each a byte holds an output (low bits) and the one
32 further (high bits) for one input. That is also the order on disk. Where the processor's kernel reads
another order, torch lays the weights out again when they are first used.

Axes: M rows of the input, O outputs, I inputs, g inputs that share a scale.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

GROUP = 32  # inputs that share a scale; 64 and 128 are no faster on a CPU and less exact
_BLOCK = 64  # outputs laid out together
_FEW_ROWS = 96  # up to here the kernel is faster than making blocks of the weight bfloat16
_AT_ONCE = 16  # blocks made bfloat16 together


def fits_int4(rows: int, columns: int) -> bool:
    return rows % _BLOCK == 0 and columns % GROUP == 0


def quantise_int4(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (O, I / 2) as it is kept, and bfloat16 (I / g, O, 2): scale and middle."""
    outputs, inputs = weight_OI.shape
    groups = weight_OI.float().view(outputs, inputs // GROUP, GROUP)
    low, high = groups.amin(-1), groups.amax(-1)
    scale = ((high - low) / 15).clamp_min(1e-12).to(torch.bfloat16)
    middle = (low + 8 * scale.float()).to(torch.bfloat16)
    steps = (groups - middle.float()[..., None]) / scale.float()[..., None]
    q_OI = (steps.round_() + 8).clamp_(0, 15).to(torch.uint8).view(outputs, inputs)
    return pack(q_OI), torch.stack([scale, middle], dim=-1).transpose(0, 1).contiguous()


def pack(q_OI: Tensor) -> Tensor:
    """Numbers 0 to 15, (O, I), as they are kept: uint8 (O, I / 2)."""
    outputs, inputs = q_OI.shape
    halves = q_OI.view(outputs // _BLOCK, 2, _BLOCK // 2, inputs).transpose(2, 3)
    return (halves[:, 0] | (halves[:, 1] << 4)).contiguous().view(outputs, inputs // 2)


def unpack(packed: Tensor) -> Tensor:
    """The reverse of `pack`."""
    outputs, inputs = packed.shape[0], 2 * packed.shape[1]
    both = packed.view(-1, inputs, _BLOCK // 2)
    return torch.stack([both & 15, both >> 4], dim=1).transpose(2, 3).reshape(outputs, inputs)


def native_order(packed: Tensor) -> Tensor:
    """The same weights as the kernel reads them here: the tensor itself, or a copy laid out anew."""
    if _kernel_reads_ours():
        return packed
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpack(packed).int(), 1)


@functools.cache
def _kernel_reads_ours() -> bool:
    q_OI = torch.arange(2 * _BLOCK * GROUP).view(2 * _BLOCK, GROUP) * 7 % 16
    theirs = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q_OI.int(), 1)
    return torch.equal(theirs, pack(q_OI.to(torch.uint8)))


def multiply_int4(x_MI: Tensor, native: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """x W^T, bfloat16 (M, O).

    Args:
        native: the weights in the kernel's order; packed: in ours.
        scales: as from `quantise_int4`.
    """
    if len(x_MI) <= _FEW_ROWS:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x_MI.contiguous(), native, GROUP, scales)
    inputs, outputs = x_MI.shape[1], len(packed)
    halves = packed.view(-1, inputs, _BLOCK // 2)
    # The middle of a group meets the sum of its inputs: a product 32 times smaller than the other.
    sums = x_MI.view(len(x_MI), -1, GROUP).sum(-1)
    out_MO = x_MI.new_empty(len(x_MI), outputs)
    for at in range(0, len(halves), _AT_ONCE):
        both = halves[at : at + _AT_ONCE]
        weight = x_MI.new_empty(inputs, len(both), 2, _BLOCK // 2)
        weight[:, :, 0] = (both & 15).transpose(0, 1)
        weight[:, :, 1] = (both >> 4).transpose(0, 1)
        columns = slice(at * _BLOCK, (at + len(both)) * _BLOCK)
        scale = scales[:, columns, 0].contiguous()
        weight.view(-1, GROUP, scale.shape[1]).mul_(scale[:, None])
        shift = scales[:, columns, 1] - 8 * scale
        torch.addmm(sums @ shift, x_MI, weight.view(inputs, -1), out=out_MO[:, columns])
    return out_MO
