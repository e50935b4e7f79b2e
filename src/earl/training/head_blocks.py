"""Size of the blocks of positions in which logits are computed, for stages and dry runs.

Logits exist for a block of positions only (`earl.policy.likelihood`). A backward pass holds several
blocks at once, positions x visual columns of float32, which on a CPU is most of what an update of a
small model takes: in reinforcement 824 MiB with 1,024 positions, 267 MiB with 256, as fast
(docs/lab-notes/). Each block also reads and writes the gradient of the head's columns, so that a GPU,
where weights are what fills the memory, keeps larger ones.
"""

from __future__ import annotations

POSITIONS = 1024
POSITIONS_ON_CPU = 256  # reinforcement; supervised stages hold fewer blocks and keep to one size


def positions_of_block(stage: str, device: str) -> int:
    """Positions of one block of logits.

    Args:
        stage: of the recipe: "sft", "dpo" or "grpo".
        device: "cpu", or a kind of accelerator, as `torch.device.type` names it.
    """
    return POSITIONS_ON_CPU if stage == "grpo" and device == "cpu" else POSITIONS
