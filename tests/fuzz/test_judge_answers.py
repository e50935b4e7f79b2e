"""A seeded sample of the fuzzer of judge answers; the whole of it under `make test-long`."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.judge_answers import fuzz

pytest.importorskip("httpx2")


def test_a_sample_of_judge_answers():
    assert fuzz(150, seed=7) == []


@pytest.mark.long
def test_many_judge_answers():
    seed = random.SystemRandom().randrange(10**6)
    found = fuzz(2000, seed)
    assert not found, f"seed {seed}: {found}"
