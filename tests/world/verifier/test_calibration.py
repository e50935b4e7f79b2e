"""Judging edits known to be good and known to be bad, and the tables that come of it."""

import json

import numpy as np
import pytest
from scene_images import as_image, like_a_tokenizer

from earl.errors import ConfigError, DataError
from earl.records import Verdict
from earl.world.verifier.calibration import TRUE, WASHED_OUT, Calibration, Case, calibrate, format_report
from earl.world.verifier.damage import MAKERS

FEW = ("color", "remove", "swap")


def verdict(overall: float) -> Verdict:
    return Verdict("ok", overall, overall, overall, overall)


def case(kind: str, overall: float, after: float | None = None, family: str = "add") -> Case:
    return Case("t", kind, family, verdict(overall), None if after is None else verdict(after))


def test_good_and_bad_are_told_apart() -> None:
    seen: list[int] = []
    result = calibrate(3, seed=5, families=FEW, on_tasks=seen.append)
    assert seen == [1, 2, 3]
    assert [c.family for c in result.cases if c.kind == TRUE] == list(FEW)
    assert {c.kind for c in result.cases} >= {TRUE, "no-op", "wrong colour", "noise", "blank"}
    assert all(c.right() for c in result.cases) and result.roc_auc() == 1.0
    assert result.misses() == []
    report = result.report()
    assert report["families"]["swap"] == {"group": "complex", "tasks": 1, "targets": 1.0, "bad": 1.0}
    assert json.loads(json.dumps(report)) == report
    text = format_report(report)
    assert all(f"| {name} |" in text for name in (*FEW, *MAKERS, "all simple", "all complex"))
    assert "after" not in text


def test_images_go_through_a_pass_and_the_source_does_not() -> None:
    rng, passed = np.random.default_rng(0), []

    def through(images):
        passed.extend(images)
        return [as_image(like_a_tokenizer(np.asarray(i), rng)) for i in images]

    result = calibrate(2, seed=6, through=through, families=FEW)
    assert len(passed) == len(result.cases) and all(c.after is not None for c in result.cases)
    assert all(c.right(after=True) and c.near for c in result.targets)
    assert result.report()["all"]["near"] == 1.0
    alone = calibrate(2, seed=6, families=FEW)
    assert [c.verdict for c in alone.cases] == [c.verdict for c in result.cases]


def test_shares_and_auc_by_hand() -> None:
    cases = (
        case(TRUE, 10.0, 8.5),
        case(TRUE, 9.0, 6.5),
        case("no-op", 0.0, 0.0),
        case("blob", 3.0, 4.0),
        case(WASHED_OUT, 2.0, 10.0),
        case("blob", 9.5, 9.0),
    )
    result = Calibration(cases, passed=True)
    assert len(result.targets) == 2 and len(result.mistakes()) == 4 and len(result.mistakes(after=True)) == 3
    assert result.roc_auc() == 7 / 8, "one bad edit lies between the two good ones"
    assert result.roc_auc(after=True) == 4 / 6
    shares = result.report()["families"]["add"]
    before, after = {"targets": 1.0, "bad": 0.75}, {"after_targets": 0.0, "after_bad": 0.3333, "near": 0.5}
    assert shares == {"group": "simple", "tasks": 2, **before, **after}
    wrong = [(m["kind"], m["after"], m["overall"]) for m in result.misses()]
    targets, blobs = wrong[:2], wrong[2:]
    assert targets == [(TRUE, True, 8.5), (TRUE, True, 6.5)]
    assert blobs == [("blob", True, 4.0), ("blob", False, 9.5), ("blob", True, 9.0)]
    assert Case("t", TRUE, "add", Verdict("unusable")).score() == 0.0


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ConfigError, match="n = 0"):
        calibrate(0, seed=0)
    with pytest.raises(DataError, match="'explode'"):
        calibrate(1, seed=0, families=["explode"])
