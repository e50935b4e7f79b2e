"""The training loop that every stage shares.

batches → loss over the active tokens of all ranks → gradients → clip → update → average →
log → validate → save. The model comes in as an objective, its data as a `BatchStream`.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from earl.config.recipe import recipe_table, without_secrets
from earl.config.stages import PolicyRecipe
from earl.errors import CheckpointError, TrainingError
from earl.training import checkpoint
from earl.training.early_stopping import EarlyStop
from earl.training.ema import WeightAverage
from earl.training.interrupts import Interrupts
from earl.training.log import Log
from earl.training.optimisers import create_optimisers, rate_factor, set_rates
from earl.training.random_streams import restore_torch, torch_state
from earl.training.ranks import gather_objects
from earl.training.run import Run
from earl.training.sharding import accumulating, shard, unsharded
from earl.training.tensors import (
    full,
    load_optimiser_tensors,
    load_trained_tensors,
    optimiser_tensors,
    sharded_like,
    trained_tensors,
)


class Losses(NamedTuple):
    """Output of an objective's forward: a sum, not a mean, because only the loop knows all ranks."""

    total: Tensor
    """Scalar, summed over the active tokens (or images) of the batch."""
    metrics: dict[str, Tensor]
    """By name: (2,) sum and count, without gradient."""


def sum_and_count(values_BT: Tensor, where_BT: Tensor) -> Tensor:
    """A metric of the chosen values: (2,) float64."""
    chosen = values_BT.detach()[where_BT].double()
    return torch.stack([chosen.sum(), chosen.new_tensor(float(chosen.numel()))])


def rank_means(sums: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """Means over all ranks by name, from the (2,) sum and count of each rank; those without a count are
    left out. Every rank gives the same names in the same order."""
    table = accelerator.reduce(torch.stack(list(sums.values())).to(accelerator.device), "sum").tolist()
    return {name: total / count for name, (total, count) in zip(sums, table, strict=True) if count > 0}


class BatchStream(Protocol):
    """Endless, resumable: every call gives this rank's micro-batches of one update."""

    def __next__(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    step: int
    best_step: int
    reason: str
    seconds: float


class Trainer:
    """Trains `objective` on `batches` as the run's recipe says; continues by itself.

    Args:
        objective: forward(micro-batch) -> Losses.
        total_steps: updates of the whole run.
        validate: (step) -> numbers by name, of which `loss` is watched; called on every rank.

    Raises:
        CheckpointError, OutputError: a checkpoint cannot be read or written.
        TrainingError: the loss or the gradient stopped being a number.
        Interrupted: Ctrl-C or SIGTERM; the last whole step is saved.
    """

    def __init__(
        self,
        run: Run,
        objective: nn.Module,
        batches: BatchStream,
        *,
        total_steps: int,
        validate: Callable[[int], dict[str, float]] | None = None,
    ) -> None:
        self.run, self.recipe, self.accelerator = run, run.recipe, run.accelerator
        recipe, accelerator = run.recipe, run.accelerator
        self.batches, self.validate, self.total_steps = batches, validate, total_steps
        self.sharded = shard(objective, recipe, accelerator)
        optimisers = create_optimisers(objective.named_parameters(), recipe.optimiser)
        if self.sharded:
            self.model, self.optimisers = objective, list(optimisers)
        else:
            self.model, *self.optimisers = accelerator.prepare(objective, *optimisers)
        self.objective: Any = accelerator.unwrap_model(self.model)
        self._names = {p: name for name, p in self.objective.named_parameters() if p.requires_grad}
        ema = recipe.ema if isinstance(recipe, PolicyRecipe) else None
        self.average = WeightAverage(self.objective, ema) if ema else None
        self.stopper = EarlyStop(recipe.validation.patience)
        self.interrupts = Interrupts()
        self.log = Log(
            run.folder,
            total_steps=total_steps,
            tracker=recipe.run.tracker,
            project=recipe.run.project,
            active=run.main,
            title=recipe.stage,
        )
        self.step = self.validated = 0
        self.facts: dict[str, Any] = {"ranks": accelerator.num_processes, "device": str(accelerator.device)}
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(2, dtype=torch.float64))
        self._since = (0, 0.0)
        self._stopping = False

    def train(self) -> RunResult:
        """Train to the end; returns how it ended. The objective then holds the last weights."""
        began = time.monotonic()
        self._resume()
        reason = self.end_reason()
        with self.interrupts.watching():
            if self.step == 0:
                self.before_training()
            elif reason is None and self.validated < self.step and self._validation_due:
                reason = self._end_step(None)  # a signal came before it
            while reason is None and self.step < self.total_steps:
                self.step += 1
                reason = self.train_step()
                self.run.check_folder()
                self.log.step(self.step)
                if self._stopping and reason is None and self.step < self.total_steps:
                    self._stop()
                reason = self._end_step(reason)
        self.log.close()
        seconds = time.monotonic() - began
        return RunResult(self.step, self.stopper.best_step, reason or "all steps done", seconds)

    def _end_step(self, reason: str | None) -> str | None:
        """Record, validate and save, what of these is due; why the run should end now, or None."""
        every, last, best = self.recipe, reason is not None or self.step == self.total_steps, False
        if self._sums and (last or self.step % every.run.log_every == 0):
            self._record()
        if self.validate and (last or self._validation_due):
            best = self._validate()
            reason = reason or self.end_reason()
        best = best and self.stopper.patience is not None
        if last or reason or best or self.step % every.checkpoint.every == 0:
            self._save()
        return reason

    @property
    def _validation_due(self) -> bool:
        return self.validate is not None and self.step % self.recipe.validation.every == 0

    def end_reason(self) -> str | None:
        """Why the run has ended before its last step, None where it has not."""
        if self.stopper.should_stop:
            return f"no better validation loss since step {self.stopper.best_step}"
        return None

    def before_training(self) -> None:
        """Called once, before the first step of a new run."""

    def train_step(self) -> str | None:
        """Update the weights; why the run should end now, or None."""
        self._update(next(self.batches))
        return None

    def _update(self, micro_batches: list[Any]) -> None:
        """One update of the weights."""
        accelerator = self.accelerator
        local = [sum(batch.active for batch in micro_batches), self.interrupts.asked]
        counts = accelerator.reduce(torch.tensor(local, dtype=torch.float64).to(accelerator.device), "sum")
        self._stopping = bool(counts[1].item() > 0)  # of any rank: all of them stop at the same step
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
            self.note("sequences", batch.sequences, 0.0)
        clip = self.recipe.optimiser.clip_norm
        norm = accelerator.clip_grad_norm_(self._names, clip if clip is not None else float("inf"))
        norm = float(full(norm))
        if norm != norm or norm == float("inf"):
            raise TrainingError(
                f"the gradient of step {self.step} is {norm}; the checkpoints before it are intact. "
                "Lower optimiser.learning_rate, or set precision.compute=float32."
            )
        self.note("gradient_norm", norm)
        peak, schedule = self.recipe.optimiser.learning_rate, self.recipe.schedule
        set_rates(self.optimisers, rate_factor(schedule, self.step, total_steps=self.total_steps, peak=peak))
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        if self.average:
            self.average.update(self.step)

    def _unsynchronised(self) -> AbstractContextManager[None]:
        return accumulating(self.objective) if self.sharded else self.accelerator.no_sync(self.model)

    def note(self, name: str, total: float, count: float = 1.0) -> None:
        """Add to a mean of the next record; counts of all ranks are summed."""
        self._sums[name] += torch.tensor([float(total), float(count)], dtype=torch.float64)

    def _record(self) -> None:
        names = sorted(self._sums)
        table = torch.stack([self._sums[name] for name in names]).to(self.accelerator.device)
        table = self.accelerator.reduce(table, "sum").cpu()
        sums = dict(zip(names, table.tolist(), strict=True))
        sequences, _ = sums.pop("sequences")
        since, began = self._since
        values = {name: total / count for name, (total, count) in sums.items() if count > 0}
        if left_out := getattr(self.batches, "skipped", 0):
            values["left_out"] = left_out  # sequences so far that are too long
        values["learning_rate"] = self.optimisers[0].param_groups[0]["lr"]
        values["sequences_per_second"] = sequences / (time.monotonic() - began)
        values["seconds_per_step"] = (time.monotonic() - began) / max(1, self.step - since)
        self._sums.clear()
        self._since = (self.step, time.monotonic())
        self.log.record(self.step, values)

    def _validate(self) -> bool:
        """Whether the validation loss is the best so far."""
        assert self.validate is not None
        began = time.monotonic()
        self.model.eval()
        averaged = self.average.applied() if self.average else nullcontext()
        with torch.no_grad(), averaged, unsharded(self.objective):
            values = self.validate(self.step)
        self.log.record(self.step, values, split="validation")
        since, start = self._since
        self._since = (since, start + time.monotonic() - began)  # rates are of training alone
        self.validated = self.step
        return "loss" in values and self.stopper.update(values["loss"], self.step)

    def _stop(self) -> None:
        """Save the step and raise Interrupted."""
        if self.step % self.recipe.run.log_every == 0:
            self._record()
        self._save()
        self.log.close()
        raise self.interrupts.error(
            f"after step {self.step} of {self.total_steps}, which is saved in {self.run.checkpoints}; "
            "the same command goes on from there"
        )

    def _save(self) -> None:
        optimiser, rest = optimiser_tensors(self.optimisers, self._names)
        tensors = {"model": trained_tensors(self.objective), "optimiser": optimiser}
        if self.average:
            tensors["average"] = {name: full(value) for name, value in self.average.shadow.items()}
        state = {
            "optimiser": rest,
            "batches": self.batches.state_dict(),
            "stopper": self.stopper.state_dict(),
            "validated": self.validated,
            # What the next record is of, so that it is of as many steps after a kill.
            "sums": gather_objects(
                self.accelerator, {name: pair.tolist() for name, pair in self._sums.items()}
            ),
            "since": [self._since[0], time.monotonic() - self._since[1]],
            "streams": gather_objects(self.accelerator, torch_state()),
        }
        if self.run.main:
            folder = self.run.checkpoints
            checkpoint.save_snapshot(folder, checkpoint.Snapshot(self.step, tensors, state))
            checkpoint.thin_checkpoints(
                folder,
                keep=self.recipe.checkpoint.keep,
                milestone=self.recipe.checkpoint.milestone,
                protected=frozenset({self.stopper.best_step}) if self.stopper.patience else frozenset(),
            )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        """Restore the newest checkpoint that is intact, if there is one; note the start."""
        snapshot, damage = checkpoint.newest_snapshot(self.run.checkpoints)
        if snapshot is not None:
            self._restore(snapshot)
        if self.run.main:
            changed = self.run.note_start(step=self.step, facts=self.facts)
            self.log.open(self.step, json.loads(without_secrets(json.dumps(recipe_table(self.recipe)))))
            for problem in damage:
                self.log.line(f"{problem}; going on from the checkpoint before it")
            if snapshot is not None:
                self.log.line(f"continuing after step {self.step}")
            for name, (was, now) in changed.items():
                self.log.line(f"{name} was {was!r} until step {self.step} and is {now!r} from here on")
        self._since = (self._since[0], time.monotonic() - self._since[1])

    def _restore(self, snapshot: checkpoint.Snapshot) -> None:
        self._restore_weights(snapshot)
        load_optimiser_tensors(
            self.optimisers, self._names, snapshot.tensors["optimiser"], snapshot.state["optimiser"]
        )
        self.batches.load_state_dict(snapshot.state["batches"])
        self.stopper.load_state_dict(snapshot.state["stopper"])
        self.validated = snapshot.state.get("validated", snapshot.step)
        best = checkpoint.checkpoint_path(self.run.checkpoints, self.stopper.best_step)
        if self.stopper.patience and self.stopper.best_step and not best.is_dir():
            # Nothing was watched at that time, or it was removed: what comes is compared with itself.
            self.stopper = EarlyStop(self.stopper.patience)
        streams, ranks = snapshot.state["streams"], self.accelerator.num_processes
        if len(streams) != ranks:
            raise CheckpointError(
                f"the run in {self.run.folder} has {len(streams)} ranks, this start has {ranks}; start it "
                f"with {len(streams)}"
            )
        rank = self.accelerator.process_index
        restore_torch(streams[rank])
        self.step, state = snapshot.step, snapshot.state
        since, elapsed = state.get("since", [self.step, 0.0])
        self._since = (since, elapsed)
        for name, pair in state.get("sums", [{}] * ranks)[rank].items():
            self._sums[name] += torch.tensor(pair, dtype=torch.float64)

    def _restore_weights(self, snapshot: checkpoint.Snapshot) -> None:
        load_trained_tensors(self.objective, snapshot.tensors["model"])
        if self.average:
            for name, value in self.average.shadow.items():
                value.copy_(sharded_like(snapshot.tensors["average"][name], value))

    @contextmanager
    def final_weights(self) -> Iterator[nn.Module]:
        """The objective with the weights to publish: the best validated ones where the recipe stops
        early, averaged where it averages. Afterwards the objective holds the best step's weights."""
        if self.stopper.patience and self.stopper.best_step not in (0, self.step):
            path = checkpoint.checkpoint_path(self.run.checkpoints, self.stopper.best_step)
            self._restore_weights(checkpoint.load_snapshot(path))
        with self.average.applied() if self.average else nullcontext():
            self.objective.eval()
            yield self.objective
