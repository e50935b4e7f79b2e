"""A benchmark: plain grounds whose colours are to be inverted, with exact targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from earl.config import BenchmarkSettings
from earl.evaluation.benchmark import Task


class Inversion:
    """Eight tasks, or as many as are drawn, of 64 px, or of the area that the editor works at."""

    name, title = "inversion", "Inversion"

    def __init__(self, settings: BenchmarkSettings, *, area: int | None = None, seed: int = 0) -> None:
        self.num, self.seed = settings.draw or 8, seed
        self.side = round((area or 64 * 64) ** 0.5 / 8) * 8

    def tasks(self) -> Iterator[Task]:
        for number in range(self.num):
            color = np.random.default_rng([self.seed, number]).integers(0, 256, 3)
            source, target = (
                Image.new("RGB", (self.side, self.side), tuple(map(int, c))) for c in (color, 255 - color)
            )
            yield Task(
                f"task-{number}", f"{number}", number, "invert the colors", source=source, target=target
            )

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "title": self.title, "num": self.num, "seed": self.seed, "side": self.side}
