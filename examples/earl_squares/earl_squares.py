"""A prompt source: a grey square on a plain ground, to be made brighter or darker."""

from __future__ import annotations

import numpy as np
from PIL import Image

from earl.data.tasks import EditTask, TaskSettings

SPLITS = ("train", "validation", "test", "heldout")


class Squares:
    """Draws tasks by seed; the same seed and split give the same task."""

    def __init__(self, settings: TaskSettings) -> None:
        self.settings = settings

    def draw(self, seed: int) -> EditTask:
        rng = np.random.default_rng([SPLITS.index(self.settings.split), seed])
        side, word = self.settings.side, str(rng.choice(["brighter", "darker"]))
        top, left = rng.integers(0, side // 2, size=2)
        pixels = np.full((side, side, 3), 90, np.uint8)
        pixels[top : top + side // 2, left : left + side // 2] = 150
        target = pixels + 32 if word == "brighter" else pixels - 32
        images = Image.fromarray(pixels), Image.fromarray(target)
        key = f"{self.settings.split}-{seed}"
        return EditTask(key, images[0], f"make it {word}", images[1], family=word, group="simple")
