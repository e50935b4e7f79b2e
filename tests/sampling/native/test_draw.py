import numpy as np
import pytest
import torch

from earl.config import SamplingSettings
from earl.sampling.native.draw import (
    _among_all,
    _among_likely,
    _hash,
    _hash_on_cpu,
    draw,
    gumbel_noise,
    log_sum_exp,
    stream_keys,
)


def keys_for(count, seed=5):
    return stream_keys([seed] * count, list(range(count)))


def test_frequencies_are_the_softmax():
    count, logits = 60_000, torch.tensor([2.0, 0.0, -1.0, 1.0, -4.0])
    ids, logprobs = draw(logits.expand(count, 5), keys_for(count), SamplingSettings(temperature=1.5), 1000)
    p = (logits / 1.5).softmax(0)
    observed = torch.bincount(ids - 1000, minlength=5)
    chi_square = ((observed - count * p) ** 2 / (count * p)).sum().item()
    assert chi_square < 20  # 4 degrees of freedom: exceeded with probability 0.0005
    assert torch.allclose(logprobs, p.log()[ids - 1000], atol=1e-5)


def test_frequencies_over_seeds_at_one_position_and_over_many_columns():
    count, width = 20_000, 700
    keys = stream_keys(list(range(count)), [3] * count)
    ids, _ = draw(torch.zeros(count, width), keys, SamplingSettings(top_k=0), 0)
    observed = torch.bincount(ids, minlength=width).double()
    chi_square = ((observed - count / width) ** 2 / (count / width)).sum().item()
    assert abs(chi_square - (width - 1)) < 5 * (2 * (width - 1)) ** 0.5


def test_noise_has_the_moments_of_a_gumbel_and_no_visible_correlation():
    noise = gumbel_noise(keys_for(1000), torch.arange(1000, dtype=torch.int32)[None])
    assert abs(noise.mean().item() - 0.5772) < 0.01
    assert abs(noise.std().item() - np.pi / 6**0.5) < 0.01
    assert torch.isfinite(noise).all()
    between_rows = torch.corrcoef(noise[:200])
    between_columns = torch.corrcoef(noise.T[:200])
    for table in (between_rows, between_columns):
        assert (table - torch.eye(200)).abs().max() < 0.2


def test_neighbouring_seeds_and_positions_differ():
    keys = stream_keys([0, 1, 0, 1, 2**62], [0, 0, 1, 1, 0])
    assert len({tuple(row) for row in keys.tolist()}) == 5


def test_top_k_and_top_p_cut_and_the_rest_keeps_its_proportions():
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])
    count = 20_000
    for sampling, kept in (
        (SamplingSettings(top_k=2), 2),
        (SamplingSettings(top_p=0.7), 2),
        (SamplingSettings(top_p=1e-9), 1),
    ):
        ids, logprobs = draw(logits.expand(count, 5), keys_for(count), sampling, 0)
        observed = torch.bincount(ids, minlength=5) / count
        expected = logits[:kept].softmax(0)
        assert observed[kept:].sum() == 0
        assert (observed[:kept] - expected).abs().max() < 0.02
        assert torch.allclose(logprobs, logits.log_softmax(0)[ids], atol=1e-5)  # before the cut


def test_a_row_s_draw_does_not_depend_on_the_other_rows():
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    keys = keys_for(50)
    for sampling in (SamplingSettings(), SamplingSettings(top_k=20), SamplingSettings(top_k=40, top_p=0.8)):
        together, _ = draw(logits, keys, sampling, 7)
        alone = [draw(logits[i : i + 1], keys[i : i + 1], sampling, 7)[0].item() for i in range(50)]
        assert together.tolist() == alone


def test_truncation_that_cuts_nothing_changes_nothing():
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    keys = keys_for(50)
    whole, _ = draw(logits, keys, SamplingSettings(top_k=0), 0)
    assert torch.equal(whole, draw(logits, keys, SamplingSettings(top_k=300), 0)[0])
    assert torch.equal(whole, draw(logits, keys, SamplingSettings(top_k=299), 0)[0])


def test_the_hash_by_numpy_is_the_hash_by_torch():
    keys = keys_for(500)
    for ids in (torch.arange(700, dtype=torch.int32)[None], torch.arange(500, dtype=torch.int32)[:, None]):
        before = keys.clone(), ids.clone()
        words = _hash_on_cpu(keys, ids)
        assert words.dtype == torch.int32 and torch.equal(words, _hash(keys, ids))
        assert torch.equal(keys, before[0]) and torch.equal(ids, before[1])


@pytest.mark.parametrize("loudness", [6.0, 20.0, 200.0])
def test_drawing_among_likely_columns_alone_is_the_same_draw(loudness):
    logits = loudness * torch.randn(400, 300, generator=torch.Generator().manual_seed(1))
    keys, top = keys_for(400), logits.amax(-1, keepdim=True)
    among_all = _among_all(logits, keys, 520)
    likely = _among_likely(logits, top, keys, 520)
    if loudness < 10:  # too many to be worth it
        assert likely is None
        likely, _ = draw(logits, keys, SamplingSettings(top_k=0), 520)
        likely = likely - 520
    assert torch.equal(likely, among_all)
    assert len((among_all != logits.argmax(-1)).nonzero())  # noise did decide


def test_no_noise_lies_outside_the_spread():
    """The extreme words give the extreme noise: 0 the largest, all ones the smallest."""

    def noise_of(word):  # what `gumbel_noise` makes of 32 bits
        uniform = min(word * 2.0**-32 + 2.0**-33, 1.0 - 2.0**-24)
        return -np.log(-np.log1p(-uniform))

    assert noise_of(0) - noise_of(2**32 - 1) < 26.0 - 0.2
    many = gumbel_noise(keys_for(2000), torch.arange(2000, dtype=torch.int32)[None])
    assert noise_of(2**32 - 1) - 1e-5 <= many.min() and many.max() <= noise_of(0) + 1e-5


def test_a_column_at_the_edge_can_still_win():
    """Two columns as far apart as noise can bridge: the second wins where its noise is large enough."""
    keys, gap = keys_for(4000), 7.0
    logits = torch.full((4000, 64), -1e3)
    logits[:, 5], logits[:, 40] = 0.0, -gap
    ids, _ = draw(logits, keys, SamplingSettings(top_k=0), 0)
    assert torch.equal(ids, _among_all(logits, keys, 0)) and set(ids.tolist()) == {5, 40}


def test_equal_scores_go_to_the_first_column():
    logits = torch.full((3, 8), float("-inf"))
    logits[:, [2, 6]] = 1e9  # so large that noise is rounded away
    picked = _among_likely(logits, logits.amax(-1, keepdim=True), keys_for(3), 0)
    assert picked.tolist() == [2, 2, 2]


def test_a_row_of_nan_ends_as_it_always_did():
    logits = 100 * torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    logits[1] = float("nan")
    keys = keys_for(3)
    ids, _ = draw(logits, keys, SamplingSettings(top_k=0), 0)
    assert torch.equal(ids, _among_all(logits, keys, 0))


@pytest.mark.parametrize("loudness", [0.1, 5.0, 50.0, 1000.0])
def test_log_sum_exp_is_torch_s(loudness):
    logits = loudness * torch.randn(50, 2048, generator=torch.Generator().manual_seed(2))
    logits[:, 7] = float("-inf")
    found = log_sum_exp(logits, logits.amax(-1, keepdim=True))
    torch.testing.assert_close(found, logits.logsumexp(-1), rtol=1e-6, atol=1e-6)
    exact = logits.double().logsumexp(-1)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-6)
