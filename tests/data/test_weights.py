"""Draws of mixtures by weight, and rows in proportion to shares."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from earl.data.mixture import Mixture
from earl.data.weights import allocate, pick
from earl.training.grpo.prompts import mixed


def test_repeated_and_subsampled_sources_are_drawn_as_often_as_they_weigh():
    sizes = {"few": 20, "many": 400}
    weights = {"few": 5.0, "many": 0.25}
    mixture = Mixture(sizes, weights, seed=4)
    assert mixture.epoch_size == 200
    drawn = [next(mixture) for _ in range(600)]  # three epochs
    counts = Counter(name for name, _ in drawn)
    assert abs(counts["few"] - 300) < 4 * np.sqrt(600 / 4)
    repeats = Counter(index for name, index in drawn if name == "few")
    assert len(repeats) == 20 and max(repeats.values()) - min(repeats.values()) <= 1
    once = Counter(index for name, index in drawn if name == "many")
    assert set(once.values()) == {1}  # a part of the source, and none of it twice
    later = [next(mixture) for _ in range(400)]
    fresh = [index for name, index in later if name == "many"]
    assert not set(fresh[: 400 - counts["many"]]) & set(once)  # the rest comes before a second time


def test_every_source_is_drawn_alike_when_upsampled_and_goes_on_in_mid_epoch():
    sizes = {"a": 60, "b": 30, "c": 6}
    weights = {"a": 1.0, "b": 2.0, "c": 10.0}
    whole = Mixture(sizes, weights, seed=9)
    drawn = [next(whole) for _ in range(1800)]
    counts = Counter(name for name, _ in drawn)
    assert all(abs(counts[name] - 600) < 4 * np.sqrt(1800 * 2 / 9) for name in sizes)
    part = Mixture(sizes, weights, seed=9)
    for _ in range(77):  # somewhere inside the first epoch of 180
        next(part)
    resumed = Mixture(sizes, weights, seed=9)
    resumed.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert resumed.drawn == part.drawn
    assert [next(resumed) for _ in range(500)] == drawn[77:577]


SIZES = {"large": 1000, "small": 10, "middle": 200}


def test_so_many_examples_by_shares_and_no_more_than_there_are():
    alike = dict.fromkeys(SIZES, 1.0)
    assert allocate(30, SIZES, alike) == {"large": 10, "small": 10, "middle": 10}
    assert allocate(100, SIZES, alike) == {"large": 45, "small": 10, "middle": 45}, "the small one gives all"
    assert allocate(16, SIZES, {"large": 2.0, "small": 1.0, "middle": 0.0}) == {
        "large": 11,
        "small": 5,
        "middle": 0,
    }
    assert allocate(10**6, SIZES, alike) == SIZES
    assert sum(allocate(1000, SIZES, {"large": 0.3, "small": 0.3, "middle": 0.4}).values()) == 1000


def test_rows_are_drawn_once_by_the_seed():
    alike = dict.fromkeys(SIZES, 1.0)
    first, again, other = (pick(60, SIZES, alike, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert {name: len(set(rows)) for name, rows in first.items()} == {"large": 25, "small": 10, "middle": 25}
    assert all(0 <= row < SIZES[name] for name, rows in first.items() for row in rows)
    assert pick(10**6, SIZES, alike, seed=3) == {name: list(range(size)) for name, size in SIZES.items()}


def test_a_pool_is_never_left_and_keeps_the_shares_of_the_weights():
    weights = {"large": 0.1, "small": 10.0, "middle": 0.5}  # 100 : 100 : 100 in a pass
    rows = [row for row, _ in zip(mixed(SIZES, weights, pool=60, seed=4), range(6000), strict=False)]
    assert len(set(rows)) == 60
    counts = Counter(name for name, _ in rows)
    assert all(abs(counts[name] - 2000) < 150 for name in SIZES)
    whole = [row for row, _ in zip(mixed(SIZES, weights, pool=None, seed=4), range(3000), strict=False)]
    assert len({row for row in whole if row[0] == "large"}) == sum(name == "large" for name, _ in whole)
    resumed = mixed(SIZES, weights, pool=60, seed=4)
    assert [next(resumed) for _ in range(200)] == rows[:200]
    assert {*rows} != {
        *[row for row, _ in zip(mixed(SIZES, weights, pool=60, seed=5), range(6000), strict=False)]
    }
