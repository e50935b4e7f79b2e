"""Verifiers as recipes describe them."""

from __future__ import annotations

import pytest

from earl.config.recipe import check as check_section
from earl.config.recipe import load_recipe, save_recipe
from earl.config.verifier import RewardSettings
from earl.verifiers.combined import WeightedSum
from earl.verifiers.factory import make_verifier
from earl.world.verifier.scene import SceneVerifier


def test_recipes_make_verifiers():
    assert isinstance(make_verifier(RewardSettings(kind="scene")), SceneVerifier)


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
