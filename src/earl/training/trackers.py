"""Where a run's numbers go: a line of JSON per record, TensorBoard, and one live line for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from earl.errors import CheckpointError
from earl.files import write_text
from earl.progress import Progress


class Log:
    """Records of one run: `log.jsonl`, TensorBoard under `tensorboard/`, a progress line.

    Only the first rank writes; on the others every method does nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total_steps: int,
        tracker: Literal["tensorboard", "none"] = "tensorboard",
        active: bool = True,
        title: str = "train",
        progress: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.active = active
        self._tracker = tracker
        self._writer: Any = None
        self._progress = progress or Progress()
        self._total = total_steps
        self._title = title

    def open(self, step: int) -> None:
        """Begin or continue at a step; records past it, of a run that was killed, are dropped."""
        if not self.active:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "log.jsonl"
        if path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_text(path, "".join(line + "\n" for line in lines))
        if self._tracker == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)
        self._progress(self._title, step, self._total)

    def record(self, step: int, values: Mapping[str, float], *, split: str = "train") -> None:
        """Write one record: finite numbers by name, at a step."""
        if not self.active:
            return
        clean = {name: float(value) for name, value in values.items()}
        line = {
            "step": step,
            "split": split,
            **{k: v if math.isfinite(v) else None for k, v in clean.items()},
        }
        try:
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise CheckpointError(f"the log in {self.folder} could not be written: {error}") from error
        if self._writer is not None:
            for name, value in clean.items():
                self._writer.add_scalar(f"{split}/{name}", value, step)
        text = "  ".join(f"{name} {_short(value)}" for name, value in clean.items())
        if self._progress.shown and split == "train":
            self._progress(self._title, step, self._total, text)
        else:
            self._progress.line(f"{self._title} {split} {step}/{self._total}  {text}")

    def picture(self, name: str, step: int, image: Any) -> None:
        """Save a PIL image as `images/NAME-STEP.png` and show it in TensorBoard."""
        if not self.active:
            return
        folder = self.folder / "images"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name}-{step:08d}.png")
        if self._writer is not None:
            import numpy as np

            self._writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def note(self, text: str) -> None:
        """One line for people."""
        if self.active:
            self._progress.line(text)

    def close(self) -> None:
        self._progress.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line that a kill cut in half
        return math.inf


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
