"""One projection of a layer, in whichever form multiplies fastest here.

A plain matrix is used as it lies in the policy. On a CPU with oneDNN a copy is laid out once in the
order its kernels read (saving that work at every step), with SiLU and the gate's product done in
the same pass. The two agree within rounding; a test compares them.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS_HINT = 64  # tokens that the packed order is tuned for; any number works


class PlainMatrix:
    """A weight (out, in) with its bias, applied by `F.linear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias, self.dtype = weight, bias, weight.dtype

    def __call__(self, x_MC: Tensor) -> Tensor:
        return F.linear(x_MC.to(self.dtype), self.weight, self.bias)

    def silu(self, x_MC: Tensor) -> Tensor:
        return F.silu(self(x_MC))

    def times(self, x_MC: Tensor, other: Tensor) -> Tensor:
        return self(x_MC) * other


class PackedMatrix:
    """The same, in oneDNN's order."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.dtype, self.bias = weight.dtype, bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)

    def __call__(self, x_MC: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x_MC.to(self.dtype), self.weight, self.bias, "none", [], "")

    def silu(self, x_MC: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(
            x_MC.to(self.dtype), self.weight, self.bias, "swish", [], ""
        )

    def times(self, x_MC: Tensor, other: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(
            x_MC.to(self.dtype), other, self.weight, self.bias, "mul"
        )


Matrix = PlainMatrix | PackedMatrix


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN's operators are in this build of torch and give the right product here."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    x, weight = torch.eye(3, 32, dtype=dtype), torch.linspace(-1, 1, 16 * 32).view(16, 32).to(dtype)
    try:
        packed = PackedMatrix(weight, None)
        found = packed.times(x, packed.silu(x))
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return False
    plain = PlainMatrix(weight, None)
    return torch.allclose(found.float(), plain.times(x, plain.silu(x)).float(), atol=2e-2)
