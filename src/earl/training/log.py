"""Run log: `log.jsonl`, a tracker, and a progress line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL.Image import Image

from earl.config.sections import TrackerName
from earl.files import write_bytes, write_text, writing
from earl.progress import Progress
from earl.training.trackers import Tracker, open_tracker
from earl.vision.saving import encode_image

_FIRST = ("reward", "loss")  # what the bar itself shows: the first of these that a record has


class Log:
    """Records of one run: `log.jsonl`, a tracker, a progress line.

    Only the first rank writes; on the others every method does nothing.

    Raises (from every method):
        OutputError: a file cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total_steps: int,
        tracker: TrackerName = "tensorboard",
        project: str = "earl",
        active: bool = True,
        title: str = "train",
        progress: Progress | None = None,
    ) -> None:
        self.folder, self.active = folder, active
        self._path = folder / "log.jsonl"
        self._name, self._project, self._title, self._total = tracker, project, title, total_steps
        self._progress = progress or Progress()
        self._tracker: Tracker | None = None

    def open(self, step: int, config: Mapping[str, Any] | None = None) -> None:
        """Begin or continue at a step; records past it, of a run that was killed, are dropped.

        Args:
            config: the recipe, for trackers that store it.

        Raises:
            MissingExtraError: the tracker is not installed.
        """
        if not self.active:
            return
        with writing(self._path):
            self._path.open("ab").close()  # it can be written, before a step is trained
            text = self._path.read_bytes().decode("utf-8", "replace")
        lines = text.split("\n")[:-1]  # behind the last line feed: nothing, or what a kill cut in half
        steps = [_step_of(line) for line in lines]
        if text:
            kept = [line for line, at in zip(lines, steps, strict=True) if at <= step]
            write_text(self._path, "".join(f"{line}\n" for line in kept))
        if damaged := steps.count(math.inf):
            self.line(f"{damaged} lines of {self._path} could not be read and are left out")
        self._tracker = open_tracker(
            self._name, self.folder, step, project=self._project, config=config or {}
        )
        self._progress(self._title, step, self._total)

    def record(self, step: int, values: Mapping[str, float], *, split: str = "train") -> None:
        """Write one record: numbers by name, at a step; what is not finite becomes null."""
        if not self.active:
            return
        clean = {name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in clean.items()}
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "split": split, **finite}) + "\n")
        if self._tracker is not None:
            self._tracker.numbers(step, split, clean)
        texts = {name: f"{name} {_short(value)}" for name, value in clean.items()}
        if self._progress.shown and split == "train":
            first = next((texts.pop(name) for name in _FIRST if name in texts), "")
            self._progress(self._title, step, self._total, first, "  ".join(texts.values()))
        else:
            self._progress.line(f"{self._title} {split} {step}/{self._total}  {'  '.join(texts.values())}")

    def step(self, step: int) -> None:
        """Move the bar, between records too."""
        if self.active:
            self._progress(self._title, step, self._total, None, None)

    def image(self, name: str, step: int, image: Image) -> None:
        """Save an image as `images/NAME-STEP.png` and show it in the tracker."""
        if not self.active:
            return
        write_bytes(self.folder / "images" / f"{name}-{step:08d}.png", encode_image(image, "PNG"))
        if self._tracker is not None:
            self._tracker.image(name, step, image)

    def line(self, text: str) -> None:
        """One line for people."""
        if self.active:
            self._progress.line(text)

    def close(self) -> None:
        self._progress.close()
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None


def _step_of(line: str) -> float:
    """Infinite where the line cannot be read."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
