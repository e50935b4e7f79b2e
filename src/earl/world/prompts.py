"""The world's prompt source: tasks by seed, also for the images of a vision tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, get_args

from PIL import Image

from earl.data.tasks import EditTask, TaskSettings
from earl.errors import ConfigError
from earl.world.edits import FAMILIES
from earl.world.rendering import render
from earl.world.sampling import Kinds
from earl.world.scene import STYLES, Scene
from earl.world.tasks import sample_task
from earl.world.wordings import Wordings, reword


class WorldTaskSource:
    """Tasks of the world's families.

    Its options are `even_styles`: images in each style in turn, where tasks are mostly by day and by night;
    `kinds`: "full", or "few" for plain large solids; `wordings`: "own" or "mixed" (`earl.world.wordings`).

    Raises:
        ConfigError: an unknown family or option, or no family left.
    """

    OPTIONS: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "even_styles": (False, True),
        "kinds": get_args(Kinds),
        "wordings": ("own", "mixed"),
    }

    def __init__(self, settings: TaskSettings) -> None:
        for name, value in settings.options.items():
            check_option(name, value, self.OPTIONS)
        self._settings = settings
        self._families = chosen_families(settings.group, settings.families)
        self._even_styles = bool(settings.options.get("even_styles", False))
        self._kinds: Kinds = settings.options.get("kinds", "full")
        self._wordings: Wordings = settings.options.get("wordings", "own")

    def draw(self, seed: int) -> EditTask:
        task = sample_task(seed, self._settings.split, self._families, self._kinds)
        task = reword(task, self._wordings, seed)
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


def check_option(name: str, value: Any, options: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises ConfigError for an option that there is not, or a value that it does not take."""
    if name not in options:
        raise ConfigError(f"the world has no option {name!r}; there are {', '.join(options)}")
    if value not in options[name]:
        known = ", ".join(map(str, options[name]))
        raise ConfigError(f"the world has no {name} {value!r}; there are {known}")


def chosen_families(group: str, families: tuple[str, ...]) -> tuple[str, ...]:
    """The families of a group, or those that are named. Raises ConfigError where there are none."""
    if unknown := sorted(set(families) - set(FAMILIES)):
        raise ConfigError(f"unknown edit family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    names = [name for name in families or FAMILIES if group in ("all", FAMILIES[name])]
    if not names:
        raise ConfigError(f"no edit family is both {group} and one of {', '.join(families)}")
    return tuple(names)
