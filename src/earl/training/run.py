"""A training run: its processes, random generators and folder.

One process at a time works in a folder, on one run, with the settings that it was begun with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from earl.config.recipe import read_recipe_table, recipe_table, save_recipe
from earl.config.stages import TrainingRecipe
from earl.environment import machine, versions
from earl.errors import ConfigError, DataError
from earl.files import PARTIAL, check_writable, clear_partial, read_object, write_json, writing
from earl.policy.devices import native_bf16
from earl.store import only_one
from earl.training import checkpoint
from earl.training.random_streams import seed_torch
from earl.training.ranks import computes_in_bf16, create_accelerator

MAY_CHANGE = [
    "title",
    "run.folder",
    "run.device",
    "run.threads",
    "run.tracker",
    "run.project",
    "run.log_every",
    "length",
    "checkpoint",
    "validation",
    "heldout",
    "strips",
    "judging.failed_share",
    "judging.retries",
    "judging.wait",
    "early_stopping",
    "verifier.second",
    "rollouts.max_batch",
    "rollouts.memory",
    "rollouts.sleep",
    "rollouts.server",
    "rollouts.servers",
    "rollouts.server_weights",
    "grpo.reference_device",
    "images.cache",
]
"""Settings and sections that a run may go on with changed; each change is noted in `run.json`."""
ANYWHERE = ["path", "url", "key_env", "concurrency", "timeout", "deadline", "retries"]
"""Names of settings that may change in any section: where data and judges are, and how long to wait."""
_RECIPE, _STARTS = "recipe.toml", "run.json"
_KEPT = 50  # starts remembered: the first and the newest


@dataclass(frozen=True)
class Run:
    """A run in progress, on this rank."""

    recipe: TrainingRecipe
    accelerator: Accelerator
    folder: Path
    check_folder: Callable[[], None] = lambda: None
    """Raises OutputError where the folder was removed meanwhile."""

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def rank(self) -> tuple[int, int]:
        """(this rank, ranks)."""
        return self.accelerator.process_index, self.accelerator.num_processes

    @property
    def main(self) -> bool:
        """This is the first rank, which writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def sampling_dtype(self) -> torch.dtype | None:
        """Dtype in which rollouts and shown edits are sampled; None keeps the policy's own."""
        native = computes_in_bf16(self.recipe.precision, self.device) and native_bf16(self.device)
        return torch.bfloat16 if native else None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def note_start(self, *, step: int, facts: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Write the recipe, and an entry of `run.json` for this start of the run.

        Args:
            step: where it begins or goes on.
            facts: JSON-able, such as the name of the verifier; `inputs` are digests by name.

        Returns:
            What changed since the start before: by dotted name, what it was and what it is.
        """
        changed = changed_settings(self.folder, self.recipe) if step else {}
        before = _starts(self.folder)[-1:] if step else []
        was, now = before[0].get("inputs") or {} if before else {}, facts.get("inputs", {})
        shared = [name for name in now if name in was]
        changed |= {name: (was[name], now[name]) for name in shared if was[name] != now[name]}
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = {"at": at, "step": step, "versions": versions(), "machine": machine(), **facts}
        starts = [*_starts(self.folder), entry | ({"changed": changed} if changed else {})]
        kept = starts if len(starts) <= _KEPT else [starts[0], *starts[1 - _KEPT :]]
        write_json(self.folder / _STARTS, {"starts": kept})
        save_recipe(self.recipe, self.folder / _RECIPE)  # last: one without run.json is a person's own
        return changed


@contextmanager
def start_run(recipe: TrainingRecipe, *, find_unused: bool = False) -> Iterator[Run]:
    """A run, its folder checked before any work and locked while the block lasts.

    Args:
        find_unused: see `create_accelerator`.

    Raises:
        OutputError: the folder cannot be written, or another process works in it.
        ConfigError: it holds a run of another stage or with other settings, or a run at all where
            `checkpoint.resume` is false; see also `create_accelerator`.
    """
    accelerator = create_accelerator(recipe.run, find_unused=find_unused)
    seed_torch(recipe.run.seed, rank=accelerator.process_index)
    run = Run(recipe, accelerator, Path(recipe.run.folder).expanduser())
    if not run.main:
        accelerator.wait_for_everyone()
        yield run
        return
    for part in ("", "checkpoints", "model", "images", "strips", "tensorboard"):
        check_writable(run.folder / part, folder=True)
    with writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    with only_one(run.folder) as check:
        _check_same_run(run)
        clear_partial(run.folder, "", "model", "strips", "images")
        accelerator.wait_for_everyone()
        yield replace(run, check_folder=check)


def changed_settings(folder: Path, recipe: TrainingRecipe) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from the recipe in the folder: old and new value by dotted name."""
    path = folder / _RECIPE
    if not path.is_file():
        return {}
    was, now = dict(_flat(read_recipe_table(path))), dict(_flat(recipe_table(recipe)))
    names = sorted(was.keys() | now.keys())
    return {name: (was.get(name), now.get(name)) for name in names if was.get(name) != now.get(name)}


def _check_same_run(run: Run) -> None:
    recipe, folder = run.recipe, run.folder
    model = folder / "model"
    there = [p for p in model.iterdir() if not p.name.startswith(PARTIAL)] if model.is_dir() else []
    if there and not (folder / _STARTS).is_file():
        raise ConfigError(
            f"run.folder = {str(folder)!r} holds a model and no run, whose model would take its place; name "
            "another folder, as run.folder=runs/NAME"
        )
    if not (folder / _RECIPE).is_file():
        return
    if not (folder / _STARTS).is_file():
        raise ConfigError(
            f"run.folder = {str(folder)!r} holds a {_RECIPE} and no run, whose own would take its place; "
            "name another folder, as run.folder=runs/NAME"
        )
    stage = read_recipe_table(folder / _RECIPE).get("stage")
    if stage != recipe.stage:
        raise ConfigError(
            f"run.folder = {str(folder)!r} holds a run of stage {stage!r}; name another folder for stage "
            f"{recipe.stage!r}, as run.folder=runs/NAME"
        )
    if not checkpoint.list_checkpoints(run.checkpoints):
        return  # nothing was trained yet
    if not recipe.checkpoint.resume:
        raise ConfigError(
            f"run.folder = {str(folder)!r} already holds a run and checkpoint.resume is false; "
            "choose another folder or let it resume"
        )
    for name, (was, now) in changed_settings(folder, recipe).items():
        allowed = any(f"{name}.".startswith(f"{one}.") for one in MAY_CHANGE)
        if not allowed and name.rpartition(".")[2] not in ANYWHERE:
            learnt = f", from what this one learnt: model.start={model}" if there else ""
            raise ConfigError(
                f"{name} {'is not set' if now is None else f'= {now!r}'}, and the run in {folder} was made "
                f"{'without it' if was is None else f'with {was!r}'}; keep it so, or start another run, in "
                f"another run.folder{learnt}"
            )


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _starts(folder: Path) -> list[Any]:
    """The starts of a run, oldest first; none where the file is missing or not ours."""
    try:
        starts = read_object(folder / _STARTS).get("starts")
    except DataError:
        return []
    return starts if isinstance(starts, list) else []
