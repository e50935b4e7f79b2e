"""The codebook's moving averages, by hand and by what they must achieve."""

from __future__ import annotations

import torch

from earl.training.tokenizer.codebook import EMACodebook


def test_one_update_by_hand():
    """Two codes, decay 0.9: use and sums move a tenth of the way to the batch's."""
    book = EMACodebook(2, 1, decay=0.9, reseed_every=0)
    book.use_K.copy_(torch.tensor([10.0, 10.0]))
    book.codes_KD.copy_(torch.tensor([[1.0], [5.0]]))
    book.sums_KD.copy_(torch.tensor([[10.0], [50.0]]))
    book.update(torch.tensor([0, 0, 0, 1]), torch.tensor([[2.0], [3.0], [4.0], [6.0]]))
    # code 0: use 9 + 0.3 = 9.3, sum 9 + 0.9 = 9.9; code 1: use 9 + 0.1 = 9.1, sum 45 + 0.6 = 45.6
    torch.testing.assert_close(book.use_K, torch.tensor([9.3, 9.1]))
    torch.testing.assert_close(book.codes_KD, torch.tensor([[9.9 / 9.3], [45.6 / 9.1]]))


def test_a_code_that_nothing_chooses_stays_where_it_is():
    book = EMACodebook(2, 2, reseed_every=0)
    book.use_K.fill_(4.0)
    book.codes_KD.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    book.sums_KD.copy_(book.codes_KD * 4)
    book.update(torch.zeros(8, dtype=torch.int64), torch.ones(8, 2))
    torch.testing.assert_close(book.codes_KD[1], torch.tensor([3.0, 4.0]))
    assert book.codes_KD[0, 0] == 1.0 and book.codes_KD[0, 1] < 2.0


def clouds(count: int, *, seed: int = 0) -> torch.Tensor:
    """Points around the corners of a square, in equal numbers."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]]).repeat(count // 4, 1)
    return corners + 0.1 * torch.randn(corners.shape, generator=generator)


def test_the_start_finds_the_clouds():
    book = EMACodebook(8, 2)
    assert not book.started
    book.remember(clouds(400))
    book.start()
    points = clouds(100, seed=1)
    distance = torch.cdist(points, book.codes_KD).min(dim=1).values
    assert book.started and distance.max() < 1.0


def alive(book: EMACodebook) -> int:
    return int((book.use_K >= book.reseed_below * book.use_K.mean()).sum())


def test_dead_codes_move_to_where_latents_are():
    book = EMACodebook(8, 2, reseed_below=0.1, reseed_every=1, decay=0.5)
    book.remember(clouds(128))
    book.codes_KD.copy_(torch.full((8, 2), 1e3))
    book.codes_KD[0] = 4.5
    book.use_K.copy_(torch.tensor([16.0] + [1e-3] * 7))
    book.sums_KD.copy_(book.codes_KD * book.use_K[:, None])
    assert alive(book) == 1
    assert book.reseed() == 7
    assert alive(book) == 8 and book.codes_KD.max() < 11
    assert book.reseed() == 0


def test_the_store_is_a_ring():
    book = EMACodebook(2, 1, store=2)  # four rows
    book.remember(torch.tensor([[1.0], [2.0], [3.0]]))
    assert int(book.counters[3]) == 3
    book.remember(torch.tensor([[4.0], [5.0]]))
    assert sorted(book.recent_ND.flatten().tolist()) == [2.0, 3.0, 4.0, 5.0]
    book.remember(torch.arange(10.0)[:, None])
    assert sorted(book.recent_ND.flatten().tolist()) == [6.0, 7.0, 8.0, 9.0]


def test_the_global_random_state_is_left_alone():
    book = EMACodebook(4, 2)
    book.remember(clouds(40))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    book.start()
    assert torch.equal(torch.get_rng_state(), before)
