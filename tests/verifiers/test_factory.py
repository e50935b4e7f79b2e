"""Verifiers as recipes describe them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from judge_endpoint import completion, serving
from PIL import Image

from earl.config.recipe import check as check_section
from earl.config.recipe import load_recipe, save_recipe
from earl.config.verifier import RewardSettings, VerifierSettings
from earl.errors import RewardError
from earl.evaluation.run import Judging
from earl.records import Attempt, Verdict
from earl.store import RecordFile
from earl.verifiers.combined import WeightedSum
from earl.verifiers.factory import make_verifier
from earl.verifiers.protocol import judge_each
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


def test_what_decides_a_verdict_is_in_its_identity(tmp_path):
    """An evaluation goes on, and a kept verdict counts, only where it is the same."""
    pytest.importorskip("httpx2")
    (tmp_path / "vie_prompts.py").write_text(
        '_prompts_0shot_two_image_edit_rule = "two"\n_prompts_0shot_tie_rule_SC = "<instruction>"\n'
        '_prompts_0shot_rule_PQ = "quality"\n_context_no_delimit = "rules"\n'
    )
    with serving(lambda _: (200, completion("{}"))) as endpoint:

        def identity(**more):
            judge = {"url": endpoint.url, "concurrency": 2, "max_tokens": 300, "rounds": 2} | more
            return Judging.of_settings(VerifierSettings(kind="judge", judge=judge)).identity

        plain = identity()
        assert plain.keys() == {"kind", "model", "questions", "samples", "temperature"}
        ways = {"swap": True, "expected": True, "jpeg": 75, "seed": 1, "extra": {"top_k": 5}}
        for name, value in ways.items():
            assert identity(**{name: value}) == plain | {name: value}
        published = {"protocol": "viescore", "prompts": tmp_path}  # as JPEG: its own way
        assert identity(**published).keys() == plain.keys() | {"protocol"}
        assert identity(**published, jpeg=90)["jpeg"] == 90
    weak = [VerifierSettings(kind="weak-judge", options={"agreement": value}) for value in (0.4, 0.53)]
    assert [Judging.of_settings(one).identity["options"]["agreement"] for one in weak] == [0.4, 0.53]
    judge = {"url": "http://x/v1", "model": "m", "swap": True}
    parts = {"a": {"kind": "judge", "judge": judge, "weight": 3.0}, "b": {"kind": "scene"}}
    assert Judging.of_settings(VerifierSettings(kind="sum", parts=parts)).identity == {
        "kind": "sum",
        "model": None,
        "parts": {
            "a": {"kind": "judge", "judge": {"model": "m", "swap": True}, "weight": 3.0},
            "b": {"kind": "scene"},
        },
    }


def test_scores_of_any_library_are_numbers_from_0_to_10(tmp_path):
    """A verifier of one's own gives NumPy's numbers; one on another scale is told, not averaged."""
    verdict = Verdict("ok", np.float32(5.5), np.int64(10), 10 + 1e-9, -1e-9)
    noted = replace(verdict, exact=np.bool_(True), notes={"moved": np.float32(0.5)})
    kept: RecordFile[Verdict] = RecordFile(tmp_path / "v.jsonl", Verdict.from_json, Verdict.to_json)
    kept.append({"a": noted})
    again = RecordFile(tmp_path / "v.jsonl", Verdict.from_json, Verdict.to_json).get("a")
    assert again is not None and again.exact is True and again.notes == {"moved": 0.5}
    assert json.loads(json.dumps(verdict.to_json()))["edit_success"] == 5.5
    assert (verdict.over_editing, verdict.naturalness, verdict.artifacts) == (10.0, 10.0, 0.0)
    for odd in (85.0, -1, float("nan"), np.float32("inf"), "good", [5]):
        with pytest.raises(RewardError, match=r"a verdict's naturalness is .*expected a number from 0 to 10"):
            Verdict("ok", 5.0, 5.0, odd, 5.0)

    class Percent:
        async def judge(self, attempts):
            return [Verdict("ok", 85.0, 90.0, 100.0, 100.0) for _ in attempts]

    image = Image.new("RGB", (8, 8))
    (verdict,) = asyncio.run(judge_each(Percent(), [Attempt(image, "x", image)]))
    assert verdict.status == "unusable" and "edit_success is 85.0" in verdict.why
