"""Tasks of prompt sources, drawn by seed, and the settings of a prompt source.

Reinforcement learning takes its prompts from such a source, and the vision tokenizer's stage its images.
A source is registered under a name (`earl.registry.PROMPTS`), or named as `package.module:attribute`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from earl.records import EditGroup
from earl.registry import PROMPTS

if TYPE_CHECKING:
    from PIL.Image import Image

Split = Literal["train", "validation", "test", "heldout"]


@dataclass(frozen=True, slots=True)
class EditTask:
    """An edit to be made. `group` is "simple" or "complex"; `target` is None where no image is known to be
    right. Images of any size are resized to the model's area."""

    key: str
    source: Image
    instruction: str
    target: Image | None = None
    family: str = ""
    group: str = "simple"


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What a prompt source is asked for.

    Attributes:
        split: "train", "validation", "test", or "heldout" for what training never shows.
        side: px, side of the square that has the model's area: the size to draw at.
        group: "simple", "complex" or "all".
        families: only these edit families; none given: all.
        options: the source's own settings, as the recipe has them.
    """

    split: Split
    side: int
    group: Literal[EditGroup, "all"] = "all"
    families: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class TaskSource(Protocol):
    """Tasks by seed, without end."""

    def draw(self, seed: int) -> EditTask:
        """The task of a seed (0 to 2**63 - 1): the same seed, the same task, in every process."""
        ...


def open_tasks(name: str, settings: TaskSettings) -> TaskSource:
    """The source of a name: a registered one, or `package.module:attribute`.

    Raises:
        ConfigError: no such source, or settings that it does not take.
    """
    return PROMPTS.load(name)(settings)
