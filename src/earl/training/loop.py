"""The training loop that every stage shares.

batches → loss over the active tokens of all ranks → gradients → clip → update → average →
log → validate → save. What is trained comes in as an `Objective`, on what as a `BatchStream`.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from earl.config.recipe import save_recipe
from earl.config.stages import TrainingRecipe
from earl.errors import CheckpointError, ConfigError, TrainingError
from earl.training import checkpoint
from earl.training.ema import WeightAverage
from earl.training.optimisers import create_optimisers, set_rates
from earl.training.plateau import EarlyStop
from earl.training.provenance import note_start
from earl.training.ranks import gather_objects
from earl.training.schedules import rate_factor
from earl.training.sharding import accumulating, gathered, shard
from earl.training.state import (
    load_optimiser_tensors,
    load_trained_tensors,
    optimiser_tensors,
    sharded_like,
    trained_tensors,
    whole,
)
from earl.training.streams import RandomStreams
from earl.training.trackers import Log


class Losses(NamedTuple):
    """What an objective's forward gives: a sum, not a mean, because only the loop knows all ranks."""

    total: Tensor
    """Scalar, summed over the active tokens (or images) of the batch."""
    metrics: dict[str, Tensor]
    """By name: (2,) sum and count, without gradient."""


class MicroBatch(Protocol):
    """The input of one forward pass on one rank."""

    active: int
    """Tokens (or images) that the loss is summed over."""
    sequences: int

    def to(self, device: torch.device) -> Any: ...


class BatchStream(Protocol):
    """Endless, resumable: every call gives this rank's micro-batches of one update."""

    def __next__(self) -> list[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Report:
    """How a run ended."""

    step: int
    best_step: int
    reason: str
    seconds: float


class Trainer:
    """Trains `objective` on `batches` as the recipe says; resumes by itself.

    Args:
        objective: forward(micro-batch) -> Losses. An optional method `begin_step(step)` is
            called before each update.
        total_steps: updates of the whole run.
        validate: (step) -> numbers by name, of which `loss` is watched; called on every rank.

    Raises:
        ConfigError: the folder holds a run and `checkpoint.resume` is false.
        OutputError, CheckpointError: a checkpoint cannot be written, or not read.
        TrainingError: the loss or the gradient stopped being a number.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        objective: nn.Module,
        batches: BatchStream,
        *,
        accelerator: Accelerator,
        streams: RandomStreams,
        total_steps: int,
        validate: Callable[[int], dict[str, float]] | None = None,
    ) -> None:
        self.recipe = recipe
        self.accelerator = accelerator
        self.batches = batches
        self.streams = streams
        self.total_steps = total_steps
        self.validate = validate
        self.folder = Path(recipe.run.folder)
        self.sharded = shard(objective, recipe.ranks, recipe.precision, accelerator)
        optimisers = create_optimisers(objective.named_parameters(), recipe.optimiser)
        if self.sharded:
            self.model, self.optimisers = objective, list(optimisers)
        else:
            self.model, *self.optimisers = accelerator.prepare(objective, *optimisers)
        self.objective: Any = accelerator.unwrap_model(self.model)
        self._names = {p: name for name, p in self.objective.named_parameters() if p.requires_grad}
        self.average = WeightAverage(self.objective, recipe.ema) if recipe.ema else None
        self.stopper = EarlyStop(recipe.validation.patience, recipe.validation.min_delta)
        self.log = Log(
            self.folder,
            total_steps=total_steps,
            tracker=recipe.run.tracker,
            active=accelerator.is_main_process,
            title=getattr(recipe, "stage", "train"),
        )
        self.step = 0
        self.facts: dict[str, Any] = {"ranks": accelerator.num_processes, "device": str(accelerator.device)}
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(2, dtype=torch.float64))
        self._since = (0, time.monotonic())
        self._interrupted = False

    def run(self) -> Report:
        """Train to the end; returns how it ended. The weights in the objective are the last ones."""
        started, reason = time.monotonic(), "all steps done"
        self._resume()
        every, last = self.recipe, self.total_steps
        with self._signals():
            while self.step < last and not self.stopper.should_stop:
                self.step += 1
                stop = self._update(next(self.batches))
                if self.step % every.run.log_every == 0 or self.step == last:
                    self._record()
                best = False
                if self.validate and (self.step % every.validation.every == 0 or self.step == last):
                    best = self._validate()
                done = self.step == last or stop or self.stopper.should_stop
                if self.step % every.checkpoint.every == 0 or done or (best and self.stopper.patience):
                    self._save()
                if stop:
                    reason = "asked to stop"
                    break
        if self.stopper.should_stop:
            reason = f"no better validation loss since step {self.stopper.best_step}"
        self.log.close()
        return Report(self.step, self.stopper.best_step, reason, time.monotonic() - started)

    def _update(self, micro_batches: list[Any]) -> bool:
        """One update of the weights; True where some rank was asked to stop."""
        if hasattr(self.objective, "begin_step"):
            self.objective.begin_step(self.step)
        accelerator = self.accelerator
        local = [sum(batch.active for batch in micro_batches), self._interrupted]
        counts = accelerator.reduce(torch.tensor(local, dtype=torch.float64).to(accelerator.device), "sum")
        # One mean over the active tokens of all ranks: a rank with few of them must not weigh more.
        # Ranks' gradients are averaged, hence the factor num_processes.
        scale = accelerator.num_processes / max(1.0, counts[0].item())
        self.model.train()
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else self._unsynchronised():
                losses: Losses = self.model(batch.to(accelerator.device))
                accelerator.backward(losses.total * scale)
            for name, pair in losses.metrics.items():
                self._sums[name] += pair.detach().double().cpu()
            self._sums["sequences"] += torch.tensor([batch.sequences, 0.0])
        clip = self.recipe.optimiser.clip_norm
        norm = accelerator.clip_grad_norm_(self._names, clip if clip is not None else float("inf"))
        norm = float(whole(norm))
        if norm != norm or norm == float("inf"):
            raise TrainingError(
                f"the gradient of step {self.step} is {norm}; the checkpoints before it are intact. "
                "Lower optimiser.learning_rate, or set precision.compute=float32."
            )
        self._sums["gradient_norm"] += torch.tensor([norm, 1.0])
        factor = rate_factor(
            self.recipe.schedule,
            self.step,
            total_steps=self.total_steps,
            peak=self.recipe.optimiser.learning_rate,
        )
        set_rates(self.optimisers, factor)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        if self.average:
            self.average.update(self.step)
        return bool(counts[1].item() > 0)

    def _unsynchronised(self) -> AbstractContextManager[None]:
        return accumulating(self.objective) if self.sharded else self.accelerator.no_sync(self.model)

    def _record(self) -> None:
        names = sorted(self._sums)
        table = torch.stack([self._sums[name] for name in names]).to(self.accelerator.device)
        table = self.accelerator.reduce(table, "sum").cpu()
        sums = dict(zip(names, table.tolist(), strict=True))
        sequences, _ = sums.pop("sequences")
        since, began = self._since
        values = {name: total / count for name, (total, count) in sums.items() if count > 0}
        values["learning_rate"] = self.optimisers[0].param_groups[0]["lr"]
        values["samples_per_second"] = sequences / (time.monotonic() - began)
        values["seconds_per_step"] = (time.monotonic() - began) / max(1, self.step - since)
        self._sums.clear()
        self._since = (self.step, time.monotonic())
        self.log.record(self.step, values)

    def _validate(self) -> bool:
        assert self.validate is not None
        began = time.monotonic()
        self.model.eval()
        averaged = self.average.applied() if self.average else nullcontext()
        with torch.no_grad(), averaged, gathered(self.objective):
            values = self.validate(self.step)
        self.log.record(self.step, values, split="validation")
        since, start = self._since
        self._since = (since, start + time.monotonic() - began)  # rates are of training alone
        return "loss" in values and self.stopper.update(values["loss"], self.step)

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def _save(self) -> None:
        optimiser, rest = optimiser_tensors(self.optimisers, self._names)
        tensors = {"model": trained_tensors(self.objective), "optimiser": optimiser}
        if self.average:
            tensors["average"] = {name: whole(value) for name, value in self.average.shadow.items()}
        state = {
            "optimiser": rest,
            "batches": self.batches.state_dict(),
            "stopper": self.stopper.state_dict(),
            "streams": gather_objects(self.accelerator, self.streams.state_dict()),
        }
        if self.accelerator.is_main_process:
            checkpoint.save_snapshot(self._checkpoints, checkpoint.Snapshot(self.step, tensors, state))
            checkpoint.thin_checkpoints(
                self._checkpoints,
                keep=self.recipe.checkpoint.keep,
                milestone=self.recipe.checkpoint.milestone,
                protected=frozenset({self.stopper.best_step}) if self.stopper.patience else frozenset(),
            )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        existing = checkpoint.list_checkpoints(self._checkpoints)
        if existing and not self.recipe.checkpoint.resume:
            raise ConfigError(
                f"run.folder = {str(self.folder)!r} already holds a run and checkpoint.resume is false; "
                "choose another folder or let it resume"
            )
        if existing:
            self._restore(existing[-1])
        if self.accelerator.is_main_process:
            save_recipe(self.recipe, self.folder / "recipe.toml")
            note_start(self.folder, step=self.step, facts=self.facts)
        self.log.open(self.step)
        if existing:
            self.log.note(f"continuing from {existing[-1]}")
        self._since = (self.step, time.monotonic())

    def _restore(self, path: Path) -> None:
        snapshot = checkpoint.load_snapshot(path)
        self._restore_weights(snapshot)
        load_optimiser_tensors(
            self.optimisers, self._names, snapshot.tensors["optimiser"], snapshot.state["optimiser"]
        )
        self.batches.load_state_dict(snapshot.state["batches"])
        self.stopper.load_state_dict(snapshot.state["stopper"])
        streams = snapshot.state["streams"]
        if len(streams) != self.accelerator.num_processes:
            raise CheckpointError(
                f"checkpoint {path} is of {len(streams)} ranks; this run has "
                f"{self.accelerator.num_processes}. Start it with as many."
            )
        self.streams.load_state_dict(streams[self.accelerator.process_index])
        self.step = snapshot.step

    def _restore_weights(self, snapshot: checkpoint.Snapshot) -> None:
        load_trained_tensors(self.objective, snapshot.tensors["model"])
        if self.average:
            if "average" not in snapshot.tensors:
                raise CheckpointError("the checkpoint has no moving average; the recipe asks for one (ema)")
            for name, value in self.average.shadow.items():
                value.copy_(sharded_like(snapshot.tensors["average"][name], value))

    @contextmanager
    def final_weights(self) -> Iterator[nn.Module]:
        """The objective with the weights to publish: the best validated ones where the recipe stops
        early, averaged where it averages. Afterwards the objective holds the best step's weights."""
        path = self._checkpoints / f"step-{self.stopper.best_step:08d}"
        if self.stopper.patience and self.stopper.best_step not in (0, self.step):
            self._restore_weights(checkpoint.load_snapshot(path))
        with self.average.applied() if self.average else nullcontext():
            self.objective.eval()
            yield self.objective

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the run after the current step, with a checkpoint."""

        def ask(*_: object) -> None:
            self._interrupted = True

        try:
            previous = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread: signals stay as they are
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
