"""Weights of mixtures by hand, what draws they give, and the command that prints them."""

from __future__ import annotations

import json
import sys
from collections import Counter

import numpy as np
import pytest
import source_files as files
from source_files import Marks

from earl.cli import main
from earl.config.data import PreparationSettings
from earl.data.mixture import Mixture
from earl.data.prepare import prepare_source
from earl.data.sources.builtin import SCHEMAS
from earl.data.sources.opening import open_source
from earl.data.weights import RELEASED, allocate, pick, temperature_weights, upsample_to_largest
from earl.errors import DataError
from earl.training.grpo.prompts import mixed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_upsampled_to_the_largest_by_hand():
    assert upsample_to_largest({"a": 100, "b": 50, "c": 10}) == {"a": 1, "b": 2, "c": 10}
    assert upsample_to_largest({"a": 100, "b": 50, "c": 10}, cap=50) == {"a": 0.5, "b": 1, "c": 5}
    assert upsample_to_largest({"a": 10}, cap=50) == {"a": 1}


def test_temperatures_by_hand():
    sizes = {"a": 100, "b": 25}
    assert temperature_weights(sizes, 1) == {"a": 1, "b": 1}
    warm = temperature_weights(sizes, 2)  # shares as 10 : 5 of 125
    assert warm == {"a": pytest.approx(125 * 2 / 3 / 100), "b": pytest.approx(125 / 3 / 25)}
    hot = temperature_weights(sizes, 1e9)
    assert hot["a"] * 100 == pytest.approx(62.5) == pytest.approx(hot["b"] * 25)
    cold = temperature_weights({"a": 10**6, "b": 1}, 0.01)
    assert cold["a"] == pytest.approx(1, abs=1e-4) and cold["b"] == 0  # out of the range of floats


def test_sources_without_a_weight_are_named():
    for weigh in (upsample_to_largest, lambda sizes: temperature_weights(sizes, 2)):
        with pytest.raises(DataError, match="no weight: b"):
            weigh({"a": 1, "b": 0})
        with pytest.raises(DataError, match="there are none"):
            weigh({})
    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="above 0"):
            temperature_weights({"a": 1}, temperature)


def test_the_release_weighs_the_training_sources():
    assert set(RELEASED) == {name for name, schema in SCHEMAS.items() if not schema.benchmark}


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
    weights = upsample_to_largest(sizes)
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


@pytest.fixture
def folders(tmp_path):
    for name, count in (("big", 8), ("small", 2)):
        files.own_folder(tmp_path / f"{name}-files", count)
        source = open_source(str(tmp_path / f"{name}-files"))
        prepare_source(source, tmp_path / name, Marks(), PreparationSettings(area=32 * 32))
    return tmp_path


def test_the_command_prints_what_a_recipe_takes(folders, capsys):
    paths = [str(folders / "big"), str(folders / "small")]
    for more, expected in (
        ([], {"big": 1, "small": 4}),
        (["--cap", "4"], {"big": 0.5, "small": 2}),
        (["--temperature", "1"], {"big": 1, "small": 1}),
    ):
        assert main(["data", "weights", *paths, *more]) == 0
        sources = tomllib.loads(capsys.readouterr().out)["data"]["sources"]
        assert {name: entry["weight"] for name, entry in sources.items()} == expected
        assert [entry["path"] for entry in sources.values()] == paths
    assert main(["data", "weights", paths[0], paths[0]]) == 2
    assert "the same name" in capsys.readouterr().err


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
