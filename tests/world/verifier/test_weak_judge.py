"""The weak judge: ties, biases and a liking for unchanged images, on top of the scene verifier's truth."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.config.verifier import VerifierSettings
from earl.errors import ConfigError
from earl.files import parse_toml
from earl.records import Attempt, Verdict
from earl.verifiers.factory import make_verifier
from earl.world.verifier.calibration import calibrate, weak_table
from earl.world.verifier.weak_judge import AGREEMENTS, FAMILY, GRADES, WeakJudge, family_bias, graded

ROOT = Path(__file__).parents[3]


def attempts(count: int, family: str = "") -> list[Attempt]:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(count)]
    return [Attempt(images[0], "x", image, family=family) for image in images]


def test_scores_become_the_nearest_grade():
    assert [graded(score) for score in (-3, 1.4, 1.5, 4.6, 7.6, 99)] == [0, 0, 3, 6, 8, 9]


def test_the_same_edit_gets_the_same_scores_and_all_are_grades():
    judge, verdict = WeakJudge("0.40"), Verdict("ok", 9.0, 8.0, 10.0, 10.0, outcome="exact", exact=True)
    said = [judge.weaken(attempt, verdict) for attempt in attempts(300)]
    assert said == [judge.weaken(attempt, verdict) for attempt in attempts(300)]
    assert {getattr(one, "naturalness") for one in said} <= set(GRADES)  # noqa: B009
    assert len({one.overall for one in said}) > 5 and all(one.exact for one in said)
    assert said[0].notes["unweakened"] == verdict.overall
    other = [WeakJudge("0.40", seed=1).weaken(attempt, verdict) for attempt in attempts(300)]
    assert other != said


def test_an_unchanged_image_passes_more_easily():
    judge = WeakJudge("0.53")
    wrong = Verdict("ok", 0.0, 10.0, 10.0, 10.0, outcome="wrong")
    unchanged = Verdict("ok", 0.0, 10.0, 10.0, 10.0, outcome="untouched")
    shown = attempts(400)
    means = [np.mean([judge.weaken(a, v).edit_success for a in shown]) for v in (wrong, unchanged)]
    assert means[1] > means[0] + 1


def test_families_differ_by_a_bias_of_their_own():
    names = [f"family {number}" for number in range(300)]
    biases = [family_bias(name, 0) for name in names]
    assert np.std(biases) == pytest.approx(FAMILY, rel=0.15) and abs(np.mean(biases)) < 0.2 * FAMILY
    assert family_bias("", 0) == 0.0 and family_bias("add", 0) != family_bias("add", 1)
    judge, verdict = WeakJudge("0.53"), Verdict("ok", 5.0, 5.0, 5.0, 5.0)
    low, high = min(names, key=lambda n: family_bias(n, 0)), max(names, key=lambda n: family_bias(n, 0))
    means = [np.mean([judge.weaken(a, verdict).naturalness for a in attempts(200, f)]) for f in (low, high)]
    assert means[1] > means[0] + 2 * FAMILY


def test_by_name_with_its_agreement():
    project = parse_toml((ROOT / "pyproject.toml").read_text("utf-8"), "pyproject.toml")["project"]
    names = project["entry-points"]["earl.verifiers"]
    made = make_verifier(VerifierSettings(kind=names["weak-judge"], options={"agreement": 0.53, "seed": 3}))
    assert isinstance(made, WeakJudge) and made.std == AGREEMENTS["0.53"]
    with pytest.raises(ConfigError, match=r"0\.40, 0\.53"):
        WeakJudge("0.60")
    verdict = asyncio.run(made.judge([Attempt(Image.new("RGB", (8, 8)), "make it red", None)]))[0]
    assert verdict.status == "undecodable"


def test_the_calibration_shows_how_it_errs():
    judges = [WeakJudge(name) for name in AGREEMENTS]
    result = calibrate(6, seed=5, families=["color", "add"], weak=judges)
    table = weak_table(result.cases)
    heads = [column.head for column in table.columns]
    truth, *weak = (dict(zip(heads, row.cells, strict=True)) for row in table.rows)
    assert truth["targets"] > 9 and truth["Spearman overall"] is None and "12 edits" in table.notes[0]
    for row in weak:
        assert row["unchanged"] > truth["unchanged"] and row["targets"] < truth["targets"]
        assert row["Spearman overall"].count == 12
