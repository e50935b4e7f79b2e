"""Reward designs against values computed by hand."""

import math
from pathlib import Path

import pytest

from earl.records import Verdict
from earl.training.grpo.rewards import group_rewards, win_rates
from earl.training.grpo.train import train_grpo

from .tiny import Bright, MeanColour, make_recipe, recipe_table, records

GOOD = Verdict("ok", 9.0, 8.0, 7.0, 6.0)
UNTOUCHED = Verdict("ok", 0.0, 10.0, 10.0, 10.0)
FAIR = Verdict("ok", 6.0, 4.0, 8.0, 8.0)
LOST = Verdict("unreachable")


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        ("overall", [math.sqrt(8 * 6), 0.0, math.sqrt(4 * 8)]),
        ("modulated", [9 * (0.6 + 0.4 * 0.8), 0.0, 6 * (0.6 + 0.4 * 0.4)]),
        ("mean", [7.5, 7.5, 6.5]),
        ("win_rate", [7.5, 7.5, 0.0]),
    ],
)
def test_designs_by_hand(design: str, expected: list[float]) -> None:
    """A verdict without scores has no reward in any design, and takes no part in win rates."""
    found = group_rewards([GOOD, UNTOUCHED, LOST, FAIR], design)
    assert found[2] is None
    assert [found[0], found[1], found[3]] == pytest.approx(expected)


def test_win_rates_depend_on_the_order_alone() -> None:
    assert win_rates([1.0, 2.0, 3.0, 100.0]) == win_rates([0.0, 5.0, 5.1, 5.2])
    assert win_rates([1.0, 2.0, 3.0, 100.0]) == pytest.approx([0.0, 10 / 3, 20 / 3, 10.0])
    assert win_rates([4.0, 4.0, 4.0]) == [5.0, 5.0, 5.0]
    assert win_rates([4.0, None]) == [0.0, None]


def test_a_run_is_rewarded_by_its_design(room: Path, tmp_path: Path) -> None:
    """The mean win rate of a group is 5, whatever the scores are."""
    table = recipe_table(room, tmp_path / "run")
    table["length"], table["grpo"] = {"max_steps": 1}, {"reward": "win_rate"}
    train_grpo(make_recipe(table), Bright(), vision=MeanColour())
    (line,) = records(tmp_path / "run")
    assert line["reward"] == pytest.approx(5.0) and line["edit_success"] != pytest.approx(5.0)
