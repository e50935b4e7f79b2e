"""A training run's folder as a record: its log, recipe, starts and samples."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earl.config.recipe import without_secrets
from earl.errors import DataError
from earl.files import parse_toml

Line = dict[str, Any]


@dataclass(frozen=True)
class SampleStep:
    """The kept samples of one step: groups as GRPO writes them, each with a strip of images."""

    step: int
    groups: tuple[Line, ...]
    folder: Path


@dataclass(frozen=True)
class RunRecord:
    """A run. Lines of the log by split, in the order of their steps, one for each step."""

    folder: Path
    recipe_text: str
    recipe: Line
    log: dict[str, tuple[Line, ...]]
    starts: tuple[Line, ...]
    samples: tuple[SampleStep, ...]
    heldout: tuple[SampleStep, ...]
    sheets: tuple[Path, ...]

    @property
    def stage(self) -> str:
        return str(self.recipe.get("stage", "training"))

    @property
    def step(self) -> int:
        """The last step that the log knows."""
        return max((int(line["step"]) for lines in self.log.values() for line in lines), default=0)

    @property
    def total(self) -> int | None:
        steps = self.recipe.get("length", {}).get("max_steps")
        return steps if isinstance(steps, int) else None

    def series(self, split: str, name: str) -> list[tuple[float, float]]:
        """(step, value) of one number, where it is one."""
        return [
            (float(line["step"]), float(line[name]))
            for line in self.log.get(split, ())
            if isinstance(line.get(name), int | float) and math.isfinite(line[name])
        ]

    def names(self, split: str) -> list[str]:
        """The numbers of a split, in the order in which they came up."""
        found = (name for line in self.log.get(split, ()) for name in line)
        return [name for name in dict.fromkeys(found) if name not in ("step", "split")]


_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What records raise that a kill cut in half, or that another program wrote."""


def read_run(folder: str | Path) -> RunRecord:
    """Read a run's folder; it may still be running.

    Raises:
        DataError: no such folder, or no log in it yet, or not one line of the log can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder of a run (run.folder of its recipe)")
    path = folder / "log.jsonl"
    if not path.is_file():
        raise DataError(f"{folder} holds no log.jsonl: it is not a training run, or one that has not begun")
    log = _read_log(path)
    if not log:
        raise DataError(f"{path} holds no line that can be read; the run has not logged anything yet")
    recipe = folder / "recipe.toml"
    text = recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else ""
    samples, heldout = _read_samples(folder / "strips")
    return RunRecord(
        folder,
        without_secrets(text),
        _toml(text),
        log,
        _read_starts(folder / "run.json"),
        samples,
        heldout,
        tuple(sorted((folder / "images").glob("*.png"))),
    )


def _read_starts(path: Path) -> tuple[Line, ...]:
    """The times that the run was started, oldest first; none where the file is missing or not ours."""
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))["starts"]
        return tuple(_tables(start, "versions", "machine") for start in starts if isinstance(start, dict))
    except _DAMAGED:
        return ()


def _read_log(path: Path) -> dict[str, tuple[Line, ...]]:
    """By split. A step that was logged twice, by a run that was killed and went on, counts once."""
    found: dict[str, dict[int, Line]] = {}
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
            step = int(line["step"])
            if abs(step) < 2**53:
                found.setdefault(str(line.get("split", "train")), {})[step] = line | {"step": step}
        except _DAMAGED:  # cut in half by a kill
            continue
    return {split: tuple(lines[step] for step in sorted(lines)) for split, lines in found.items()}


def _read_samples(folder: Path) -> tuple[tuple[SampleStep, ...], tuple[SampleStep, ...]]:
    """Samples of the training prompts and of the held-out ones; what cannot be read is left out."""
    kinds: tuple[list[SampleStep], list[SampleStep]] = ([], [])
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            groups = [g for g in document["groups"] if (folder / g["strip"]).is_file()]
            kinds[path.name.startswith("heldout-")].append(
                SampleStep(int(document["step"]), tuple(groups), folder)
            )
        except _DAMAGED:
            continue
    return tuple(kinds[0]), tuple(kinds[1])


def _tables(record: Line, *names: str) -> Line:
    """The record with an empty table under each of `names` that holds something other than a table."""
    return record | {name: {} for name in names if not isinstance(record.get(name, {}), dict)}


def _toml(text: str) -> Line:
    try:
        return _tables(parse_toml(text, "recipe.toml"), "run", "length", "batch", "verifier", "model")
    except DataError:
        return {}
