"""Experiment trackers beside `log.jsonl`: TensorBoard, W&B or trackio."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL.Image import Image

from earl.config.sections import TrackerName
from earl.errors import MissingExtraError


class Tracker(Protocol):
    """An experiment tracker. Steps go up; a run that goes on keeps its name."""

    def numbers(self, step: int, split: str, values: Mapping[str, float]) -> None: ...
    def image(self, name: str, step: int, image: Image) -> None: ...
    def close(self) -> None: ...


def open_tracker(
    name: TrackerName, folder: Path, step: int, *, project: str, config: Mapping[str, Any]
) -> Tracker | None:
    """Begin or continue after a step; None for "none".

    Args:
        folder: of the run; its name and a hash of its place name the run.
        project: of W&B or trackio.
        config: the recipe, which they store.

    Raises:
        MissingExtraError: the tracker is not installed.
    """
    if name == "none":
        return None
    if name == "tensorboard":
        return TensorBoard(folder, step)
    return Hosted(name, folder, project, config)


class TensorBoard:
    """Files under `tensorboard/`; numbers past the step, of a run that was killed, are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def numbers(self, step: int, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def image(self, name: str, step: int, image: Image) -> None:
        self._writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Hosted:
    """W&B or trackio, which has the same functions. W&B keeps its first value of a step that comes again."""

    def __init__(
        self, module: Literal["wandb", "trackio"], folder: Path, project: str, config: Mapping[str, Any]
    ) -> None:
        try:
            self._module: Any = import_module(module)
        except ImportError as error:
            raise MissingExtraError(
                f"run.tracker = {module!r} needs it: pip install {module}; or take tensorboard or none"
            ) from error
        place = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=4).hexdigest()
        name = f"{folder.resolve().name}-{place}"
        own = {"id": name, "dir": str(folder)} if module == "wandb" else {}  # trackio resumes by the name
        self._module.init(project=project, name=name, resume="allow", config=dict(config), **own)

    def numbers(self, step: int, split: str, values: Mapping[str, float]) -> None:
        self._module.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def image(self, name: str, step: int, image: Image) -> None:
        self._module.log({name: self._module.Image(image)}, step=step)

    def close(self) -> None:
        self._module.finish()
