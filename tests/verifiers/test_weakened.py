"""Verifiers as recipes describe them, and those that are made worse on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from earl.config.recipe import check as check_section
from earl.config.recipe import load_recipe, save_recipe
from earl.config.verifier import RewardSettings
from earl.errors import ConfigError
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.verifiers.combined import WeightedSum
from earl.verifiers.factory import make_verifier
from earl.verifiers.noise import Blind, Noisy
from earl.verifiers.protocol import check
from earl.world.verifier.scene import SceneVerifier


class Same:
    """Says the same of every edit."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        return [self.verdict] * len(attempts)


GOOD = Verdict("ok", 5.0, 4.0, 6.0, 5.0, exact=True)


def attempts(count: int) -> list[Attempt]:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(count)]
    return [Attempt(pictures[0], "x", picture) for picture in pictures]


def judge(verifier, shown) -> list[Verdict]:
    return asyncio.run(verifier.judge(shown))


def test_noise_has_the_std_that_was_asked_for_and_is_the_edits_own():
    shown = attempts(400)
    found = judge(Noisy(Same(GOOD), 1.0), shown)
    for part in SCORE_PARTS:
        values = np.array([getattr(verdict, part) for verdict in found])
        assert values.mean() == pytest.approx(getattr(GOOD, part), abs=0.2)
        assert values.std() == pytest.approx(1.0, abs=0.1)
    assert judge(Noisy(Same(GOOD), 1.0), shown[::-1])[::-1] == found, "the order does not matter"
    assert judge(Noisy(Same(GOOD), 1.0, seed=1), shown)[0] != found[0]
    assert found[0].notes == {"unweakened": GOOD.overall} and found[0].exact


def test_noise_stays_in_range_and_leaves_failures_alone():
    for verdict in judge(Noisy(Same(GOOD), 10.0), attempts(50)):
        assert all(0 <= getattr(verdict, part) <= 10 for part in SCORE_PARTS)
    lost = Verdict("unreachable", raw="HTTP 503")
    assert judge(Noisy(Same(lost), 3.0), attempts(2)) == [lost, lost]
    assert judge(Blind(Same(lost), "artifacts"), attempts(1)) == [lost]


@pytest.mark.parametrize("part", SCORE_PARTS)
def test_blind_to_one_part(part: str):
    verdict = judge(Blind(Same(GOOD), part), attempts(1))[0]
    assert getattr(verdict, part) == 10.0
    assert all(getattr(verdict, other) == getattr(GOOD, other) for other in SCORE_PARTS if other != part)


def test_settings_that_are_none():
    with pytest.raises(ConfigError, match="hearing"):
        Blind(Same(GOOD), "hearing")
    with pytest.raises(ConfigError, match="-1"):
        Noisy(Same(GOOD), -1)


def test_recipes_make_verifiers():
    assert isinstance(make_verifier(RewardSettings(kind="scene")), SceneVerifier)
    weak = make_verifier(RewardSettings(kind="scene", noise=2.0, blind="artifacts", noise_seed=5))
    assert isinstance(weak, Noisy) and (weak.std, weak.seed) == (2.0, 5)
    assert isinstance(weak.verifier, Blind) and weak.verifier.part == "artifacts"
    assert asyncio.run(check(weak)) == "SceneVerifier, blind to artifacts with noise of 2 points"


def test_a_judge_gets_every_setting(tmp_path):
    pytest.importorskip("httpx2")
    asked = {
        "url": "http://x/v1",
        "model": "m",
        "concurrency": 3,
        "timeout": 5.0,
        "deadline": 6.0,
        "retries": 1,
    }
    asked |= {"temperature": 0.7, "max_tokens": 99, "seed": 4, "samples": 2, "swap": True, "structured": True}
    asked |= {"extra": {"top_k": 5, "stop": [{"a": 1}]}}
    section = check_section(
        RewardSettings,
        {
            "kind": "sum",
            "parts": {"a": {"kind": "judge", "weight": 3.0, "judge": asked}, "b": {"kind": "scene"}},
            "second": {"kind": "reference", "judge": {"url": "http://x/v1", "temperature": "server"}},
        },
    )
    verifier = make_verifier(section)
    assert isinstance(verifier, WeightedSum) and verifier.shares == (0.75, 0.25)
    settings = verifier.parts[0].verifier.settings
    assert {name: getattr(settings, name) for name in asked} == asked
    second = make_verifier(section.second)
    assert second.pair == "reference" and second.settings.temperature == "server"
    assert load_recipe(RewardSettings, save_recipe(section, tmp_path / "v.toml")) == section
