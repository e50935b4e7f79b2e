"""Guesses from a draft: fewer steps, and every completion as it is without them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from plain_engine import complete

from earl.config import SamplingSettings
from earl.errors import SequenceError
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sequence.layout import parse_completion

SAMPLINGS = [
    SamplingSettings(greedy=True),
    SamplingSettings(temperature=0.8),
    SamplingSettings(top_k=5, top_p=0.7),
]


def requests_for(prompt_of):
    """Grids, groups, prefills of every kind; in two of them the model writes text first."""
    return [
        Request(prompt_of(0), (3, 4), Grid(5, 6), negative_prompt=prompt_of(1)),
        Request(prompt_of(1), (3,), Grid(2, 9), negative_prompt=prompt_of(2)),
        Request(prompt_of(2), (9, 2**62), Grid(1, 1), negative_prompt=prompt_of(0)),
        Request(prompt_of(3, Grid(1, 2)), (0,), Grid(7, 1), negative_prompt=prompt_of(4)),
        Request(prompt_of(4), (7, 8), Grid(4, 4), "direct", negative_prompt=prompt_of(3)),
        Request(prompt_of(6), (5, 6), Grid(3, 5), "reasoning", 12, negative_prompt=prompt_of(5)),
        Request(prompt_of(7), (5,), None, "free", 9, negative_prompt=prompt_of(6)),
    ]


def drafted(requests, found, tokenizer, share_right, rng):
    """The requests with drafts of which so many cells are what the first completion holds."""
    made = []
    for request, completions in zip(requests, found, strict=True):
        codes = parse_completion(completions[0].ids, tokenizer).codes
        if codes is None:
            draft = tuple(range(9))
        else:
            cells = codes.ravel()
            wrong = (cells + rng.integers(1, 64, cells.size)) % 64
            draft = tuple(np.where(rng.random(cells.size) < share_right, cells, wrong).tolist())
        made.append(replace(request, draft=draft))
    return made


def check_same(found, wanted):
    for group, others in zip(found, wanted, strict=True):
        for completion, other in zip(group, others, strict=True):
            assert completion.ids == other.ids
            assert completion.finish_reason == other.finish_reason and completion.seed == other.seed
            assert np.allclose(completion.logprobs, other.logprobs, atol=2e-4)


@pytest.mark.parametrize("share_right", [1.0, 0.8, 0.3, 0.0])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_drafts_right_and_wrong_change_no_completion(policy, tokenizer, prompt_of, sampling, share_right):
    requests = requests_for(prompt_of)
    wanted = NativeEngine(policy, tokenizer).generate(requests, sampling)
    drafts = drafted(requests, wanted, tokenizer, share_right, np.random.default_rng(0))
    for options in (
        {"step_tokens": 1000},
        {"step_tokens": 16},
        {"step_tokens": 16, "max_batch": 1},
        {"step_tokens": 64, "padded": True, "max_batch": 6},
    ):
        check_same(NativeEngine(policy, tokenizer, **options).generate(drafts, sampling), wanted)


@pytest.mark.parametrize("share_right", [1.0, 0.5])
def test_drafts_under_guidance(policy, tokenizer, prompt_of, share_right):
    sampling, requests = SamplingSettings(temperature=0.7, guidance=2.0), requests_for(prompt_of)
    wanted = NativeEngine(policy, tokenizer).generate(requests, sampling)
    drafts = drafted(requests, wanted, tokenizer, share_right, np.random.default_rng(1))
    for options in ({"step_tokens": 200}, {"step_tokens": 64, "padded": True}):
        check_same(NativeEngine(policy, tokenizer, **options).generate(drafts, sampling), wanted)


def test_equal_to_the_plain_twin(policy, tokenizer, prompt_of):
    sampling, request = SAMPLINGS[1], Request(prompt_of(0), (3, 4), Grid(5, 6))
    wanted = [complete(policy, tokenizer, request, seed, sampling) for seed in request.seeds]
    drafts = drafted([request], [wanted], tokenizer, 0.7, np.random.default_rng(2))
    check_same(NativeEngine(policy, tokenizer, step_tokens=40).generate(drafts, sampling), [wanted])


def steps_of(engine, requests, sampling):
    before = engine.steps
    engine.generate(requests, sampling)
    return engine.steps - before


def test_right_guesses_save_steps_and_wrong_ones_cost_none(policy, tokenizer, prompt_of):
    greedy, request = SAMPLINGS[0], Request(prompt_of(0), (1,), Grid(8, 8))
    engine = NativeEngine(policy, tokenizer, step_tokens=16)
    found = engine.generate([request], greedy)
    cells = 63  # the first id is drawn from the prompt itself
    assert steps_of(engine, [request], greedy) == cells
    [right] = drafted([request], found, tokenizer, 1.0, np.random.default_rng(3))
    [wrong] = drafted([request], found, tokenizer, 0.0, np.random.default_rng(3))
    # 64 cells: one from the prompt, 4 guesses and the next, and from then on as 16 ids, ends of rows among
    # them, allow: 13 or 14 guesses and the next.
    assert steps_of(engine, [right], greedy) <= 7
    assert steps_of(engine, [wrong], greedy) == cells
    assert steps_of(NativeEngine(policy, tokenizer, step_tokens=0), [right], greedy) == cells


def test_in_a_crowd_each_guesses_a_few(policy, tokenizer, prompt_of):
    """Where more samples are in progress than a step has room for, each guesses a sixth of that room."""
    greedy, request = SAMPLINGS[0], Request(prompt_of(0), tuple(range(9)), Grid(3, 3))
    engine = NativeEngine(policy, tokenizer, step_tokens=16)
    right = drafted([request], engine.generate([request], greedy), tokenizer, 1.0, np.random.default_rng(4))
    assert steps_of(NativeEngine(policy, tokenizer, step_tokens=5), right, greedy) == 8
    assert steps_of(engine, right, greedy) == 3
    assert steps_of(NativeEngine(policy, tokenizer, step_tokens=90), right, greedy) == 2


def test_a_crowd_with_guesses_feeds_few_numbers_of_rows(policy, tokenizer, prompt_of):
    """Each number of rows has compiled products of its own, which oneDNN keeps."""
    requests = [Request(prompt_of(0), (seed,), Grid(6, 6)) for seed in range(20)]
    engine = NativeEngine(policy, tokenizer, step_tokens=24)
    found = engine.generate(requests, SAMPLINGS[0])
    decoder = engine.current_decoder()
    mlp, fed = decoder.mlp, []
    decoder.mlp = lambda x, layer: fed.append(len(x)) or mlp(x, layer)
    drafts = drafted(requests, found, tokenizer, 0.5, np.random.default_rng(5))
    check_same(engine.generate(drafts, SAMPLINGS[0]), found)
    many = {rows for rows in fed[len(decoder.weights.layers) :] if rows > 32}  # the first are of prompts
    assert len(many) > 1 and all(rows % 32 == 0 for rows in many)


@pytest.mark.parametrize("padded", [False, True])
def test_the_models_last_position_ends_a_completion_in_the_midst_of_right_guesses(
    policy, tokenizer, prompt_of, padded
):
    request = Request(prompt_of(0), (1,), Grid(6, 6), "direct")
    engine = NativeEngine(policy, tokenizer, step_tokens=40, padded=padded)
    drafts = drafted([request], engine.generate([request]), tokenizer, 1.0, np.random.default_rng(6))
    engine.max_positions = len(request.prompt) + 27
    found, wanted = engine.generate(drafts), engine.generate([request])
    check_same(found, wanted)
    assert found[0][0].finish_reason == "length" and len(found[0][0].ids) <= 28


def test_rows_are_reported_once_and_in_order(policy, tokenizer, prompt_of):
    rows, request = [], Request(prompt_of(0), (1, 2), Grid(6, 4))
    engine = NativeEngine(policy, tokenizer, step_tokens=100)
    drafts = drafted([request], engine.generate([request]), tokenizer, 0.9, np.random.default_rng(5))
    [found] = engine.generate(drafts, None, lambda *row: rows.append(row))
    for sample in (0, 1):
        mine = [(at, codes) for index, at, codes in rows if index == sample]
        assert [at for at, _ in mine] == list(range(6))
        codes = parse_completion(found[sample].ids, tokenizer).codes
        assert np.array_equal(np.stack([codes for _, codes in mine]), codes)


def test_a_negative_number_of_ids_is_refused(policy, tokenizer):
    with pytest.raises(SequenceError, match="step_tokens must be at least 0, got -1"):
        NativeEngine(policy, tokenizer, step_tokens=-1)
