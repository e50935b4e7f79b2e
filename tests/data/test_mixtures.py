"""Mixtures of sources and streams of batches."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from earl.config.sections import BatchSizes
from earl.data.collate import collate
from earl.data.examples import Example
from earl.data.mixture import Mixture
from earl.data.stream import TokenStream
from earl.errors import ConfigError, DataError


def test_mixture_follows_weights_and_repeats_nothing_early() -> None:
    mixture = Mixture({"s": 100, "c": 10, "off": 5}, {"s": 1.0, "c": 5.0, "off": 0.0}, seed=3)
    assert mixture.epoch_size == 150
    drawn = [next(mixture) for _ in range(3000)]
    counts = Counter(name for name, _ in drawn)
    assert set(counts) == {"s", "c"} and abs(counts["c"] - 1000) < 4 * np.sqrt(3000 * 2 / 9)
    first_hundred = [index for name, index in drawn if name == "s"][:100]
    assert sorted(first_hundred) == list(range(100)) and first_hundred != list(range(100))


def test_mixture_resumes_at_every_draw() -> None:
    sizes, weights = {"s": 7, "c": 3}, {"s": 1.0, "c": 2.0}
    whole = Mixture(sizes, weights, seed=1)
    drawn = [next(whole) for _ in range(60)]
    for cut in (0, 1, 7, 20, 59):
        part = Mixture(sizes, weights, seed=1)
        for _ in range(cut):
            next(part)
        state = json.loads(json.dumps(part.state_dict()))
        resumed = Mixture(sizes, weights, seed=1)
        resumed.load_state_dict(state)
        assert [next(resumed) for _ in range(60 - cut)] == drawn[cut:]
    other = Mixture({"s": 8, "c": 3}, weights, seed=1)
    with pytest.raises(DataError, match="'s': 7"):
        other.load_state_dict(state)
    with pytest.raises(DataError, match="nothing to draw"):
        Mixture({"s": 7}, {"s": 0.0}, seed=1)


def plain(name: str, index: int) -> list[Example]:
    length = 3 + (index * 7) % 11
    return [Example(np.full(length, index, np.int32), np.ones(length, np.int8), np.zeros(length, bool))]


def stream(**settings: Any) -> TokenStream:
    mixture = Mixture({"a": 50}, {"a": 1.0}, seed=2)
    sizes = BatchSizes(global_size=8, micro_size=2)
    return TokenStream(mixture, plain, sizes, pad=0, seed=4, **{"pool": 3, **settings})


def rows(batches: list) -> list[list[int]]:
    return [row for batch in batches for row in batch.ids_BT.tolist()]


def test_stream_resumes_in_the_middle_and_at_the_end_of_a_pool() -> None:
    whole = stream()
    wanted = [rows(next(whole)) for _ in range(10)]
    for cut in range(8):
        part = stream()
        for _ in range(cut):
            next(part)
        resumed = stream()
        resumed.load_state_dict(json.loads(json.dumps(part.state_dict())))
        assert [rows(next(resumed)) for _ in range(10 - cut)] == wanted[cut:], cut


def test_ranks_share_the_updates_out() -> None:
    one, two = stream(), [stream(rank=(rank, 2)) for rank in (0, 1)]
    for _ in range(7):
        alone = next(one)
        parts = [next(rank) for rank in two]
        together = [batch for pair in zip(*parts, strict=True) for batch in pair]
        assert rows(together) == rows(alone)
        assert sum(batch.active for batch in together) == sum(batch.active for batch in alone)


def test_buckets_are_of_like_length() -> None:
    unsorted = stream(pool=1)
    bucketed = stream(pool=12)
    waste = [
        np.mean([1 - b.mask_BT.float().mean().item() for _ in range(24) for b in next(s)])
        for s in (unsorted, bucketed)
    ]
    assert waste[1] < waste[0] / 2


def test_stream_refuses_what_does_not_divide_or_fit() -> None:
    with pytest.raises(ConfigError, match=r"batch\.global_size = 8.*batch\.micro_size x ranks = 2 x 3"):
        stream(rank=(0, 3))
    with pytest.raises(DataError, match=r"longer than 2 tokens, which is data\.max_tokens"):
        next(stream(max_tokens=2))
    longest = stream(max_tokens=6)
    assert max(len(row) for _ in range(5) for row in rows(next(longest))) <= 6 and longest.skipped > 0
    resumed = stream(max_tokens=6)
    resumed.load_state_dict(json.loads(json.dumps(longest.state_dict())))
    assert resumed.skipped == longest.skipped, "counted once"


def test_batches_move_whole() -> None:
    batch = collate([plain("a", 1), plain("a", 2)], pad=0)
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.ids_BT.device.type == "meta" and moved.active == batch.active
