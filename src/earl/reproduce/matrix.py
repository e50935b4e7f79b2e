"""Running the comparison: what is missing is made, what is there is left as it is.

A cell's folder is a run's folder like any other, with two files more: `cell.json`, a fingerprint of
all that its model depends on, and `scores-XXXXXXXX.json`, named by the fingerprint of the benchmark.
Training resumes by its checkpoints, so a kill costs a few steps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from earl.config.reproduce import Budget
from earl.config.stages import GrpoRecipe, SftRecipe
from earl.errors import CheckpointError, ConfigError
from earl.models.resolve import resolve_model
from earl.reproduce.cells import CELLS, Cell, needed
from earl.reproduce.recipes import grpo_recipe, sft_recipe
from earl.reproduce.timing import Forecast, TimeLimit, Work, duration, forecast

Note = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A cell with a seed; None for a seed where it does not depend on one."""

    cell: Cell
    seed: int | None
    folder: Path

    @property
    def name(self) -> str:
        return self.cell.name if self.seed is None else f"{self.cell.name}, seed {self.seed}"


class Matrix:
    """The chosen cells, for the chosen seeds, in one folder.

    Args:
        start: the model that SFT starts from, a name or folder.
        given: models that stand for a cell in place of training it.
        names: cells; all when empty. What they start from comes too.

    Raises:
        ConfigError: unknown cells, no seed, or a model given for a cell that is not trained.
        ModelNotFoundError: a model that is given is not there.
    """

    def __init__(
        self,
        folder: str | Path,
        budget: Budget,
        *,
        start: str = "world",
        given: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
        seeds: Sequence[int] = (0,),
    ) -> None:
        self.folder, self.budget = Path(folder), budget
        self.given = {"start": start, **(given or {})}
        self.cells = needed(names, tuple(self.given))
        if not seeds or len(set(seeds)) < len(seeds):
            raise ConfigError(f"seeds {list(seeds)}: give at least one, each once")
        for name in self.given:
            if CELLS[name].kind == "best":
                raise ConfigError(
                    f"cell {name!r} is a way of sampling; give a model for {CELLS[name].start!r}"
                )
        self.seeds = tuple(seeds)
        self._prints = {model: _weights_print(model) for model in self.given.values()}

    def jobs(self, cells: Sequence[Cell] | None = None) -> Iterator[Job]:
        """In the order in which they can be done: all cells of a seed, then the next seed's.

        Args:
            cells: None takes the chosen ones.
        """
        cells = self.cells if cells is None else cells
        shared = [cell for cell in cells if self._seedless(cell)]
        yield from (Job(cell, None, self.folder / "given" / cell.name) for cell in shared)
        for seed in self.seeds:
            for cell in cells:
                if cell not in shared:
                    yield Job(cell, seed, self.folder / f"seed-{seed}" / cell.name)

    def plan(self) -> list[tuple[Job, str]]:
        """Each job, and what there is to do for it."""
        return [(job, self._state(job)) for job in self.jobs()]

    def forecast(self) -> Forecast:
        """How long the chosen cells still take, at the rates of what is done in this folder."""
        left = [(job.name, self._left(job)) for job in self.jobs()]
        return forecast(self._measured(), left)

    def run(self, note: Note, *, minutes: float | None = None) -> bool:
        """Train and evaluate what is missing; whether all is done.

        Args:
            note: gets one line for people at each turn.
            minutes: no more work is begun after so many, and training is cut short with a
                checkpoint. An evaluation that has begun is finished.

        Raises:
            ConfigError: a cell was made with another budget, start or recipe.
            KeyboardInterrupt: the run was asked to stop; the same call goes on from there.
            EarlError: see `train_sft`, `train_grpo`, `evaluate_world`.
        """
        limit = TimeLimit(minutes)
        for job, state in self.plan():
            note(f"{job.name}: {state}")
            trained = job.cell.kind not in ("sft", "grpo") or job.cell.name in self.given
            if not trained and not (limit.over and state != "done"):
                trained = self._train(job, limit)
            if self._scores_path(job).is_file():
                continue
            if limit.over or not trained:
                note(f"{job.name}: {minutes:g} minutes are over; the same command goes on from here")
                return False
            self._evaluate(job, note)
            rest = self.forecast()
            if rest.counted or rest.unknown:
                known = f"about {duration(rest.seconds)} left" if rest.rates else "the rest not measured yet"
                count = len(rest.counted) + len(rest.unknown)
                note(f"{job.name}: done; {count} to go, {known}{', not all counted' * bool(rest.unknown)}")
        return True

    def scores(self) -> dict[str, list[dict[str, Any]]]:
        """By cell, what the benchmark found, for each seed in order.

        All cells that this folder holds, chosen or not, made with this budget and these models; one
        whose seeds are not all done is left out.
        """
        return {
            name: [_read(path) for path in paths]
            for name, paths in self._evaluated().items()
            if len(paths) == self._wanted(CELLS[name])
        }

    def missing(self) -> dict[str, str]:
        """By cell that `scores` leaves out: how far it is."""
        found = {}
        for name, paths in self._evaluated().items():
            if len(paths) < (wanted := self._wanted(CELLS[name])):
                found[name] = "not run" if not paths else f"{len(paths)} of {wanted} seeds"
        return found

    def _evaluated(self) -> dict[str, list[Path]]:
        """By cell, in their order, the files of scores that are there."""
        every = list(CELLS.values())
        found: dict[str, list[Path]] = {cell.name: [] for cell in every}
        for job in self.jobs(every):
            path = self._scores_path(job)
            if path.is_file():
                found[job.cell.name].append(path)
        return found

    def _wanted(self, cell: Cell) -> int:
        return 1 if self._seedless(cell) else len(self.seeds)

    def model_of(self, cell: Cell, seed: int | None) -> str:
        """The model of a cell: the given one, its start's, or the one in its folder."""
        if cell.name in self.given:
            return self.given[cell.name]
        if cell.kind == "best":
            assert cell.start is not None
            return self.model_of(CELLS[cell.start], seed)
        return str(self.folder / f"seed-{seed}" / cell.name / "model")

    def _seedless(self, cell: Cell) -> bool:
        """Given models, and ways of sampling from them, are the same whatever the seed."""
        if cell.name in self.given:
            return True
        return cell.kind == "best" and cell.start is not None and self._seedless(CELLS[cell.start])

    def _state(self, job: Job) -> str:
        if self._scores_path(job).is_file():
            return "done"
        if job.cell.kind == "best" or job.cell.name in self.given:
            return "evaluate"
        recipe = self._recipe(job)
        length = f"{recipe.stage}, {recipe.length.steps} steps"
        record = _read(job.folder / "cell.json")
        if record.get("trained"):
            return "evaluate"
        return f"go on with training ({length})" if record else f"train ({length}) and evaluate"

    # --- training ---

    def _train(self, job: Job, limit: TimeLimit) -> bool:
        """Whether the cell is trained; False where the time was over first."""
        path, mark = job.folder / "cell.json", self._fingerprint(job)
        record = _read(path)
        if record and record.get("fingerprint") != mark:
            raise ConfigError(
                f"{job.folder} was made with another budget, start or recipe; choose another --out, or "
                "remove that folder to make it anew"
            )
        if record.get("trained"):
            return True
        recipe = self._recipe(job)
        if isinstance(recipe, SftRecipe):
            self._prepare()
        described = {"cell": job.cell.name, "label": job.cell.label, "seed": job.seed, "fingerprint": mark}
        spent = {name: record[name] for name in ("seconds", "steps") if name in record}
        _write(path, described | spent | {"trained": False})
        began, first = time.monotonic(), _saved_step(job)
        with limit.watching():
            if isinstance(recipe, SftRecipe):
                from earl.training.sft.sft import train_sft

                report = train_sft(recipe)
            else:
                from earl.training.grpo.stage import train_grpo

                report = train_grpo(recipe)
        if report.step > first:
            spent["seconds"] = spent.get("seconds", 0.0) + time.monotonic() - began
            spent["steps"] = spent.get("steps", 0) + report.step - first
        stopped = report.reason == "asked to stop"  # Ctrl-C, SIGTERM, time: the trainer saved its step
        _write(
            path,
            described | spent | {"trained": not stopped, "step": report.step, "reason": report.reason},
        )
        if stopped and not limit.over:
            raise KeyboardInterrupt
        return not stopped

    def _recipe(self, job: Job) -> SftRecipe | GrpoRecipe:
        cell, seed = job.cell, job.seed
        assert seed is not None and cell.start is not None, "what is trained has a seed and a start"
        start = self.model_of(CELLS[cell.start], seed)
        if cell.kind == "sft":
            data = self.folder / "data"
            return sft_recipe(cell, self.budget, seed=seed, folder=job.folder, start=start, data=data)
        return grpo_recipe(cell, self.budget, seed=seed, folder=job.folder, start=start)

    def _prepare(self) -> None:
        """The shards of the SFT cells, encoded by the start's tokenizer; what is there is kept."""
        from earl.pipeline import pick_device
        from earl.vision import load_vision_tokenizer
        from earl.world import FAMILIES
        from earl.world.shards import WorldData, prepare_world

        encoder = load_vision_tokenizer(self.given["start"], device=pick_device(self.budget.device))
        side, asked = round(encoder.area**0.5 / 8) * 8, self.budget.data
        for name in ("simple", "complex"):
            families = tuple(family for family, group in FAMILIES.items() if group == name)
            settings = WorldData(asked.sources, families=families, resolution=side, margin=asked.margin)
            prepare_world(self.folder / "data" / name, encoder, settings)
        settings = WorldData(asked.validation, split="validation", resolution=side, margin=asked.margin)
        prepare_world(self.folder / "data" / "validation", encoder, settings)

    # --- time ---

    def _measured(self) -> Iterator[tuple[Work, float]]:
        """Work that was done in this folder with this budget and these models, and its seconds."""
        for job in self.jobs(list(CELLS.values())):
            record = _read(job.folder / "cell.json")
            if "seconds" in record and record["fingerprint"] == self._fingerprint(job):
                yield self._training(job.cell, record["steps"]), record["seconds"]
            scores = self._scores_path(job)
            if scores.is_file() and "seconds" in (found := _read(scores)):
                yield self._judging(job.cell, len(found["tasks"])), found["seconds"]

    def _left(self, job: Job) -> list[Work]:
        """What there is to do for a job."""
        if self._scores_path(job).is_file():
            return []
        left = [self._judging(job.cell, self.budget.evaluation.num)]
        if job.cell.kind == "best" or job.cell.name in self.given:
            return left
        if not _read(job.folder / "cell.json").get("trained"):
            steps = self._recipe(job).length.steps
            assert steps is not None, "cells are trained for so many steps"
            left.append(self._training(job.cell, max(0, steps - _saved_step(job))))
        return left

    def _training(self, cell: Cell, steps: int) -> Work:
        return Work(f"{cell.kind} with reasoning" if cell.reasoning else cell.kind, steps)

    def _judging(self, cell: Cell, tasks: int) -> Work:
        way = " with reasoning" if cell.reasoning else ""
        best = f", best of {self.budget.evaluation.best_of}" if cell.kind == "best" else ""
        return Work(f"evaluation{way}{best}", tasks, "task")

    # --- evaluation ---

    def _evaluate(self, job: Job, note: Note) -> None:
        from earl.reproduce.scores import evaluate_model

        cell, settings, began = job.cell, self.budget.evaluation, time.monotonic()
        found = evaluate_model(
            self.model_of(cell, job.seed),
            settings,
            device=self.budget.device,
            count=settings.best_of if cell.kind == "best" else 1,
            reasoning=cell.reasoning,
            on_batch=lambda done, total: note(f"{job.name}: {done} of {total} edits judged"),
        )
        described = {"cell": cell.name, "label": cell.label, "seed": job.seed}
        _write(self._scores_path(job), described | {"seconds": time.monotonic() - began} | found)

    def _scores_path(self, job: Job) -> Path:
        settings = self.budget.evaluation.model_dump()
        if job.cell.kind != "best":
            del settings["best_of"]
        del settings["batch"]  # changes the speed, never the images
        mark = _mark([self._fingerprint(job), settings])
        return job.folder / f"scores-{mark}.json"

    def _fingerprint(self, job: Job) -> str:
        """Of everything that the cell's model depends on: recipes and models, not folders or speed."""
        cell = job.cell
        if cell.name in self.given:
            return _mark([cell.name, self._prints[self.given[cell.name]]])
        assert cell.start is not None
        before = self._fingerprint(Job(CELLS[cell.start], job.seed, self.folder))
        if cell.kind == "best":
            return _mark([cell.name, before])
        table = self._recipe(job).model_dump(mode="json")
        for section, names in {"run": ("folder", "device", "threads"), "model": ("start",)}.items():
            for name in names:
                del table[section][name]
        del table["checkpoint"]
        sources = [self.budget.data.model_dump()] if cell.kind == "sft" else []
        for source in table.get("data", {}).get("sources", {}).values():
            del source["path"]
        table.get("data", {}).pop("validation", None)
        return _mark([cell.name, before, table, sources])


def _saved_step(job: Job) -> int:
    """The step of the newest checkpoint; 0 where there is none. (`earl.training.checkpoint` says how they
    are named; a plan should not wait for torch to load.)"""
    saved = [path.name.removeprefix("step-") for path in (job.folder / "checkpoints").glob("step-*")]
    return max((int(step) for step in saved if step.isdigit()), default=0)


def _weights_print(model: str) -> str:
    """A hash over the weights of a model, so that another model of the same name is noticed."""
    digest = blake2b(digest_size=8)
    for path in sorted(resolve_model(model).path.rglob("*.safetensors")):
        digest.update(str(path.name).encode())
        with path.open("rb") as file:
            while part := file.read(2**22):
                digest.update(part)
    return digest.hexdigest()


def _mark(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=4).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; remove its folder to make it anew") from error


def _write(path: Path, content: Any) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error}; what was there is intact") from error
