"""The world benchmark: unseen scenes with exact targets, drawn by seed, one edit each.

Tasks come from a split that training never touches. It is registered as "world" and judged by the scene
verifier unless another is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from PIL import Image
from pydantic import Field, field_validator

from earl.config import BenchmarkSettings
from earl.config.settings import Count, Seed, Settings
from earl.data.tasks import Split
from earl.errors import ConfigError
from earl.evaluation.benchmark import Task, TaskNames, check_taken
from earl.vision.images import square_side
from earl.world.prompts import chosen_families
from earl.world.rendering import render
from earl.world.sampling import Kinds
from earl.world.tasks import WorldTask, sample_task, task_seeds
from earl.world.wordings import Wordings, reword


class WorldOptions(Settings):
    """The world's own settings of a benchmark."""

    wordings: Wordings = Field(default="own", description="how the tasks are asked for")
    kinds: Kinds = Field(default="full", description="few: plain large solids only")


class WorldBenchmark(WorldOptions):
    """Tasks of the world.

    Raises:
        ConfigError: a setting that cannot be.
    """

    num: Count = Field(default=500, description="tasks")
    seed: Seed = Field(default=0, description="of their draw")
    split: Split = Field(default="test", description="heldout: combinations that training never showed")
    families: tuple[str, ...] = Field(default=(), description="only these edit families; all when empty")
    side: int = Field(default=64, ge=16, description="px, of the images")

    name: ClassVar = "world"
    title: ClassVar = "World"
    verifier: ClassVar = "scene"

    @field_validator("families")
    @classmethod
    def _known(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        return chosen_families("all", families) if families else ()

    @property
    def area(self) -> int:
        """px² of its images."""
        return self.side**2

    def tasks(self) -> Iterator[Task]:
        names = TaskNames()
        for number, task in enumerate(draw_tasks(self)):
            key, id = names.take(task.id)
            source, target = (Image.fromarray(render(s, self.side)) for s in (task.source, task.target))
            words = task.instruction, task.family, task.group
            yield Task(key, id, number, *words, source=source, target=target)

    def describe(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("name", "title", "num", "seed", "split")}
        options = {name: getattr(self, name) for name in WorldOptions.model_fields}
        return {**named, "options": options, "families": list(self.families), "resolution": self.side}


def open_world(settings: BenchmarkSettings, *, area: int | None = None, seed: int = 0) -> WorldBenchmark:
    """The benchmark that settings ask for; images are drawn at the editor's area.

    Raises:
        ConfigError: a setting that the world does not take, or that cannot be.
    """
    check_taken("world", settings, ("draw", "seed", "split", "families", "options"))
    given: dict[str, Any] = {"num": settings.draw, "split": settings.split}
    given["side"] = square_side(area) if area else None
    if settings.draw == 0:
        raise ConfigError("--num 0: expected at least 1; the tasks of the world are drawn and have no end")
    if given["side"] is not None and given["side"] < 16:
        raise ConfigError(f"the world draws images of 256 px² or more, not of {area}; give a larger --area")
    try:
        options = WorldOptions(**settings.options)
    except ConfigError as error:
        raise ConfigError(f"--option: {error}") from error
    return WorldBenchmark(
        seed=settings.seed if "seed" in settings.model_fields_set else seed,
        families=settings.families,
        **{name: value for name, value in given.items() if value is not None},
        **dict(options),
    )


def draw_tasks(benchmark: WorldBenchmark) -> list[WorldTask]:
    """The tasks of a benchmark; a smaller `num` gives the first of them."""
    families, split, kinds = benchmark.families or None, benchmark.split, benchmark.kinds
    seeds = task_seeds(benchmark.seed, benchmark.num)
    tasks = [sample_task(seed, split, families, kinds) for seed in seeds]
    return [reword(task, benchmark.wordings, benchmark.seed) for task in tasks]
