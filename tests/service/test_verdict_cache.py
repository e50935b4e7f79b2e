"""Both questions about an edit find each other, whichever comes first."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from earl.records import Verdict

pytest.importorskip("fastapi")
from earl.service.questions import Asked
from earl.service.verdict_cache import VerdictCache
from earl.service.wire import ApiError

BEFORE, AFTER = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
PAIR = Asked("semantic", {"source": BEFORE, "edited": AFTER}, "x")
ALONE = Asked("perceptual", {"edited": AFTER})


class Slow:
    """Counts its verdicts; the n-th has edit success n."""

    def __init__(self, *problems: Exception | Verdict) -> None:
        self.problems = list(problems)
        self.count = 0

    async def judge(self, attempts):
        self.count += 1
        number = self.count
        await asyncio.sleep(0.02)
        if self.problems:
            problem = self.problems.pop(0)
            if isinstance(problem, Exception):
                raise problem
            return [problem]
        return [Verdict("ok", number, 2, 3, 4)]


def both(*asked: tuple[Asked, str], verifier: Slow, patience: float = 5.0):
    async def go():
        desk = VerdictCache(verifier, patience=patience)
        return await asyncio.gather(
            *(desk.answer(question, name) for question, name in asked), return_exceptions=True
        )

    return asyncio.run(go())


def test_the_second_question_waits_for_the_first():
    verifier = Slow()
    answers = both((ALONE, "a"), (PAIR, "a"), (PAIR, "a"), verifier=verifier)
    assert [scores for scores, _ in answers] == [(3, 4), (1, 2), (1, 2)]
    assert verifier.count == 1


def test_edits_of_other_names_or_words_are_others():
    verifier = Slow()
    other = Asked("semantic", {"source": BEFORE, "edited": AFTER}, "y")
    answers = both((PAIR, "a"), (PAIR, "b"), (other, ""), (PAIR, ""), verifier=verifier)
    assert sorted(scores[0] for scores, _ in answers) == [1, 2, 3, 4]


def test_waiting_ends():
    (problem,) = both((ALONE, "a"), verifier=Slow(), patience=0.05)
    assert isinstance(problem, ApiError) and problem.status == 422


def test_what_may_pass_is_judged_again():
    async def go(first):
        verifier = Slow(first)
        desk = VerdictCache(verifier)
        with pytest.raises((ApiError, OSError)):
            await desk.answer(PAIR, "a")
        return await desk.answer(PAIR, "a"), verifier.count

    for first in (Verdict("unreachable"), OSError("disk")):
        answer, count = asyncio.run(go(first))
        assert answer[0] == (2, 2) and count == 2


def test_another_kind_of_question_is_refused():
    ground = Asked("reference", {"target": BEFORE, "edited": AFTER}, "x")
    (problem,) = both((ground, ""), verifier=Slow())
    assert isinstance(problem, ApiError) and "semantic" in str(problem)


def test_what_is_remembered_is_bounded():
    class Wordy:
        async def judge(self, attempts):
            return [Verdict("ok", 1, 2, 3, 4, why="x" * 10**6, raw="y" * 10**6, notes={"z": "z" * 10**6})]

    async def go():
        cache = VerdictCache(Wordy())
        await cache.answer(PAIR)
        return [edit.verdict.result() for edit in cache._edits.values() if edit.verdict]

    (kept,) = asyncio.run(go())
    assert len(kept.why) == 2000 and not kept.raw and not kept.notes and kept.edit_success == 1
