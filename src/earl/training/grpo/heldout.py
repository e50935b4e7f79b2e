"""A look at edits that are never trained on: two verifiers, and how far the policy has drifted.

A policy that learns to please its verifier rises with the first and not with the second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from PIL import Image

from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.training.grpo.batches import Group, make_batch
from earl.training.grpo.judging import shares_of_results
from earl.training.grpo.logprobs import GrpoObjective, Reference
from earl.training.grpo.prompts import PromptSource
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.samples import SampleBook, Shown
from earl.training.ranks import gather_objects
from earl.training.trackers import Log
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
        accelerator: Accelerator,
        *,
        second: Verifier | None = None,
    ) -> None:
        self.sampler, self.objective, self.reference = sampler, objective, reference
        self.accelerator, self.second = accelerator, second
        mine = range(accelerator.process_index, count, accelerator.num_processes)
        self.prompts = prompts.make(list(mine))
        self.log: Log | None = None
        self.book: SampleBook | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """Means over the judged edits: `overall` (also by kind of edit), the four parts, `judged`
        (share), `exact`, `untouched` and `elsewhere` (shares, see `shares_of_results`), `second` and
        `second_gap` (first - second, points), `drift` (nats a token). Of a sum also each verifier's, as
        `NAME.overall`."""
        groups = self.sampler.collect(self.prompts, group=1, exact=True)  # as `earl evaluate` decodes
        attempts = [self.sampler.attempts[group.key][0] for group in groups]
        second: Sequence[Verdict | None] = [None] * len(groups)
        if self.second is not None:
            second = self.sampler.judge.submit(self.second, attempts).result()
        if self.log is not None and attempts:
            self.log.picture("heldout", step, sheet(attempts[:SHOWN]))
        if self.book is not None and self.accelerator.is_main_process:
            rows = zip(groups[:SHOWN], attempts, second, strict=False)
            self.book.write(step, [Shown(g, [a], [v]) for g, a, v in rows], prefix="heldout-")
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for group, other in zip(groups, second, strict=True):
            for name, value in _numbers(group, other).items():
                sums[name][0] += value
                sums[name][1] += 1
        if self.reference is not None and groups:
            sums["drift"] = self._drift(groups)
        totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for part in gather_objects(self.accelerator, dict(sums)):
            for name, (total, count) in part.items():
                totals[name][0] += total
                totals[name][1] += count
        return {name: total / count for name, (total, count) in sorted(totals.items()) if count}

    @torch.no_grad()
    def _drift(self, groups: Sequence[Group]) -> list[float]:
        """Sum and count of log p - log reference over the tokens that were chosen."""
        assert self.reference is not None
        judged = [group for group in groups if group.judged]
        if not judged:
            return [0.0, 0.0]
        batch = make_batch(judged, [[0.0]] * len(judged), pad=self.sampler.tokenizer.vocabulary.pad)
        batch = batch.to(self.accelerator.device)
        logprobs_BT = self.objective.score(self.objective.policy, batch)[0]
        apart_BT = logprobs_BT - self.reference.score(self.objective, [batch])[0]
        return [float(apart_BT[batch.active_BT].sum()), float(batch.active)]


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


def sheet(attempts: Sequence[Attempt]) -> Image.Image:
    """Source, edited image and target of each attempt, one row each; grey where there is none."""
    side = attempts[0].source.size
    table = Image.new("RGB", (3 * side[0], len(attempts) * side[1]), (128, 128, 128))
    for row, attempt in enumerate(attempts):
        for column, picture in enumerate((attempt.source, attempt.edited, attempt.target)):
            if picture is not None:
                table.paste(picture.resize(side), (column * side[0], row * side[1]))
    return table
