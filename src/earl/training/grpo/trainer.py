"""The loop of reinforcement learning. Read `train_step`, then `_collect`.

Checkpoints, resuming, ranks, optimisers and log are in `earl.training.loop`.

Axes: P prompts, G rollouts of a prompt, B rollouts of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch

from earl.errors import EngineError, Interrupted, RewardError, SequenceError, TrainingError
from earl.records import SCORE_PARTS
from earl.sampling.vllm.servers import VllmServers
from earl.training.grpo.advantages import group_advantages
from earl.training.grpo.ahead import Ahead
from earl.training.grpo.batches import Group, RolloutBatch, make_batch, without_weight
from earl.training.grpo.heldout import HeldOut
from earl.training.grpo.judging import shares_of_results
from earl.training.grpo.logprobs import GrpoObjective
from earl.training.grpo.prompt_stream import PromptStream
from earl.training.grpo.prompts import PromptSource
from earl.training.grpo.rollouts import Sampler, failed, may_help
from earl.training.grpo.shared_engine import SharedEngine
from earl.training.grpo.strips import Shown, StripWriter
from earl.training.loop import Trainer, rank_means
from earl.training.ranks import gather_objects
from earl.training.reference import Reference
from earl.training.run import Run
from earl.training.sharding import unsharded
from earl.verifiers.combined import scores_by_member

T = TypeVar("T")
LOST = "{failed} of {all} rollouts have no verdict, asked {asked} (last: {why})"
SHOWN = 4  # groups of a step whose images are kept


class GrpoTrainer(Trainer):
    """Trains `objective` by GRPO; continues by itself.

    Args:
        prompts: what to edit, by number.
        sampler: this rank's; it reads the policy's weights as they are.
        reference: None where neither the loss nor early stopping needs KL.
        heldout: prompts that are validated on.

    Raises:
        As `earl.training.loop.Trainer`; TrainingError also where too many verdicts fail or no group
        can be used. A checkpoint of the last whole step is there then.
    """

    def __init__(
        self,
        run: Run,
        objective: GrpoObjective,
        *,
        prompts: PromptSource,
        sampler: Sampler,
        reference: Reference | None,
        heldout: HeldOut | None = None,
    ) -> None:
        self.rl = recipe = sampler.recipe
        self.prompts, self.sampler, self.reference = prompts, sampler, reference
        self.stream = PromptStream(recipe.early_stopping)
        assert recipe.length.max_steps is not None, "the recipe's check guarantees it"
        super().__init__(run, objective, self.stream, total_steps=recipe.length.max_steps, validate=heldout)
        self.strips = StripWriter(run.folder) if recipe.strips.every else None
        if heldout:
            heldout.log, heldout.strips = self.log, self.strips
        self.interrupts = sampler.judge.interrupts
        self.ahead = Ahead(sampler) if recipe.rollouts.staleness else None

    def end_reason(self) -> str | None:
        return self.stream.end_reason()

    def before_training(self) -> None:
        if self.validate:  # where the curve begins
            self._validate()

    def _validate(self) -> bool:
        try:
            return super()._validate()
        except (EngineError, Interrupted) as error:  # its step is done
            raise self._saved(error) from error

    def train_step(self) -> str | None:
        """Prompts → rollouts → images → verdicts → advantages → batch → loss → update."""
        drawn, sums = self.stream.drawn, {name: pair.clone() for name, pair in self._sums.items()}
        try:
            groups = self._collect()
            batches = self._batches(groups)
        except Exception as error:
            self.step, self.stream.drawn = self.step - 1, drawn
            self._sums.clear()
            self._sums.update(sums)
            if isinstance(error, TrainingError | RewardError | EngineError | SequenceError | Interrupted):
                raise self._saved(error) from error
            if self.run.rank[1] == 1:  # of a verifier of someone's own, say: its traceback, and no step lost
                self._save()
                self.log.line(f"step {self.step} is saved; the same command goes on from there")
            raise
        self._show(groups)
        before, began = self._sums["kl"].clone(), time.monotonic()
        for _ in range(self.rl.grpo.updates):
            self._update(batches)
        self.note("seconds_updating", time.monotonic() - began)
        self._end_ahead()
        rewards = [value for group in groups for value in group.rewards]
        reward = sum(rewards) / len(rewards)
        return self.stream.watch(self.step, reward=reward, kl=self._mean_since("kl", before))

    def _collect(self) -> list[Group]:
        """The step's groups, of all ranks, each with at least 2 verdicts; the same list on each rank."""
        drawn = self._sample(self.stream.take(self.rl.prompts_per_step))
        usable = [group for group in drawn if len(group.judged) >= 2]
        self._note_groups(drawn, usable)
        self.note("groups", len(usable))
        for name in self.sampler.seconds:
            self.note(f"seconds_{name}", 0.0)
        if not usable:
            raise TrainingError("not one group has 2 rollouts with a verdict")
        return usable

    def _sample(self, numbers: list[int]) -> list[Group]:
        """Judged groups of these prompts, each rank having made its part; asks failed verdicts again."""
        (rank, ranks), judging = self.run.rank, self.rl.judging
        with unsharded(self.objective):
            mine = self._sample_and_judge(numbers[rank::ranks])
        waited = 0.0
        for turn in range(judging.retries + 1):
            groups = self._of_all_ranks(mine)
            rollouts = [rollout for group in groups for rollout in group.rollouts]
            lost = [rollout for rollout in rollouts if failed(rollout)]
            if len(lost) <= judging.failed_share * len(rollouts):
                break
            last = lost[-1].verdict
            why = f"{last.status}: {' '.join(last.reason.split())}".rstrip(": ")
            asked = "once" if turn == 0 else f"{turn + 1} times"
            text = LOST.format(failed=len(lost), all=len(rollouts), asked=asked, why=why)
            if not any(may_help(rollout) for rollout in lost):
                raise TrainingError(f"{text}; it refuses every one, and asking again would not change that")
            if turn == judging.retries:
                raise TrainingError(f"{text}; judging.failed_share is {judging.failed_share:g}")
            self.log.line(f"step {self.step}: {text}; asking again in {judging.wait:g} s")
            self.interrupts.sleep(judging.wait)
            mine = self.sampler.ask_again(mine)
            waited += judging.wait
        for name, value in self.sampler.seconds.items():
            self.note(f"seconds_{name}", value + (waited if name == "judging" else 0.0), 0.0)  # per step
        return groups

    def _sample_and_judge(self, numbers: list[int]) -> list[Group]:
        """This rank's groups. Where rollouts are sampled ahead, those of the next step are begun as well."""
        if self.ahead is None:
            groups = self.sampler.collect(self.prompts.make(numbers))
            self._note_servers()
            return groups
        prompts = self.ahead.prompts or self.prompts.make(numbers)
        rank, ranks = self.run.rank
        sampled = self.stream.ahead and self.stream.ahead[rank::ranks]
        if sampled and self.ahead.overlaps:
            self._begin_ahead()
        groups = self.sampler.collect(prompts, sampled=sampled, meanwhile=self._begin_ahead)
        self._begin_ahead()  # if it was not called meanwhile: this rank had nothing to judge
        return groups

    def _begin_ahead(self) -> None:
        """Sample for the next step, from the weights before this step's update."""
        assert self.ahead is not None
        if self.ahead.begun or self.step == self.total_steps:
            return
        (rank, ranks), began = self.run.rank, time.monotonic()
        self.ahead.begin(self.prompts.make(self.stream.coming(self.rl.prompts_per_step)[rank::ranks]))
        self.note("seconds_sampling", time.monotonic() - began, 0.0)

    def _end_ahead(self) -> None:
        """Wait for what was sampled for the next step; a checkpoint of this step holds it."""
        if self.ahead is None:
            return
        self.stream.ahead = None
        if not self.ahead.begun:
            return
        began = time.monotonic()
        try:
            self.stream.ahead = self._of_all_ranks(self.ahead.wait())
        except EngineError as error:
            self.log.line(f"step {self.step}: {error}; the next step's rollouts are sampled anew")
        self._note_servers()
        self.note("seconds_sampling", time.monotonic() - began, 0.0)

    def _of_all_ranks(self, mine: list[T]) -> list[T]:
        """Gather what each rank made of every `ranks`-th prompt, in the order of the prompts."""
        parts = gather_objects(self.accelerator, mine)
        made: list[Any] = [None] * sum(map(len, parts))
        for index, part in enumerate(parts):
            made[index :: len(parts)] = part
        return made

    def _note_servers(self) -> None:
        engine = self.sampler.engine
        engine = engine.engine if isinstance(engine, SharedEngine) else engine
        if self.run.main and isinstance(engine, VllmServers):
            self.note("servers_out", len(engine.out))
            for url, why in engine.out.items():
                self.log.line(f"step {self.step}: without {url}, or without part of its share: {why}")

    def _batches(self, groups: Sequence[Group]) -> list[RolloutBatch]:
        """This rank's micro-batches, with the log-probabilities that stay fixed during the step."""
        settings = self.rl.grpo
        rank, ranks = self.run.rank
        mine = groups[rank::ranks]
        count = max(1, self.rl.batch.micro_size // self.rl.rollouts.group)
        chunks = [mine[at : at + count] for at in range(0, len(mine), count)]
        # As many passes on every rank: sharded weights are gathered for each, by all ranks together.
        missing = -(-len(groups[::ranks]) // count) - len(chunks)
        batches = [
            make_batch(
                chunk,
                advantages_of(chunk, divide_by_std=settings.divide_by_std, eps=settings.advantage_eps),
                pad=self.sampler.tokenizer.vocabulary.pad,
                average=settings.average,
            ).to(self.accelerator.device)
            for chunk in [*chunks, *[groups[:1]] * missing]
        ]
        batches[len(chunks) :] = map(without_weight, batches[len(chunks) :])
        own = settings.updates > 1 or (self.reference is not None and not self.reference.is_copy)
        with unsharded(self.objective) if own else nullcontext():
            if self.reference:
                scores = self.reference.score(self.objective, batches)
                batches = [replace(b, reference_BT=logp) for b, logp in zip(batches, scores, strict=True)]
            if settings.updates > 1:
                with torch.no_grad():
                    old = [self.objective.score(self.objective.policy, batch)[0] for batch in batches]
                batches = [replace(b, old_BT=logp) for b, logp in zip(batches, old, strict=True)]
        return batches

    def _saved(self, error: Exception) -> Exception:
        """The error of a step that was given up, after saving the step before it."""
        if isinstance(error, Interrupted):
            if self.run.rank[1] > 1:  # the other ranks may be elsewhere: no save together
                return self.interrupts.error("; the same command goes on from the newest checkpoint")
            self._save()
            return self.interrupts.error(
                f"in step {self.step + 1}; step {self.step} is saved in {self.run.checkpoints}, and the same "
                "command goes on from there"
            )
        self._save()
        return TrainingError(f"step {self.step + 1}: {error}; step {self.step} is saved")

    def _mean_since(self, name: str, before: torch.Tensor) -> float:
        """A metric's mean over all ranks since its sums stood at `before`."""
        return rank_means({name: self._sums[name] - before}, self.accelerator).get(name, 0.0)

    def _show(self, groups: Sequence[Group]) -> None:
        """Strips of this rank's first groups, every `strips.every` steps and at the first."""
        due = self.step == 1 or (self.rl.strips.every and self.step % self.rl.strips.every == 0)
        if self.strips is None or not due or not self.run.main:
            return
        here = [group for group in groups if group.key in self.sampler.attempts]
        self.strips.write(self.step, [Shown(g, self.sampler.attempts[g.key]) for g in here[:SHOWN]])

    def _note_groups(self, drawn: Sequence[Group], usable: Sequence[Group]) -> None:
        """Log rewards and their parts, failures, dropped groups, and completions repeated within a group."""
        rollouts = [rollout for group in drawn for rollout in group.rollouts]
        verdicts = [rollout.verdict for rollout in rollouts if rollout.verdict.ok]
        values: dict[str, Sequence[float]] = {
            "reward": [value for group in drawn for value in group.rewards],
            "failed": [float(rollout.reward is None) for rollout in rollouts],
            "dropped_groups": [float(len(group.judged) < 2) for group in drawn],
            "zero_variance": [float(group.equal) for group in usable],
            "repeated": [1 - len({r.completion.ids for r in g.rollouts}) / len(g.rollouts) for g in drawn],
        }
        for kind in ("simple", "complex"):
            values[f"reward_{kind}"] = [v for group in drawn if group.kind == kind for v in group.rewards]
        values |= {part: [getattr(verdict, part) for verdict in verdicts] for part in SCORE_PARTS}
        values |= scores_by_member(rollout.verdict for rollout in rollouts)
        values |= shares_of_results(verdicts)
        for name, numbers in values.items():
            self.note(name, sum(numbers), len(numbers))


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
