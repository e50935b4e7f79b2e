"""Decoding steps as CUDA graphs, recorded once per batch and replayed without Python.

Launching the step's hundreds of small kernels one by one costs more than running them. The shapes
are fixed by padding: every slot feeds n tokens and looks at its whole cache, masked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]


class RecordedStep:
    """A step on (ids, positions), both int64 (R * n,), giving (R * n, C).

    Recording runs the step three times on the tokens given, which writes what their real turn writes.
    """

    def __init__(self, step: Step, ids_M: Tensor, positions_M: Tensor) -> None:
        self.ids_M, self.positions_M = ids_M.clone(), positions_M.clone()
        warm_up = torch.cuda.Stream()
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            for _ in range(2):
                step(self.ids_M, self.positions_M)
        torch.cuda.current_stream().wait_stream(warm_up)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out_MC = step(self.ids_M, self.positions_M)

    def __call__(self, ids_M: Tensor, positions_M: Tensor) -> Tensor:
        """Replay; the result is overwritten by the next replay."""
        self.ids_M.copy_(ids_M)
        self.positions_M.copy_(positions_M)
        self.graph.replay()
        return self.out_MC
