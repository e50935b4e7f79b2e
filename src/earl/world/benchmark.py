"""The world benchmark: unseen scenes with exact targets, drawn by seed, one edit each.

Tasks come from a split that training never touches. It is registered as "world" and judged by the scene
verifier unless another is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from PIL import Image

from earl.config import BenchmarkSettings
from earl.data.tasks import Split
from earl.errors import ConfigError
from earl.evaluation.benchmark import Task, TaskNames, check_taken
from earl.world.edits import FAMILIES
from earl.world.prompts import check_option
from earl.world.rendering import render
from earl.world.sampling import Kinds
from earl.world.tasks import WorldTask, sample_task
from earl.world.wordings import Wordings, reword

NUM = 500  # tasks, unless another number is asked for
SIDE = 64  # px, the shipped model's
OPTIONS = {"wordings": get_args(Wordings), "kinds": get_args(Kinds)}


@dataclass(frozen=True, slots=True)
class WorldBenchmark:
    """Tasks of the world.

    Attributes:
        num: tasks, >= 1.
        seed: of their draw.
        split: "test", or "heldout" for combinations that training never showed.
        families: some of `earl.world.FAMILIES`; all when empty.
        side: of the images, in px.
        wordings: how the tasks are asked for, see `earl.world.wordings`.
        kinds: "full", or "few" for plain large solids.

    Raises:
        ConfigError: a setting that cannot be.
    """

    num: int = NUM
    seed: int = 0
    split: Split = "test"
    families: tuple[str, ...] = ()
    side: int = SIDE
    wordings: Wordings = "own"
    kinds: Kinds = "full"

    name = "world"
    title = "World"
    verifier = "scene"

    @property
    def area(self) -> int:
        """px² of its images."""
        return self.side**2

    def __post_init__(self) -> None:
        if self.num < 1 or self.side < 16:
            raise ConfigError(f"num ({self.num}) must be at least 1, and side ({self.side} px) at least 16")
        for name, value, known in (
            ("split", self.split, get_args(Split)),
            *(("family", family, tuple(FAMILIES)) for family in self.families),
        ):
            if value not in known:
                raise ConfigError(f"the world has no {name} {value!r}; there are {', '.join(known)}")
        for name in OPTIONS:
            check_option(name, getattr(self, name), OPTIONS)

    def tasks(self) -> Iterator[Task]:
        names = TaskNames()
        for number, task in enumerate(draw_tasks(self)):
            key, id = names.take(task.id)
            source, target = (Image.fromarray(render(s, self.side)) for s in (task.source, task.target))
            words = task.instruction, task.family, task.group
            yield Task(key, id, number, *words, source=source, target=target)

    def describe(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("name", "title", "num", "seed", "split")}
        options = {name: getattr(self, name) for name in OPTIONS}
        return {**named, "options": options, "families": list(self.families), "resolution": self.side}


def open_world(settings: BenchmarkSettings, *, area: int | None = None, seed: int = 0) -> WorldBenchmark:
    """The benchmark that settings ask for; images are drawn at the editor's area.

    Raises:
        ConfigError: a setting that the world does not take, or that cannot be.
    """
    check_taken("world", settings, ("draw", "seed", "split", "families", "options"))
    for name, value in settings.options.items():
        check_option(name, value, OPTIONS)
    return WorldBenchmark(
        num=NUM if settings.draw is None else settings.draw,
        seed=settings.seed if "seed" in settings.model_fields_set else seed,
        split=settings.split or "test",  # type: ignore[arg-type]  # checked by the benchmark
        families=settings.families,
        side=round(area**0.5 / 8) * 8 if area else SIDE,
        **settings.options,
    )


def draw_tasks(benchmark: WorldBenchmark) -> list[WorldTask]:
    """The tasks of a benchmark; a smaller `num` gives the first of them."""
    numbers = np.random.SeedSequence(benchmark.seed).generate_state(benchmark.num, np.uint64)
    families = benchmark.families or None
    tasks = [
        sample_task(int(number >> np.uint64(1)), benchmark.split, families, benchmark.kinds)
        for number in numbers
    ]
    return [reword(task, benchmark.wordings, benchmark.seed) for task in tasks]
