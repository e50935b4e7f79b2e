"""The world's prompt source: tasks by seed, also for the images of a vision tokenizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from PIL import Image
from pydantic import Field

from earl.config.settings import Settings
from earl.data.tasks import EditTask, TaskSettings
from earl.errors import ConfigError
from earl.world.families import FAMILIES
from earl.world.language.request import OTHER
from earl.world.rendering import render
from earl.world.sampling import Kinds
from earl.world.scene import STYLES, Scene
from earl.world.tasks import sample_task
from earl.world.wordings import reword


class PromptOptions(Settings):
    """The options of the prompt source."""

    even_styles: bool = Field(
        default=False, description="images in each style in turn; tasks are mostly by day and by night"
    )
    kinds: Kinds = Field(default="full", description="few: plain large solids only")
    wordings: Literal["own", "mixed"] = Field(default="own", description="see `earl.world.wordings`")


class WorldTaskSource:
    """Tasks of the world's families. Its options are those of `PromptOptions`.

    Raises:
        ConfigError: an unknown family or option, or no family left.
    """

    def __init__(self, settings: TaskSettings) -> None:
        self._settings, self._options = settings, PromptOptions(**settings.options)
        self._families = chosen_families(settings.group, settings.families)

    def draw(self, seed: int) -> EditTask:
        task = sample_task(seed, self._settings.split, self._families, self._options.kinds)
        task = reword(task, self._options.wordings, seed)
        return EditTask(
            task.id,
            self._drawn(task.source, 2 * seed),
            task.instruction,
            self._drawn(task.target, 2 * seed + 1),
            task.family,
            task.group,
        )

    def _drawn(self, scene: Scene, turn: int) -> Image.Image:
        if self._options.even_styles:
            scene = replace(scene, style=STYLES[turn % len(STYLES)])
        return Image.fromarray(render(scene, self._settings.side))


def chosen_families(group: str, families: tuple[str, ...]) -> tuple[str, ...]:
    """The families of a group, or those that are named; "other", sentences that ask for nothing of the world,
    only where it is named. Raises ConfigError where there are none."""
    groups = {**FAMILIES, OTHER: OTHER}
    if unknown := sorted(set(families) - set(groups)):
        raise ConfigError(f"unknown edit family {unknown[0]!r}; there are {', '.join(groups)}")
    names = [name for name in families or FAMILIES if group in ("all", groups[name])]
    if not names:
        raise ConfigError(f"no edit family is both {group} and one of {', '.join(families)}")
    return tuple(names)
