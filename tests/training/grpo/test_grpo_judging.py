"""What the verifier is asked about, and the rewards of what it is not asked about."""

from __future__ import annotations

from types import SimpleNamespace

from PIL import Image

from earl.config.grpo import Grpo, Judging
from earl.records import Attempt, Verdict
from earl.training.grpo.judging import Judge
from earl.training.grpo.rollouts import Sampler

ENDS = [("stop", True), ("length", True), ("length", False), ("stop", False), ("stop", True)]


class Eight:
    def __init__(self):
        self.seen = []

    async def judge(self, attempts):
        self.seen += [attempt.key for attempt in attempts]
        return [Verdict("ok", 8.0, 8.0, 8.0, 8.0) for _ in attempts]


def rewards(verdicts, undecodable):
    recipe = SimpleNamespace(grpo=Grpo(), judging=Judging(undecodable_reward=undecodable))
    return Sampler.rewards(SimpleNamespace(recipe=recipe), verdicts)


def test_only_completions_that_ended_by_themselves_are_judged():
    """As the release: without an image all scores are 0, and a finish reason other than stop gives 0."""
    image, verifier, judge = Image.new("RGB", (8, 8)), Eight(), Judge()
    attempts = [
        Attempt(image, "a", image if whole else None, finish_reason=reason, key=str(number))
        for number, (reason, whole) in enumerate(ENDS)
    ]
    try:
        verdicts = judge.wait(judge.submit(verifier, attempts))
    finally:
        judge.close()
    assert verifier.seen == ["0", "4"]
    assert [v.status for v in verdicts] == ["ok", "unfinished", "unfinished", "undecodable", "ok"]
    assert rewards(verdicts, 0.0) == [8.0, 0.0, 0.0, 0.0, 8.0]
    assert rewards(verdicts, None) == [8.0, None, None, None, 8.0], "these leave their group"
