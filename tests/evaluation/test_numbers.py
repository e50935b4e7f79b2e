"""Intervals, correlations, distances, significance: against hand computation and plain second ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from earl.evaluation.compare import sign_test
from earl.evaluation.correlation import correlate
from earl.evaluation.intervals import estimate, estimates, paired_estimate
from earl.evaluation.metrics import l1, pixels, psnr, ssim
from earl.records import Estimate


def test_an_interval_agrees_with_the_normal_one():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found, half = estimate(values), 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_an_interval_is_reproducible_and_knows_its_ends():
    assert estimate([]) is None and estimate([np.nan]) is None
    assert estimate([3.0] * 5) == Estimate(3.0, 3.0, 3.0, 5)
    assert estimate([0, 1, 1, 0, 1], seed=4) == estimate([0, 1, 1, 0, 1], seed=4)
    values = np.random.default_rng(2).random(30)
    assert estimate(values) != estimate(values, seed=1)


def test_several_intervals_agree_with_one():
    values = np.random.default_rng(0).normal([5, 1], [2, 0.1], (300, 2))
    for column, found in enumerate(estimates(values)):
        assert found.high == pytest.approx(estimate(values[:, column]).high)
        other = estimate(values[:, column], seed=9)
        spread = 0.1 * values[:, column].std()
        assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=spread)


def test_seeds_and_tasks_are_drawn_crossed():
    """Against drawing indices; a NaN is in no mean."""
    rng = np.random.default_rng(8)
    values = rng.normal(0, 1, (3, 40)) + rng.normal(0, 1, (3, 1))
    values[1, 5] = np.nan
    found = estimate(values, resamples=8000)
    assert found.mean == pytest.approx(np.nanmean(values)) and found.count == 119
    drawn = [np.nanmean(values[np.ix_(rng.integers(0, 3, 3), rng.integers(0, 40, 40))]) for _ in range(8000)]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.06)
    one = estimate(values[0])
    assert one.high - one.low < (found.high - found.low) / 2


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(200):
        found = estimate(rng.normal(3, 1, 60), seed=seed, resamples=400)
        inside += found.low <= 3 <= found.high
    assert 0.90 <= inside / 200 <= 0.985


def plain_ranks(values):
    return [1 + sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def plain_spearman(x, y):
    return float(np.corrcoef(plain_ranks(x), plain_ranks(y))[0, 1])


def plain_kendall(x, y):
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    both = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    agree = sum(a * b for a, b in both)
    return agree / math.sqrt(sum(a != 0 for a, _ in both) * sum(b != 0 for _, b in both))


def test_correlations_agree_with_the_plain_way():
    pytest.importorskip("scipy")
    rng = np.random.default_rng(2)
    for count in (3, 10, 40):
        x = rng.integers(0, 11, count).astype(float)  # many ties, as scores have
        y = x + rng.integers(0, 6, count)
        for kind, plain in (("spearman", plain_spearman), ("kendall", plain_kendall)):
            assert correlate(kind, x, y, resamples=20).mean == pytest.approx(plain(x, y), abs=1e-12)


def test_correlation_by_hand():
    pytest.importorskip("scipy")
    for kind, x, y, value in (
        ("spearman", [1, 2, 3, 4], [10, 20, 30, 40], 1),
        ("kendall", [1, 2, 3, 4], [4, 3, 2, 1], -1),
        ("kendall", [1, 2, 3, 4], [1, 3, 2, 4], 4 / 6),  # 5 pairs agree, 1 does not
        ("spearman", [1, 2, 3, 4], [1, 3, 2, 4], 0.8),
    ):
        assert correlate(kind, x, y, resamples=20).mean == pytest.approx(value)
    assert correlate("spearman", [1, 1, 1], [1, 2, 3]) is None
    assert correlate("kendall", [1, 2], [1, 2]) is None


def test_the_interval_of_a_correlation_is_that_of_drawing_pairs():
    pytest.importorskip("scipy")
    rng = np.random.default_rng(3)
    x = rng.integers(0, 11, 30).astype(float)
    y = x + rng.normal(0, 3, 30)
    drawn = [rng.integers(0, 30, 30) for _ in range(600)]
    for kind, plain in (("spearman", plain_spearman), ("kendall", plain_kendall)):
        slow = np.quantile([plain(x[i], y[i]) for i in drawn], [0.025, 0.975])
        found = correlate(kind, x, y)
        assert (found.low, found.high) == pytest.approx(tuple(slow), abs=0.06)


def test_distances_by_hand():
    black, grey = np.zeros((16, 16, 3)), np.full((16, 16, 3), 0.5)
    assert l1(black, grey) == 0.5
    assert psnr(black, grey) == pytest.approx(-10 * math.log10(0.25))
    assert psnr(grey, grey) == 100
    assert ssim(grey, grey) == pytest.approx(1)
    c1 = 0.01**2  # two flat pictures: only the means speak
    assert ssim(black, grey) == pytest.approx(c1 / (0.25 + c1))


def test_ssim_agrees_with_the_plain_way():
    rng = np.random.default_rng(4)
    first = rng.random((14, 13, 3))
    second = np.clip(first + rng.normal(0, 0.2, first.shape), 0, 1)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)
    window = (window / window.sum())[..., None]
    values = []
    for row in range(14 - 10):
        for column in range(13 - 10):
            a, b = (image[row : row + 11, column : column + 11] for image in (first, second))
            mean_a, mean_b = (window * a).sum((0, 1)), (window * b).sum((0, 1))
            var_a, var_b = ((window * (v - m) ** 2).sum((0, 1)) for v, m in ((a, mean_a), (b, mean_b)))
            cov = (window * (a - mean_a) * (b - mean_b)).sum((0, 1))
            top = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
            values.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    assert ssim(first, second) == pytest.approx(np.mean(values), abs=1e-10)
    with pytest.raises(ValueError, match="11 px"):
        ssim(first[:8], second[:8])


def test_pixels_are_shares():
    assert pixels(Image.new("RGB", (2, 3), (255, 0, 51))).tolist()[0][0] == [1, 0, 0.2]


def test_sign_test_by_hand():
    assert sign_test(0, 0) == 1
    assert sign_test(5, 5) == 1
    assert sign_test(10, 0) == pytest.approx(2 / 1024)
    assert sign_test(8, 2) == sign_test(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)


def test_paired_bootstrap_knows_a_difference_from_chance():
    rng = np.random.default_rng(5)
    found, p = paired_estimate(rng.normal(1, 1, 100))
    assert found.low > 0.5 and p < 0.001
    _, p = paired_estimate(rng.normal(0, 1, 100) - 0.01)
    assert p > 0.05
    found, p = paired_estimate(np.zeros(10))
    assert (found.low, found.high, p) == (0.0, 0.0, 1.0)


def test_p_values_are_even_where_there_is_no_difference():
    rng = np.random.default_rng(6)
    small = sum(paired_estimate(rng.normal(0, 1, 50), resamples=400)[1] < 0.05 for _ in range(200))
    assert 2 <= small <= 22  # 5% of 200, give or take
