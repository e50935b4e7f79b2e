"""The world's tasks by seed, for prompts and for the images of a vision tokenizer."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from earl.data.tasks import EditTask, TaskSettings
from earl.errors import ConfigError
from earl.world.edits import FAMILIES
from earl.world.rendering import render
from earl.world.scene import STYLES, Scene
from earl.world.tasks import sample_task


class WorldTaskSource:
    """Tasks of the world's families.

    Its one option is `even_styles`: images in each style in turn, where tasks are mostly by day and by night.

    Raises:
        ConfigError: an unknown family or option, or no family left.
    """

    def __init__(self, settings: TaskSettings) -> None:
        if unknown := sorted(set(settings.options) - {"even_styles"}):
            raise ConfigError(f"the world has no option {unknown[0]!r}; there is even_styles")
        self._settings = settings
        self._families = chosen_families(settings.group, settings.families)
        self._even_styles = bool(settings.options.get("even_styles", False))

    def draw(self, seed: int) -> EditTask:
        task = sample_task(seed, self._settings.split, self._families)
        return EditTask(
            task.id,
            self._drawn(task.source, 2 * seed),
            task.instruction,
            self._drawn(task.target, 2 * seed + 1),
            task.family,
            task.group,
        )

    def _drawn(self, scene: Scene, turn: int) -> Image.Image:
        if self._even_styles:
            scene = replace(scene, style=STYLES[turn % len(STYLES)])
        return Image.fromarray(render(scene, self._settings.side))


def chosen_families(group: str, families: tuple[str, ...]) -> tuple[str, ...]:
    """The families of a group, or those that are named. Raises ConfigError where there are none."""
    if unknown := sorted(set(families) - set(FAMILIES)):
        raise ConfigError(f"unknown edit family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    names = [name for name in families or FAMILIES if group in ("all", FAMILIES[name])]
    if not names:
        raise ConfigError(f"no edit family is both {group} and one of {', '.join(families)}")
    return tuple(names)
