"""Prompts → completions → images → verdicts, judging while the rest is still being sampled.

As soon as the last rollout of a group ends, its images are decoded together and sent to the
verifier; the engine goes on with the other groups meanwhile. Equal ones are decoded and judged once
(`repeats`).

Axes: P prompts, G rollouts of a prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from earl.config.sampling import DrawSettings, SamplingSettings
from earl.config.stages import GrpoRecipe
from earl.records import Attempt, Completion, Grid, Verdict
from earl.sampling import Engine, Request
from earl.sequence.kinds import completion_kinds
from earl.sequence.layout import parse_completion
from earl.training.grpo.batches import Group, Rollout
from earl.training.grpo.judging import RETRIED, Judge
from earl.training.grpo.prompts import Prompt
from earl.training.grpo.repeats import DecodedImages, once_each
from earl.training.grpo.rewards import group_rewards
from earl.training.grpo.shared_engine import SharedEngine
from earl.training.random_streams import derive_seed
from earl.verifiers.protocol import Verifier
from earl.vision.tokenizer import VisionTokenizer


class Sampler:
    """Makes judged groups out of prompts.

    Args:
        engine: samples from the policy's current weights.
        vision: decodes image codes.
        recipe: its seed, with a prompt's number and the rollout's, decides a completion.
        bf16: decode under bfloat16 autocast (`rollouts.decode`).

    Attributes:
        seconds: of the last `collect`: sampling (without decoding), decoding, and judging, which is
            what was waited for after the last completion.
        attempts: of the last `collect`, by prompt key.
    """

    def __init__(
        self,
        engine: Engine | SharedEngine,
        vision: VisionTokenizer,
        verifier: Verifier,
        judge: Judge,
        recipe: GrpoRecipe,
        *,
        bf16: bool = False,
    ) -> None:
        self.engine, self.vision, self.tokenizer = engine, vision, engine.tokenizer
        self.bf16 = bf16
        self.verifier, self.judge = once_each(verifier), judge
        self.recipe, self.settings = recipe, recipe.rollouts
        self.seconds = {"sampling": 0.0, "decoding": 0.0, "judging": 0.0}
        self.attempts: dict[str, list[Attempt]] = {}

    def collect(
        self,
        prompts: Sequence[Prompt],
        group: int | None = None,
        *,
        exact: bool = False,
        sampled: Sequence[Sequence[Completion]] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Group]:
        """Sample, decode and judge G rollouts of each prompt; verdicts may have failed.

        Args:
            exact: decode in the tokenizer's own precision, whatever training does.
            sampled: the prompts' completions, where they were sampled before.
            meanwhile: called when all are with the verifier, before its verdicts are waited for.
        """
        size = group or self.settings.group
        images = DecodedImages(self.vision, bf16=self.bf16 and not exact)
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self.attempts = {}
        if not prompts and not isinstance(self.engine, SharedEngine):
            return []
        began = time.monotonic()
        waiting: list[dict[int, Completion]] = [{} for _ in prompts]
        asked: dict[int, Future[list[Verdict]]] = {}

        def ended(sample: int, completion: Completion) -> None:
            place, member = divmod(sample, size)
            waiting[place][member] = completion
            if len(waiting[place]) == size:
                completions = [waiting[place][index] for index in range(size)]
                attempts = self._attempts(prompts[place], completions, images)
                self.attempts[prompts[place].key] = attempts
                asked[place] = self.judge.submit(self.verifier, attempts)

        if sampled is None:
            sampled = self.engine.generate(self.requests(prompts, size), self.sampling(), on_completion=ended)
        else:
            for sample, completion in enumerate(chain.from_iterable(sampled)):
                ended(sample, completion)
        self.seconds["sampling"] = time.monotonic() - began - self.seconds["decoding"]
        if meanwhile is not None:
            meanwhile()
        began = time.monotonic()
        verdicts_PG = [self.judge.wait(asked[place]) for place in range(len(prompts))]
        self.seconds["judging"] = time.monotonic() - began
        return [
            self._group(prompt, completions, verdicts)
            for prompt, completions, verdicts in zip(prompts, sampled, verdicts_PG, strict=True)
        ]

    def ask_again(self, groups: Sequence[Group]) -> list[Group]:
        """The groups of the last `collect`, with their failed verdicts asked for once more."""
        began = time.monotonic()
        asked = {}
        for group in groups:
            again = [index for index, rollout in enumerate(group.rollouts) if may_help(rollout)]
            attempts = [self.attempts[group.key][index] for index in again]
            asked[group.key] = (again, self.judge.submit(self.verifier, attempts))
        result = []
        for group in groups:
            rollouts = list(group.rollouts)
            again, future = asked[group.key]
            for index, verdict in zip(again, self.judge.wait(future), strict=True):
                rollouts[index] = replace(rollouts[index], verdict=verdict)
            rewards = self.rewards([rollout.verdict for rollout in rollouts])
            rollouts = [replace(r, reward=reward) for r, reward in zip(rollouts, rewards, strict=True)]
            result.append(replace(group, rollouts=tuple(rollouts)))
        self.seconds["judging"] += time.monotonic() - began
        return result

    def sampling(self) -> SamplingSettings:
        settings = self.settings
        return SamplingSettings(**{name: getattr(settings, name) for name in DrawSettings.model_fields})

    def rewards(self, verdicts: Sequence[Verdict]) -> list[float | None]:
        """Rewards of a group by the recipe's design; an edit without an image has the recipe's value."""
        found = group_rewards(verdicts, self.recipe.grpo.reward)
        return [
            self.recipe.judging.undecodable_reward
            if verdict.status in ("undecodable", "unfinished")
            else reward
            for verdict, reward in zip(verdicts, found, strict=True)
        ]

    def requests(self, prompts: Sequence[Prompt], size: int | None = None) -> list[Request]:
        """Engine requests for these prompts."""
        seed, members = self.recipe.run.seed, range(size or self.settings.group)
        return [
            Request(
                prompt.ids,
                tuple(derive_seed(seed, "completion", prompt.number, member) for member in members),
                grid=self._grid(prompt),
                prefill=self.settings.prefill,
                max_text_tokens=self.settings.max_text_tokens,
            )
            for prompt in prompts
        ]

    def _attempts(
        self, prompt: Prompt, completions: Sequence[Completion], images: DecodedImages
    ) -> list[Attempt]:
        began = time.monotonic()
        codes = [parse_completion(completion.ids, self.tokenizer).codes for completion in completions]
        attempts = [
            Attempt(
                prompt.source,
                prompt.instruction,
                edited,
                prompt.target,
                completion.finish_reason,
                prompt.key,
                prompt.family,
            )
            for edited, completion in zip(images.of(codes), completions, strict=True)
        ]
        self.seconds["decoding"] += time.monotonic() - began
        return attempts

    def _group(self, prompt: Prompt, completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> Group:
        rollouts = [
            Rollout(completion, self._kinds(completion, self._grid(prompt)), verdict, reward)
            for completion, verdict, reward in zip(completions, verdicts, self.rewards(verdicts), strict=True)
        ]
        return Group(prompt.key, prompt.instruction, prompt.family, prompt.kind, prompt.ids, tuple(rollouts))

    def _grid(self, prompt: Prompt) -> Grid | None:
        """The grid that is forced; None where the model writes it."""
        return prompt.grid if self.settings.source_grid or self.settings.prefill == "size" else None

    def _kinds(self, completion: Completion, grid: Grid | None) -> NDArray[np.int8]:
        return completion_kinds(
            completion.ids,
            self.tokenizer,
            self.settings.prefill,
            grid=grid,
            score_forced=self.recipe.grpo.mirror_release,
        )


def failed(rollout: Rollout) -> bool:
    """The verifier gave no scores, for a reason of its own."""
    return rollout.verdict.status in RETRIED


def may_help(rollout: Rollout) -> bool:
    """Asking the verifier again may help."""
    return failed(rollout) and not rollout.verdict.refused
