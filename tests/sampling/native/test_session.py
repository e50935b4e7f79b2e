"""Continuous batching: a request's completions are those that it has alone, whatever the company."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from earl.config import SamplingSettings
from earl.errors import ConfigError
from earl.policy.loading import create_policy
from earl.records import Grid
from earl.sampling.native.engine import NativeEngine
from earl.sampling.protocol import Request
from earl.sequence.layout import parse_completion, write_prompt
from earl.sequence.trained import train_text_tokenizer

CODES = 64
WORDS = ["make the red cube blue", "add a cone", "remove the sphere", "make it night and the cube small"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_text_tokenizer(WORDS, size=320, codebook_size=CODES)


@pytest.fixture(scope="module")
def policy(tokenizer):
    return create_policy("tiny", tokenizer.vocabulary, seed=3).float()


def make_request(tokenizer, rng, guided):
    grid = Grid(rng.randint(2, 5), rng.randint(2, 5))
    codes = np.array([[rng.randrange(CODES) for _ in range(grid.width)] for _ in range(grid.height)])
    cells = tuple(codes.ravel().tolist())
    given = tuple(code if rng.random() < 0.5 else -1 for code in cells) if rng.random() < 0.3 else None
    return Request(
        prompt=tuple(write_prompt(codes, rng.choice(WORDS), tokenizer)),
        seeds=tuple(rng.randrange(2**40) for _ in range(rng.randint(1, 3))),
        grid=grid,
        negative_prompt=tuple(write_prompt(codes, "keep it", tokenizer)) if guided else None,
        draft=cells if rng.random() < 0.5 else None,
        given=given,
    )


def make_sampling(rng):
    guided = rng.random() < 0.3
    return SamplingSettings(
        temperature=rng.choice([0.5, 1.0]),
        top_k=rng.choice([0, 8]),
        greedy=rng.random() < 0.2,
        guidance=2.0 if guided else 1.0,
    )


@pytest.mark.parametrize("seed", range(6))
def test_random_arrivals_and_cancels_change_no_completion(policy, tokenizer, seed):
    rng = random.Random(seed)
    engine = NativeEngine(policy, tokenizer, dtype=torch.float32, padded=bool(seed % 2))
    session = engine.open_session()
    jobs = []
    for _ in range(10):
        sampling = make_sampling(rng)
        jobs.append((make_request(tokenizer, rng, sampling.guided), sampling))
    made = [{} for _ in jobs]
    rows = [[] for _ in jobs]
    tickets, cancelled, waiting = {}, set(), list(range(len(jobs)))
    left = True
    while waiting or left:
        while waiting and rng.random() < 0.4:
            job = waiting.pop(0)
            request, sampling = jobs[job]
            tickets[job] = session.insert(
                request,
                sampling,
                lambda index, row, codes, job=job: rows[job].append((index, row)),
                made[job].__setitem__,
            )
        if tickets and rng.random() < 0.1:
            job = rng.choice(list(tickets))
            if len(made[job]) < len(jobs[job][0].seeds):
                cancelled.add(job)
            session.remove(tickets[job])
        left = session.step()
    assert cancelled != set(range(len(jobs)))
    alone = NativeEngine(policy, tokenizer, dtype=torch.float32)
    for job, (request, sampling) in enumerate(jobs):
        expected = alone.generate([request], sampling)[0]
        for index, completion in made[job].items():
            assert completion.ids == expected[index].ids
            np.testing.assert_allclose(completion.logprobs, expected[index].logprobs, atol=2e-4)
        if job not in cancelled:
            assert sorted(made[job]) == list(range(len(request.seeds)))
            assert len(rows[job]) == len(request.seeds) * request.grid.height
    assert session.room == engine.max_batch and not session.step()


def test_given_codes_are_kept_and_cost_no_draw(policy, tokenizer):
    rng = random.Random(1)
    grid = Grid(4, 5)
    codes = np.array([[rng.randrange(CODES) for _ in range(5)] for _ in range(4)])
    prompt = tuple(write_prompt(codes, WORDS[0], tokenizer))
    given = tuple(-1 if 6 <= cell < 9 else code for cell, code in enumerate(codes.ravel().tolist()))
    engine = NativeEngine(policy, tokenizer, dtype=torch.float32)
    ((completion,),) = engine.generate([Request(prompt, (5,), grid, given=given)])
    made = parse_completion(completion.ids, tokenizer).codes.ravel()
    kept = [cell for cell in range(20) if not 6 <= cell < 9]
    assert made[kept].tolist() == codes.ravel()[kept].tolist()
    assert sum(logprob != 0 for logprob in completion.logprobs) <= 3
    assert engine.steps <= 4


def test_there_is_no_room_for_more_than_the_batch_holds(policy, tokenizer):
    rng = random.Random(2)
    engine = NativeEngine(policy, tokenizer, max_batch=2)
    session = engine.open_session()
    request = make_request(tokenizer, rng, guided=False)
    session.insert(Request(request.prompt, (1, 2), request.grid), SamplingSettings())
    assert session.room == 0
    with pytest.raises(ConfigError, match="room for 0"):
        session.insert(Request(request.prompt, (3,), request.grid), SamplingSettings())
