"""Cells, intervals, claims and tables, from scores that are made up."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from earl.errors import ConfigError
from earl.reproduce.bootstrap import estimate
from earl.reproduce.cells import CELLS, needed
from earl.reproduce.claims import CLAIMS, difference, judge_claims
from earl.reproduce.tables import markdown, results
from earl.reproduce.timing import TimeLimit, Work, duration, forecast

TASKS = 60


def report(
    level: float, seed: int = 0, spread: float = 1.0, family: tuple[str, str] = ("color", "swap")
) -> dict:
    """A cell's scores: the same difficulties for all cells, a level of its own, a little noise."""
    hard = np.random.default_rng(99).normal(0, spread, TASKS)
    own = np.random.default_rng(seed).normal(0, 0.1, TASKS)
    tasks = {}
    for index in range(TASKS):
        group = ("simple", "complex")[index % 2]
        row = {"family": family[index % 2], "group": group, "status": "ok"}
        value = float(level + hard[index] + own[index])
        parts = dict.fromkeys(("edit_success", "over_editing", "naturalness", "artifacts", "exact"), value)
        tasks[f"test-{index}"] = row | parts | {"overall": value}
    return {"tasks": tasks}


def verdict(scores: dict, sentence: str) -> str:
    return next(r["verdict"] for r in judge_claims(scores) if sentence in r["claim"])


def test_cells_come_after_what_they_start_from():
    seen: set[str] = set()
    for cell in CELLS.values():
        assert cell.start is None or cell.start in seen
        seen.add(cell.name)
    assert {c for claim in CLAIMS for one in claim.comparisons for c in (one.left, one.right)} <= seen


def test_what_a_cell_needs():
    assert [cell.name for cell in needed(["rl-sc-best"])] == ["start", "sft-s", "rl-sc", "rl-sc-best"]
    assert [cell.name for cell in needed(["rl-sc"], given=["start", "sft-s"])] == ["sft-s", "rl-sc"]
    assert len(needed()) == len(CELLS)
    with pytest.raises(ConfigError, match="did you mean 'rl-sc-scaled'"):
        needed(["rl-sc-scale"])


def test_intervals():
    assert estimate(np.full((3, 10), np.nan)) is None
    same = estimate(np.full((1, 10), 4.0))
    assert (same.mean, same.low, same.high, same.seeds, same.tasks) == (4.0, 4.0, 4.0, 1, 10)
    values = np.random.default_rng(0).normal(5, 2, (1, 400))
    found = estimate(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    holed = values.copy()
    holed[0, ::2] = np.nan
    assert estimate(holed).mean == pytest.approx(values[0, 1::2].mean())


def test_seeds_that_differ_widen_the_interval():
    values = np.random.default_rng(0).normal(5, 0.1, (3, 200))
    tight = estimate(values)
    wide = estimate(values + np.array([[-1.0], [0.0], [1.0]]))
    assert wide.high - wide.low > 5 * (tight.high - tight.low)


def test_paired_differences_see_what_means_do_not():
    scores = {"rl-s": [report(5.2, 1, spread=3.0)], "sft-s": [report(5.0, 2, spread=3.0)]}
    found = difference(scores, "rl-s", "sft-s")
    assert 0.1 < found.low < found.mean < found.high < 0.3
    assert verdict(scores, "RL on simple") == "holds"


def test_one_model_stands_against_every_seed_of_another():
    scores = {"rl-s": [report(6, 1), report(7, 2), report(8, 3)], "sft-s": [report(5, 4)]}
    found = difference(scores, "rl-s", "sft-s")
    assert found.seeds == 3 and found.mean == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(("gain", "says"), [(1.0, "holds"), (-1.0, "does not hold"), (0.0, "cannot tell")])
def test_the_rule_for_more(gain, says):
    scores = {"rl-s": [report(5 + gain, 1)], "sft-s": [report(5, 2)]}
    if says == "cannot tell":  # exactly as often above as below
        for index, row in enumerate(scores["rl-s"][0]["tasks"].values()):
            row["overall"] = scores["sft-s"][0]["tasks"][f"test-{index}"]["overall"] + (-1) ** index
    assert verdict(scores, "RL on simple") == says


@pytest.mark.parametrize(("gain", "says"), [(-1.0, "holds"), (0.0, "holds"), (1.0, "does not hold")])
def test_the_rule_for_not_more(gain, says):
    scores = {"sft-s-best": [report(5 + gain, 1)], "rl-sc": [report(5, 1)]}
    assert verdict(scores, "Best-of-N") == says


def test_a_claim_of_two_comparisons():
    scores = {"rl-sc": [report(6, 1)], "rl-s": [report(5, 2)]}
    assert verdict(scores, "together are best") == "not run"
    assert verdict(scores | {"rl-c": [report(5, 3)]}, "together are best") == "holds"
    assert verdict(scores | {"rl-c": [report(7, 3)]}, "together are best") == "does not hold"


def test_tables_have_the_papers_shape():
    scores = {
        name: [report(5, 1), report(5.5, 2)] for name in ("sft-s", "rl-sc", "sft-s-best", "rl-sc-noise")
    }
    scores["sft-s"][0]["tasks"]["test-0"]["overall"] = None  # a verdict that failed
    text = markdown(scores)
    assert "| model | color (S) | swap (C) | S | C | all |" in text
    assert text.count("SFT S → RL S+C (2 seeds)") == 2 * 3, "RL stands beside best of N and weak verifiers"
    assert "## Best of N" in text and "## With a chain of thought" not in text
    assert "| Reasoning does not help | **not run** |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(
        row.count("|") == rows[i - 1].count("|") or "model" in row or "claim" in row
        for i, row in enumerate(rows)
    )
    assert "## Missing" not in text
    missing = {"rl-c": "not run", "rl-s": "1 of 3 seeds"}
    listed = markdown(scores, missing)
    assert "- `rl-c`, SFT S → RL C: not run\n- `rl-s`, SFT S → RL S: 1 of 3 seeds\n\n## Claims" in listed
    found = results(scores, missing)
    assert found["missing"] == missing
    assert found["cells"]["sft-s"]["seeds"] == 2
    cell = found["cells"]["rl-sc"]["complex"]["overall"]
    assert cell["low"] < cell["mean"] < cell["high"]


def test_a_forecast_counts_what_has_a_measure_and_names_the_rest():
    measured = [(Work("sft", 100), 50.0), (Work("sft", 300), 350.0), (Work("evaluation", 10, "task"), 5.0)]
    left = [
        ("a", [Work("evaluation", 500, "task"), Work("sft", 20)]),
        ("b", [Work("evaluation", 100, "task"), Work("grpo", 7)]),
        ("c", []),
    ]
    found = forecast(measured, left)
    assert found.seconds == 500 * 0.5 + 20 * 1.0 + 100 * 0.5
    assert (found.counted, found.unknown) == (("a",), ("b",))
    assert found.lines() == [
        "time: about 5 min, as measured here: evaluation 0.5 s a task, sft 1 s a step",
        "  not all counted, for want of a measure: b",
    ]
    assert forecast([], []).lines() == []
    assert [duration(s) for s in (3, 600, 11_100)] == ["3 s", "10 min", "3 h 05 min"]


def test_a_time_limit():
    now = [0.0]
    limit = TimeLimit(2.0, clock=lambda: now[0])
    assert not limit.over
    now[0] = 120.0
    assert limit.over and not TimeLimit(None).over


def test_a_time_limit_asks_only_a_handler_that_was_set_within(monkeypatch):
    monkeypatch.setattr("earl.reproduce.timing.LOOK", 0.005)
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outside"))
    try:
        with TimeLimit(1e-9).watching():
            time.sleep(0.1)
            assert not heard, "what cannot be continued is not disturbed"
            inner = signal.signal(signal.SIGTERM, lambda *_: heard.append("trainer"))
            while not heard:
                time.sleep(0.01)
            signal.signal(signal.SIGTERM, inner)
        assert set(heard) == {"trainer"}
        with TimeLimit(60).watching():
            signal.signal(signal.SIGTERM, lambda *_: heard.append("early"))
            time.sleep(0.05)
        assert "early" not in heard
    finally:
        signal.signal(signal.SIGTERM, before)
