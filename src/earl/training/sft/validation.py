"""Validation without sampling: losses, and the accuracy of greedy choices.

Axes: B sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from earl.data.collate import Batch, collate
from earl.data.examples import Example
from earl.sequence.kinds import Kind
from earl.training.loop import rank_means
from earl.training.run import Run
from earl.training.sft.objective import SftObjective

_LOSSES = ("loss", "visual", "text", "changed", "kept")


class Validator:
    """Measures the objective on fixed examples, over all ranks.

    Args:
        examples: (label, example), the same on every rank; each takes its share. The label is an
            edit family or a task.
    """

    def __init__(self, examples: Sequence[tuple[str, Example]], objective: SftObjective, run: Run) -> None:
        rank, ranks = run.rank
        micro_size = run.recipe.batch.micro_size
        ordered = sorted(examples, key=lambda pair: len(pair[1]))
        parts = [ordered[start : start + micro_size] for start in range(0, len(ordered), micro_size)]
        own = parts[rank::ranks]
        pad = objective.vocabulary.pad
        self._batches = [
            ([label for label, _ in part], collate([[example] for _, example in part], pad)) for part in own
        ]
        self._labels = sorted({label for label, _ in examples})
        self._objective, self._accelerator = objective, run.accelerator

    def __call__(self, step: int) -> dict[str, float]:
        """Means by name.

        `loss`, `visual`, `text`, `changed`, `kept`: nats a token, as in training. `hit_changed`,
        `hit_kept`: share of visual tokens that are the likeliest. `greedy_exact`: share of
        sequences whose whole image is what greedy sampling writes, and by label as
        `greedy_exact/LABEL`. (Codes, not pixels: a valid edit with other codes does not count.)
        """
        device = self._accelerator.device
        names = [*_LOSSES, "hit_changed", "hit_kept", "greedy_exact"]
        names += [f"greedy_exact/{label}" for label in self._labels]
        table = {name: torch.zeros(2, dtype=torch.float64, device=device) for name in names}
        for labels, on_cpu in self._batches:
            batch = on_cpu.to(device)
            metrics = self._objective(batch).metrics
            for name in _LOSSES:
                table[name] += metrics[name]
            self._count_hits(table, labels, batch)
        return rank_means(table, self._accelerator)

    def _count_hits(self, table: dict[str, torch.Tensor], labels: Sequence[str], batch: Batch) -> None:
        hits_BT = self._objective.hits(batch)
        visual_BT = batch.kinds_BT == Kind.VISUAL
        edits_B1 = batch.changed_BT.any(dim=1, keepdim=True)
        for name, where_BT in (
            ("hit_changed", batch.changed_BT),
            ("hit_kept", visual_BT & edits_B1 & ~batch.changed_BT),
        ):
            table[name] += torch.stack([hits_BT[where_BT].sum(), where_BT.sum()]).double()
        exact_B = (hits_BT | ~visual_BT).all(dim=1)
        for label, exact, imaged in zip(labels, exact_B.tolist(), visual_BT.any(dim=1).tolist(), strict=True):
            if imaged:
                found = torch.tensor([float(exact), 1.0], dtype=torch.float64, device=batch.ids_BT.device)
                table["greedy_exact"] += found
                table[f"greedy_exact/{label}"] += found
