"""Weighted sums of verifiers, worked out by hand."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from earl.errors import ConfigError, VerifierError
from earl.records import Attempt, Verdict
from earl.verifiers.combined import Weighted, WeightedSum, scores_by_member
from earl.verifiers.protocol import Verifier, check
from earl.world.verifier.scene import SceneVerifier

IMAGE = Image.new("RGB", (8, 8))
ATTEMPT = Attempt(IMAGE, "x", IMAGE)


class Fixed:
    """Always says the same; `met` finds out whether another was at work at the same time."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts

    async def judge(self, attempts):
        return [self.verdicts[i % len(self.verdicts)] for i in range(len(attempts))]

    async def check(self) -> str:
        return "fixed"


class Away(Fixed):
    async def check(self) -> str:
        raise VerifierError("nobody here")


def judged(*parts: Weighted, attempts=(ATTEMPT,)):
    return asyncio.run(WeightedSum(parts).judge(attempts))


def test_scores_are_weighted_means():
    a = Fixed(Verdict("ok", 10, 8, 6, 4, raw="A", notes={"model": "m"}))
    b = Fixed(Verdict("ok", 2, 4, 6, 8, raw="B"))
    verdict = judged(Weighted("a", a, 3), Weighted("b", b, 1))[0]
    assert (verdict.edit_success, verdict.over_editing) == (8, 7)
    assert (verdict.naturalness, verdict.artifacts) == (6, 5)
    assert verdict.members["a"].notes == {"model": "m"} and verdict.members["b"].overall == (2 * 6) ** 0.5
    assert verdict.raw == "[a] A\n[b] B"
    said = scores_by_member([verdict, verdict])
    assert said["a.edit_success"] == [10, 10] and said["b.artifacts"] == [8, 8]
    assert said["a.overall"] == pytest.approx([(8 * 4) ** 0.5] * 2) and said["b.failed"] == [0, 0]
    assert not verdict.why and scores_by_member([Verdict("ok", 1, 1, 1, 1)]) == {}


def test_full_marks_stay_within_ten():
    full = Fixed(Verdict("ok", 10, 10, 10, 10))
    verdict = judged(*(Weighted(str(i), full, w) for i, w in enumerate((0.1, 0.2, 0.7, 0.35))))[0]
    assert verdict.edit_success <= 10 and verdict.edit_success == pytest.approx(10)


@pytest.mark.parametrize("status", ["unreachable", "unusable"])
def test_one_failed_part_fails_the_sum(status):
    good = Verdict("ok", 5, 5, 5, 5)
    verdicts = judged(
        Weighted("a", Fixed(good)), Weighted("b", Fixed(good, Verdict(status))), attempts=[ATTEMPT] * 2
    )
    assert verdicts[0].overall == 5
    assert verdicts[1].status == status and verdicts[1].overall is None
    assert verdicts[1].members["b"].status == status and verdicts[1].members["a"].overall == 5
    said = scores_by_member(verdicts)
    assert (said["a.failed"], said["b.failed"]) == ([0, 0], [0, 1])
    assert said["a.overall"] == said["b.overall"] == [5], "as in the sum: only where all have scores"


def test_the_sum_says_why():
    near = Fixed(Verdict("ok", 5, 5, 5, 5, why="moved"))
    silent = Fixed(Verdict("unusable", raw="no idea"))
    away = Fixed(Verdict("unreachable", why="HTTP 503"))
    assert judged(Weighted("a", near), Weighted("b", near, 2))[0].why == "a: moved; b: moved"
    failed = judged(Weighted("a", near), Weighted("b", silent), Weighted("c", away))[0]
    assert failed.why == "b: no idea; c: HTTP 503", "of those that failed, not of the others"


def test_an_edit_that_is_not_there_keeps_its_status():
    good = Fixed(Verdict("ok", 5, 5, 5, 5))
    missing = [Attempt(IMAGE, "x", None), Attempt(IMAGE, "x", None, finish_reason="length")]
    assert [v.status for v in judged(Weighted("a", good), attempts=missing)] == ["undecodable", "unfinished"]


def test_parts_that_do_not_fit():
    good = Fixed(Verdict("ok", 5, 5, 5, 5))
    for parts in (
        [],
        [Weighted("a", good), Weighted("a", good)],
        [Weighted("a", good, 0)],
        [Weighted("a", good, float("inf"))],
    ):
        with pytest.raises(ConfigError):
            WeightedSum(parts)


def test_the_check_asks_every_part():
    good = Fixed(Verdict("ok", 5, 5, 5, 5))
    both = WeightedSum([Weighted("a", good, 1), Weighted("scene", SceneVerifier(), 3)])
    assert isinstance(both, Verifier)
    assert asyncio.run(check(both)) == "0.25 x a (fixed) + 0.75 x scene (SceneVerifier)"
    with pytest.raises(VerifierError, match="verifier 'b' of the sum: nobody"):
        asyncio.run(check(WeightedSum([Weighted("a", good), Weighted("b", Away())])))
