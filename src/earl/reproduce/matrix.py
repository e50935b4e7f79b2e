"""Running the comparison: what is missing is made, what is there is left as it is.

A cell's folder is a run's folder like any other, with two files more: `cell.json`, a fingerprint of
all that its model depends on, and `scores-XXXXXXXX.json`, named by the fingerprint of the benchmark.
Training resumes by its checkpoints, so a kill costs a few steps.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from earl.config.models import resolve_model
from earl.config.reproduce import Budget
from earl.config.stages import GrpoRecipe, SftRecipe
from earl.errors import CheckpointError, ConfigError
from earl.reproduce.cells import CELLS, Cell, needed
from earl.reproduce.recipes import grpo_recipe, sft_recipe

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

    def jobs(self) -> Iterator[Job]:
        """In the order in which they can be done: all cells of a seed, then the next seed's."""
        shared = [cell for cell in self.cells if self._seedless(cell)]
        yield from (Job(cell, None, self.folder / "given" / cell.name) for cell in shared)
        for seed in self.seeds:
            for cell in self.cells:
                if cell not in shared:
                    yield Job(cell, seed, self.folder / f"seed-{seed}" / cell.name)

    def plan(self) -> list[tuple[Job, str]]:
        """Each job, and what there is to do for it."""
        return [(job, self._state(job)) for job in self.jobs()]

    def run(self, note: Note) -> None:
        """Train and evaluate what is missing.

        Args:
            note: gets one line for people at each turn.

        Raises:
            ConfigError: a cell was made with another budget, start or recipe.
            KeyboardInterrupt: the run was asked to stop; the same call goes on from there.
            EarlError: see `train_sft`, `train_grpo`, `evaluate_world`.
        """
        for job, state in self.plan():
            note(f"{job.name}: {state}")
            if job.cell.kind in ("sft", "grpo") and job.cell.name not in self.given:
                self._train(job)
            if not self._scores_path(job).is_file():
                self._evaluate(job, note)

    def scores(self) -> dict[str, list[dict[str, Any]]]:
        """By cell, what the benchmark found, for each seed in order; cells not yet evaluated are left out."""
        found: dict[str, list[dict[str, Any]]] = {}
        for job in self.jobs():
            path = self._scores_path(job)
            if path.is_file():
                found.setdefault(job.cell.name, []).append(json.loads(path.read_text(encoding="utf-8")))
        whole = {cell.name: 1 if self._seedless(cell) else len(self.seeds) for cell in self.cells}
        return {name: reports for name, reports in found.items() if len(reports) == whole[name]}

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

    def _train(self, job: Job) -> None:
        path, mark = job.folder / "cell.json", self._fingerprint(job)
        record = _read(path)
        if record and record.get("fingerprint") != mark:
            raise ConfigError(
                f"{job.folder} was made with another budget, start or recipe; choose another --out, or "
                "remove that folder to make it anew"
            )
        if record.get("trained"):
            return
        recipe = self._recipe(job)
        if isinstance(recipe, SftRecipe):
            self._prepare()
        described = {"cell": job.cell.name, "label": job.cell.label, "seed": job.seed, "fingerprint": mark}
        _write(path, described | {"trained": False})
        if isinstance(recipe, SftRecipe):
            from earl.sft.sft import train_sft

            report = train_sft(recipe)
        else:
            from earl.grpo.stage import train_grpo

            report = train_grpo(recipe)
        if report.reason == "asked to stop":  # Ctrl-C or SIGTERM: the trainer ended a step and saved
            raise KeyboardInterrupt
        _write(path, described | {"trained": True, "step": report.step, "reason": report.reason})

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
        from earl.data.world import WorldData, prepare_world
        from earl.pipeline import pick_device
        from earl.vision import load_vision_tokenizer
        from earl.world import FAMILIES

        encoder = load_vision_tokenizer(self.given["start"], device=pick_device(self.budget.device))
        side = round(encoder.area**0.5 / 8) * 8
        for name in ("simple", "complex"):
            families = tuple(family for family, group in FAMILIES.items() if group == name)
            settings = WorldData(self.budget.data.sources, families=families, resolution=side)
            prepare_world(self.folder / "data" / name, encoder, settings)
        count = self.budget.data.validation
        settings = WorldData(count, split="validation", resolution=side)
        prepare_world(self.folder / "data" / "validation", encoder, settings)

    # --- evaluation ---

    def _evaluate(self, job: Job, note: Note) -> None:
        from earl.reproduce.scores import evaluate_model

        cell, settings = job.cell, self.budget.evaluation
        found = evaluate_model(
            self.model_of(cell, job.seed),
            settings,
            device=self.budget.device,
            count=settings.best_of if cell.kind == "best" else 1,
            reasoning=cell.reasoning,
            on_batch=lambda done, total: note(f"{job.name}: {done} of {total} edits judged"),
        )
        _write(self._scores_path(job), {"cell": cell.name, "label": cell.label, "seed": job.seed} | found)

    def _scores_path(self, job: Job) -> Path:
        settings = self.budget.evaluation.model_dump()
        if job.cell.kind != "best":
            del settings["best_of"]
        del settings["batch"]  # changes the speed, never the pictures
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
