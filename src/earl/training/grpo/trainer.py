"""The loop of reinforcement learning. Read `run`, then `_collect`.

Everything around it, checkpoints, resuming, ranks, optimisers, log, is `earl.training.loop`'s.

Axes: P prompts, G rollouts of a prompt, B rollouts of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from accelerate import Accelerator

from earl.config.stages import GrpoRecipe
from earl.errors import RewardError, TrainingError
from earl.records import SCORE_PARTS
from earl.training.grpo.advantages import group_advantages
from earl.training.grpo.batches import Group, RolloutBatch, make_batch, without_weight
from earl.training.grpo.early_stopping import Progress
from earl.training.grpo.judging import shares_of_results
from earl.training.grpo.logprobs import GrpoObjective, Reference
from earl.training.grpo.prompts import PromptSource
from earl.training.grpo.rollouts import Sampler, failed
from earl.training.grpo.samples import SampleBook, Shown
from earl.training.loop import Report, Trainer
from earl.training.ranks import gather_objects
from earl.training.sharding import gathered
from earl.training.streams import RandomStreams
from earl.verifiers.combined import scores_by_member

LOST = "{failed} of {all} rollouts have no verdict after asking {times} times (last: {why})"


class GrpoTrainer(Trainer):
    """Trains `objective` by GRPO; resumes by itself.

    Args:
        prompts: what to edit, by number.
        sampler: this rank's; it reads the policy's weights as they are.
        reference: None where neither loss nor guards need KL.
        heldout: (step) -> numbers by name, every `validation.every` steps.

    Raises:
        As `earl.training.loop.Trainer`; TrainingError also where too many verdicts fail or no group
        can be used. A checkpoint of the last whole step is there then.
    """

    def __init__(
        self,
        recipe: GrpoRecipe,
        objective: GrpoObjective,
        *,
        prompts: PromptSource,
        sampler: Sampler,
        reference: Reference | None,
        accelerator: Accelerator,
        streams: RandomStreams,
        heldout: Callable[[int], dict[str, float]] | None = None,
    ) -> None:
        assert recipe.length.steps is not None, "the recipe's check guarantees it"
        self.progress = Progress(recipe.stops)
        self.prompts, self.sampler, self.reference = prompts, sampler, reference
        self.rl = recipe
        self.book = SampleBook(recipe.run.folder, recipe.samples.side) if recipe.samples.every else None
        super().__init__(
            recipe,
            objective,
            self.progress,
            accelerator=accelerator,
            streams=streams,
            total_steps=recipe.length.steps,
            validate=heldout,
        )

    def run(self) -> Report:
        """Train to the end; returns how it ended. The weights in the objective are the last ones."""
        started, reason = time.monotonic(), "all steps done"
        self._resume()
        with self._signals():
            if self.step == 0 and self.validate and self.rl.heldout.at_start:
                self._validate()
            while self.step < self.total_steps:
                self.step += 1
                try:
                    groups = self._collect()  # prompts → rollouts → images → verdicts
                    self._show(groups)
                    batches = self._batches(groups)  # → advantages → batch
                    stop, kl, entropy = self._improve(batches)  # → loss → update
                except (TrainingError, RewardError) as error:
                    self.step -= 1
                    self._save()
                    raise TrainingError(
                        f"step {self.step + 1}: {error}; step {self.step} is saved"
                    ) from error
                reward = _mean([value for group in groups for value in group.rewards])
                ended = self.progress.watch(self.step, reward=reward, kl=kl, entropy=entropy)
                ended = "asked to stop" if stop else ended
                done = bool(ended) or self.step == self.total_steps
                if done or self.step % self.rl.run.log_every == 0:
                    self._record()
                if self.validate and (done or self.step % self.rl.validation.every == 0):
                    self._validate()
                if done or self.step % self.rl.checkpoint.every == 0:
                    self._save()
                if ended:
                    reason = ended
                    break
        self.log.close()
        return Report(self.step, self.step, reason, time.monotonic() - started)

    def _collect(self) -> list[Group]:
        """The step's groups, of all ranks, each with at least 2 verdicts; the same list on each rank."""
        settings, wanted = self.rl.grpo, self.rl.prompts_per_step
        kept: list[Group] = []
        equal: list[Group] = []
        for _ in range(1 + (settings.refills if settings.drop_equal else 0)):
            drawn = self._sample(self.progress.take(wanted - len(kept)))
            usable = [group for group in drawn if len(group.judged) >= 2]
            self._note_groups(drawn, usable)
            equal += [group for group in usable if group.equal]
            kept += [group for group in usable if not (settings.drop_equal and group.equal)]
            if len(kept) == wanted:
                break
        self._sums["groups"] += torch.tensor([float(len(kept)), 1.0])
        for name in self.sampler.seconds:
            self._sums[f"seconds_{name}"] += torch.tensor([0.0, 1.0])
        kept = kept or equal  # nothing to tell apart: KL still acts
        if not kept:
            raise TrainingError("not one group has 2 rollouts with a verdict")
        return kept

    def _sample(self, numbers: list[int]) -> list[Group]:
        """Judged groups of these prompts, each rank having made its part; asks failed verdicts again."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        with gathered(self.objective):
            mine = self.sampler.collect(self.prompts.make(numbers[rank::ranks]))
        waited = 0.0
        for turn in range(self.rl.judging.retries + 1):
            groups: list[Group] = [None] * len(numbers)  # type: ignore[list-item]
            for index, part in enumerate(gather_objects(self.accelerator, mine)):
                groups[index::ranks] = part
            rollouts = [rollout for group in groups for rollout in group.rollouts]
            lost = [rollout for rollout in rollouts if failed(rollout)]
            if len(lost) <= self.rl.judging.failed_share * len(rollouts):
                break
            last = lost[-1].verdict
            why = f"{last.status}: {last.reason}"
            text = LOST.format(failed=len(lost), all=len(rollouts), times=turn + 1, why=why.rstrip(": "))
            if len(lost) == len(rollouts) and all(one.verdict.refused for one in lost):
                raise TrainingError(f"{text}; it refuses every one, and asking again would not change that")
            if turn == self.rl.judging.retries:
                raise TrainingError(f"{text}; judging.failed_share is {self.rl.judging.failed_share:g}")
            self.log.note(f"step {self.step}: {text}; asking again in {self.rl.judging.wait:g} s")
            time.sleep(self.rl.judging.wait)
            mine = self.sampler.ask_again(mine)
            waited += self.rl.judging.wait
        for name, value in self.sampler.seconds.items():
            whole = value + (waited if name == "judging" else 0.0)
            self._sums[f"seconds_{name}"] += torch.tensor([whole, 0.0])  # counted once a step
        return groups

    def _batches(self, groups: Sequence[Group]) -> list[RolloutBatch]:
        """This rank's micro-batches, with the log-probabilities that stay fixed during the step."""
        settings, cycle = self.rl.grpo, self.rl.grpo.cycle
        mine = groups[self.accelerator.process_index :: self.accelerator.num_processes]
        count = max(1, self.rl.batch.micro // self.rl.rollouts.group)
        chunks = [mine[at : at + count] for at in range(0, len(mine), count)]
        batches = [
            make_batch(
                chunk,
                advantages_of(chunk, divide_by_std=settings.divide_by_std, eps=settings.advantage_eps),
                pad=self.sampler.tokenizer.vocabulary.pad,
                trained=cycle.trains(self.step) if cycle else "all",
                per_rollout=settings.ratio == "sequence",
            )
            for chunk in chunks or [groups[:1]]
        ]
        batches = [batch.to(self.accelerator.device) for batch in batches]
        if not chunks:
            batches = [without_weight(batch) for batch in batches]
        own = settings.updates > 1 or (self.reference is not None and not self.reference.is_copy)
        with gathered(self.objective) if own else nullcontext():
            if self.reference:
                found = self.reference.score(self.objective, batches)
                batches = [replace(b, reference_BT=logp) for b, logp in zip(batches, found, strict=True)]
            if settings.updates > 1:
                with torch.no_grad():
                    old = [self.objective.score(self.objective.policy, batch)[0] for batch in batches]
                batches = [replace(b, old_BT=logp) for b, logp in zip(batches, old, strict=True)]
        return batches

    def _improve(self, batches: list[RolloutBatch]) -> tuple[bool, float, float]:
        """mu updates; whether to stop, and the step's KL and visual entropy over all ranks."""
        began = time.monotonic()
        watched = ("kl", "entropy_visual")
        before = torch.stack([self._sums[name].clone() for name in watched])
        stop = False
        for _ in range(self.rl.grpo.updates):
            stop = self._update(batches) or stop
        self._sums["seconds_updating"] += torch.tensor([time.monotonic() - began, 1.0])
        table = torch.stack([self._sums[name] for name in watched]) - before
        table = self.accelerator.reduce(table.to(self.accelerator.device), "sum").cpu()
        kl, entropy = (float(total / count) if count else 0.0 for total, count in table)
        return stop, kl, entropy

    def _show(self, groups: Sequence[Group]) -> None:
        """Strips of this rank's first groups, every `samples.every` steps and at the first."""
        settings = self.rl.samples
        due = self.step == 1 or (settings.every and self.step % settings.every == 0)
        if self.book is None or not due or not self.accelerator.is_main_process:
            return
        here = [group for group in groups if group.key in self.sampler.attempts]
        self.book.write(self.step, [Shown(g, self.sampler.attempts[g.key]) for g in here[: settings.prompts]])

    def _note_groups(self, drawn: Sequence[Group], usable: Sequence[Group]) -> None:
        """Into the log: rewards and parts, what was lost, how often a group says one thing twice."""
        rollouts = [rollout for group in drawn for rollout in group.rollouts]
        verdicts = [rollout.verdict for rollout in rollouts if rollout.verdict.ok]
        self._note("reward", [value for group in drawn for value in group.rewards])
        for kind in ("simple", "complex"):
            rewards = [value for group in drawn if group.kind == kind for value in group.rewards]
            self._note(f"reward_{kind}", rewards)
        for part in SCORE_PARTS:
            self._note(part, [getattr(verdict, part) for verdict in verdicts])
        for name, values in scores_by_member(rollout.verdict for rollout in rollouts).items():
            self._note(name, values)
        for name, values in shares_of_results(verdicts).items():
            self._note(name, values)
        self._note("failed", [float(rollout.reward is None) for rollout in rollouts])
        self._note("dropped_groups", [float(len(group.judged) < 2) for group in drawn])
        self._note("zero_variance", [float(group.equal) for group in usable])
        repeated = [1 - len({r.completion.ids for r in g.rollouts}) / len(g.rollouts) for g in drawn]
        self._note("repeated", repeated)

    def _note(self, name: str, values: Sequence[float]) -> None:
        self._sums[name] += torch.tensor([float(sum(values)), float(len(values))], dtype=torch.float64)


def advantages_of(groups: Sequence[Group], *, divide_by_std: bool, eps: float) -> list[list[float]]:
    """By group, the advantages of its judged rollouts."""
    width = max(len(group.judged) for group in groups)
    rewards_PG = torch.zeros(len(groups), width, dtype=torch.float64)
    present_PG = torch.zeros(len(groups), width, dtype=torch.bool)
    for index, group in enumerate(groups):
        rewards_PG[index, : len(group.rewards)] = torch.tensor(group.rewards, dtype=torch.float64)
        present_PG[index, : len(group.rewards)] = True
    found_PG = group_advantages(rewards_PG, present_PG, divide_by_std=divide_by_std, eps=eps)
    return [row[: len(group.rewards)].tolist() for row, group in zip(found_PG, groups, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
