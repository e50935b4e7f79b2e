"""Heads on early layers, for `teach_words.py`: of every cell its row, its column and what covers it.

They are linear, trained along and thrown away. What the words of an instruction are to find has to be there
before the layers that look for it; without these heads columns and shapes are read in the fifth layer.

Source: deep supervision, Lee et al. 2015 (arXiv 1409.5185).

Axes: N cells, C hidden channels, B images, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm

from earl.data.collate import Batch
from earl.data.shards import Edit
from earl.policy.likelihood import policy_of
from earl.world.scene import COLORS, SHAPES, SIZES, TEXTURES, Scene
from earl.world.scene_questions import cell_objects

LAYERS = (3, 5)
WEIGHT = 1.5  # of the mean loss of the heads
PARTS = {"color": COLORS, "shape": SHAPES, "size": SIZES, "texture": TEXTURES}
UNKNOWN = -100
EXERCISE = "exercise"
"""Source of edits whose `answers` are the labels of the source's cells and of the target's."""


def cell_labels(scene: Scene) -> str:
    """Of each cell the numbers of colour, shape, size and texture of what covers it, 0 for nothing."""
    digits = [
        "".join(str(1 + of.index(getattr(o, name))) for name, of in PARTS.items()) for o in scene.objects
    ]
    return " ".join(digits[n] if n >= 0 else "0000" for n in cell_objects(scene).ravel())


class EarlyHeads(nn.Module):
    """Heads on the outputs of `LAYERS` of a policy, which keep them from each pass."""

    def __init__(self, policy: Any, first_visual: int) -> None:
        super().__init__()
        layers = policy_of(policy).model.layers
        sizes = {"row": 8, "column": 8, **{name: len(of) + 1 for name, of in PARTS.items()}}
        width = policy_of(policy).config.hidden_size
        self.heads = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()}) for _ in LAYERS
        )
        self.first_visual = first_visual
        self.seen: list[list[Tensor]] = [[] for _ in LAYERS]
        for number, seen in zip(LAYERS, self.seen, strict=True):
            layers[number - 1].register_forward_hook(partial(_keep, seen))

    def loss(self, batch: Batch, bundles: Sequence[Sequence[Edit]]) -> Tensor:
        """The mean over heads and cells of what was seen since the last call: sources, then targets."""
        assert batch.prefix_PL is not None
        told = [
            [_told(bundle[0])[:1] for bundle in bundles],
            [_told(edit)[1:] for bundle in bundles for edit in bundle],
        ]
        where = [batch.prefix_PL >= self.first_visual, batch.ids_BT >= self.first_visual]
        shown = [texts for texts, cells_BT in zip(told, where, strict=True) if cells_BT.any()]
        labels_NK = torch.cat([_labels(text) for texts in shown for text in texts]).to(batch.ids_BT.device)
        losses = []
        for heads, seen in zip(self.heads, self.seen, strict=True):
            hidden_NC = torch.cat([states[cells] for states, cells in zip(seen, where, strict=True)]).float()
            hidden_NC = layer_norm(hidden_NC, hidden_NC.shape[1:])
            seen.clear()
            losses += [
                cross_entropy(head(hidden_NC), labels_NK[:, k], ignore_index=UNKNOWN)
                for k, head in enumerate(heads.values())
                if bool((labels_NK[:, k] != UNKNOWN).any())
            ]
        return torch.stack(losses).mean()


def _keep(seen: list[Tensor], _module: nn.Module, _inputs: Any, output: Any) -> None:
    if torch.is_grad_enabled():
        seen.append(output[0] if isinstance(output, tuple) else output)


def _told(edit: Edit) -> tuple[str, ...]:
    return edit.answers if edit.source == EXERCISE else ()


def _labels(told: Sequence[str]) -> Tensor:
    """Row, column and what covers it, of the 64 cells of an image, (64, 6)."""
    cells_N = torch.arange(64)
    known_NK = torch.full((64, len(PARTS)), UNKNOWN)
    if told:
        known_NK = torch.tensor([[int(digit) for digit in cell] for cell in told[0].split()])
    return torch.cat([(cells_N // 8)[:, None], (cells_N % 8)[:, None], known_NK], dim=1)
