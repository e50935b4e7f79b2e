"""The world as a benchmark of the harness: unseen scenes with exact targets, drawn by seed.

`earl.world.benchmark` draws them; here they become tasks whose images are rendered when wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from earl.evaluation.benchmark import Keys, Task
from earl.world import render
from earl.world.benchmark import WorldBenchmark, draw_tasks

SIDE = 64  # px, the shipped model's


class WorldTasks:
    """Tasks of the world; `resolution` of the settings None means 64 px."""

    name = "world"
    title = "World"
    column = ""

    def __init__(self, settings: WorldBenchmark) -> None:
        self.settings = settings
        self.side = settings.resolution or SIDE

    def tasks(self) -> Iterator[Task]:
        keys = Keys()
        for number, task in enumerate(draw_tasks(self.settings)):
            source, target = (Image.fromarray(render(s, self.side)) for s in (task.source, task.target))
            yield Task(
                keys.take(task.id),
                task.id,
                number,
                task.instruction,
                task.family,
                task.group,
                source=source,
                target=target,
            )

    def describe(self) -> dict[str, Any]:
        drawn = {name: getattr(self.settings, name) for name in ("num", "seed", "split")}
        return {
            "name": self.name,
            "title": self.title,
            "column": "",
            **drawn,
            "families": list(self.settings.families),
            "resolution": self.side,
        }
