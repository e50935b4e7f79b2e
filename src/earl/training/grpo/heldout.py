"""Held-out validation of reinforcement learning, on prompts that are never trained on.

Two verifiers score them, and the drift from the reference is measured. A policy that learns to please
its own verifier rises with the first and not with the second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from earl.records import SCORE_PARTS, Verdict
from earl.training.grpo.batches import Group, make_batch
from earl.training.grpo.judging import shares_of_results
from earl.training.grpo.logprobs import GrpoObjective
from earl.training.grpo.prompts import PromptSource
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.strips import Shown, StripWriter, sheet
from earl.training.log import Log
from earl.training.ranks import gather_objects
from earl.training.reference import Reference
from earl.training.run import Run
from earl.verifiers.combined import scores_by_member
from earl.verifiers.protocol import Verifier

SHOWN = 8


class HeldOut:
    """Edits the first `count` prompts of a source, one rollout each, and has them judged.

    The prompts and their seeds are the same at each call, so a change is the policy's.

    Args:
        second: a verifier that is not trained against; None leaves it out.
    """

    def __init__(
        self,
        prompts: PromptSource,
        count: int,
        sampler: Sampler,
        objective: GrpoObjective,
        reference: Reference | None,
        run: Run,
        *,
        second: Verifier | None = None,
    ) -> None:
        self.sampler, self.objective, self.reference = sampler, objective, reference
        self.run, self.second = run, second
        rank, ranks = run.rank
        self.prompts = prompts.make(list(range(rank, count, ranks)))
        self.log: Log | None = None
        self.strips: StripWriter | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """Means over the judged edits: `overall` (also by kind of edit), the four parts, `judged`
        (share), `exact`, `untouched` and `elsewhere` (shares, see `shares_of_results`), `second` and
        `second_gap` (first - second, points), `drift` (nats a token). Of a sum also each verifier's, as
        `NAME.overall`."""
        groups = self.sampler.collect(self.prompts, group=1, exact=True)  # as `earl evaluate` decodes
        attempts = [self.sampler.attempts[group.key][0] for group in groups]
        second: Sequence[Verdict | None] = [None] * len(groups)
        if self.second is not None:
            judge = self.sampler.judge
            second = judge.wait(judge.submit(self.second, attempts))
        if self.log is not None and attempts:
            self.log.image("heldout", step, sheet(attempts[:SHOWN]))
        if self.strips is not None and self.run.main:
            rows = zip(groups[:SHOWN], attempts, second, strict=False)
            self.strips.write(step, [Shown(g, [a], [v]) for g, a, v in rows], prefix="heldout-")
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for group, other in zip(groups, second, strict=True):
            for name, value in _numbers(group, other).items():
                sums[name][0] += value
                sums[name][1] += 1
        if self.reference is not None:
            sums["drift"] = self._drift(groups)
        totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for part in gather_objects(self.run.accelerator, dict(sums)):
            for name, (total, count) in part.items():
                totals[name][0] += total
                totals[name][1] += count
        return {name: total / count for name, (total, count) in sorted(totals.items()) if count}

    @torch.no_grad()
    def _drift(self, groups: Sequence[Group]) -> list[float]:
        """Sum and count of log p - log reference over the tokens that were chosen.

        A rank without any scores another's and counts nothing: sharded weights take the same passes on all.
        """
        assert self.reference is not None
        own = [group for group in groups if group.judged]
        one_each = gather_objects(self.run.accelerator, own[:1])
        judged = own or next(filter(None, one_each), [])
        if not judged:
            return [0.0, 0.0]
        batch = make_batch(judged, [[0.0]] * len(judged), pad=self.sampler.tokenizer.vocabulary.pad)
        batch = batch.to(self.run.device)
        logprobs_BT = self.objective.score(self.objective.policy, batch)[0]
        apart_BT = logprobs_BT - self.reference.score(self.objective, [batch])[0]
        return [float(apart_BT[batch.active_BT].sum()), float(batch.active_BT.sum())] if own else [0.0, 0.0]


def _numbers(group: Group, second: Verdict | None) -> dict[str, float]:
    verdict = group.rollouts[0].verdict
    found = {"judged": float(verdict.ok)}
    found |= {name: value for name, (value,) in scores_by_member([verdict]).items()}
    if verdict.ok and verdict.overall is not None:
        found["overall"] = found[f"overall_{group.kind}"] = verdict.overall
        found |= {part: float(getattr(verdict, part)) for part in SCORE_PARTS}
        found |= {name: value for name, (value,) in shares_of_results([verdict]).items()}
        if second is not None and second.overall is not None:
            found["second"] = second.overall
            found["second_gap"] = verdict.overall - second.overall
    return found
