"""Guidance away from a second prompt: equal to two plain forward passes at each id, and to transformers'."""

import copy
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import UnbatchedClassifierFreeGuidanceLogitsProcessor as TheirGuidance

sys.path.insert(0, str(Path(__file__).parent))
from plain_engine import complete

from earl.config import SamplingSettings
from earl.errors import ConfigError, SequenceError
from earl.policy.loading import create_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native import batch as batch_module
from earl.sampling.native.draw import guide
from earl.sampling.native.engine import NativeEngine
from earl.sequence.grammar import Grammar

GREEDY = SamplingSettings(greedy=True, guidance=1.5)


@pytest.fixture(scope="module")
def quiet(tokenizer):
    """Random weights as they are made, in sums of which float32 keeps more than five decimals."""
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    return create_policy(shape, tokenizer.vocabulary, seed=3)


def mixed_requests(prompt_of):
    """Twins with shorter and longer prompts than the samples', of other grids, seeds and prefills."""
    return [
        Request(prompt_of(0), (3, 4, 5), Grid(3, 4), negative_prompt=prompt_of(3)),
        Request(prompt_of(3, Grid(4, 5)), (3,), Grid(2, 6), negative_prompt=prompt_of(0, Grid(4, 5))),
        Request(prompt_of(2), (9, 2**62), Grid(1, 1), negative_prompt=prompt_of(2, Grid(1, 2))),
        Request(prompt_of(4), (7, 8), Grid(2, 2), "direct", negative_prompt=prompt_of(5)),
        Request(prompt_of(6), (5, 6), Grid(2, 3), "reasoning", 12, negative_prompt=prompt_of(7)),
        Request(prompt_of(7), (5,), None, "free", 9, negative_prompt=prompt_of(1)),
    ]


def check(found, model, tokenizer, requests, sampling, tolerance):
    for request, completions in zip(requests, found, strict=True):
        for seed, completion in zip(request.seeds, completions, strict=True):
            wanted = complete(model, tokenizer, request, seed, sampling)
            assert completion.ids == wanted.ids
            assert completion.finish_reason == wanted.finish_reason and completion.seed == seed
            assert np.allclose(completion.logprobs, wanted.logprobs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        SamplingSettings(guidance=1.5),
        SamplingSettings(temperature=0.6, guidance=3.0),
        SamplingSettings(top_k=5, top_p=0.7, guidance=2.0),
    ],
)
@pytest.mark.parametrize(("max_batch", "padded"), [(64, False), (5, False), (2, False), (16, True)])
def test_equal_to_two_plain_passes_in_any_batch(policy, tokenizer, prompt_of, sampling, max_batch, padded):
    requests = mixed_requests(prompt_of)
    engine = NativeEngine(policy, tokenizer, max_batch=max_batch, padded=padded)
    check(engine.generate(requests, sampling), policy, tokenizer, requests, sampling, 1e-3)


@pytest.mark.parametrize("sampling", [GREEDY, SamplingSettings(temperature=0.6, top_k=9, guidance=2.5)])
def test_logprobs_are_those_of_what_is_drawn_from(quiet, tokenizer, prompt_of, sampling):
    requests = mixed_requests(prompt_of)[:3]
    check(
        NativeEngine(quiet, tokenizer).generate(requests, sampling),
        quiet,
        tokenizer,
        requests,
        sampling,
        1e-5,
    )


def test_greedy_is_what_transformers_guidance_gives(policy, tokenizer, prompt_of):
    """Their processor over all columns, called at each id with a model that starts after the other prompt."""
    request = Request(prompt_of(0), (0,), Grid(4, 5), negative_prompt=prompt_of(3))
    vocabulary = tokenizer.vocabulary
    theirs = TheirGuidance(1.5, policy, torch.tensor([request.negative_prompt]), use_cache=False)
    state, ids = Grammar(tokenizer, "size", request.grid).start(), []
    while not state.done:
        so_far = torch.tensor([[*request.prompt, *ids]])
        with torch.no_grad():
            scores = theirs(so_far, policy(input_ids=so_far).logits[:, -1])
        kind, forced = state.allowed
        best = scores[0, vocabulary.first_visual :][: vocabulary.codebook_size].argmax().item()
        ids.append(forced if kind == "forced" else best + vocabulary.first_visual)
        state.advance(ids[-1])
    (completion,), (plain,) = (
        NativeEngine(policy, tokenizer).generate([request], sampling)[0]
        for sampling in (GREEDY, SamplingSettings(greedy=True))
    )
    assert completion.ids == tuple(ids)
    assert completion.ids != plain.ids


def test_guidance_of_one_is_none_bit_for_bit_and_has_no_twins(policy, tokenizer, prompt_of, monkeypatch):
    requests, prefilled = mixed_requests(prompt_of), []
    prefill = batch_module.Decoder.prefill
    monkeypatch.setattr(
        batch_module.Decoder, "prefill", lambda self, ids: prefilled.append(len(ids)) or prefill(self, ids)
    )
    engine = NativeEngine(policy, tokenizer)
    for sampling in (SamplingSettings(), SamplingSettings(greedy=True)):
        wanted = engine.generate([replace(request, negative_prompt=None) for request in requests], sampling)
        assert engine.generate(requests, sampling.replace(guidance=1.0)) == wanted
    assert prefilled == [6] * 4
    engine.generate(requests, GREEDY)  # one prefill of each of its two prompts serves all seeds of a request
    assert prefilled[4:] == [12]


def test_a_prompt_led_away_from_itself_changes_nothing(policy, tokenizer, prompt_of):
    request = Request(prompt_of(1), (1, 2), Grid(3, 3), negative_prompt=prompt_of(1))
    found = NativeEngine(policy, tokenizer).generate([request], SamplingSettings(guidance=7.0))[0]
    plain = NativeEngine(policy, tokenizer).generate([request], SamplingSettings())[0]
    assert [c.ids for c in found] == [c.ids for c in plain]


@pytest.mark.parametrize("max_batch", [2, 3, 7, 64])
def test_twins_count_in_the_batch(policy, tokenizer, prompt_of, monkeypatch, max_batch):
    slots = []

    class Counted(batch_module.Slots):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            slots.append(self.count)

    monkeypatch.setattr(batch_module, "Slots", Counted)
    requests = mixed_requests(prompt_of)[:3]
    rows = []
    engine = NativeEngine(policy, tokenizer, max_batch=max_batch)
    found = engine.generate(requests, SamplingSettings(guidance=1.5), lambda *row: rows.append(row))
    assert [len(group) for group in found] == [3, 1, 2]
    assert len(rows) == 3 * 3 + 2 + 2  # rows of images; a twin reports none
    assert max(slots) <= max_batch and all(count % 2 == 0 for count in slots)


def test_guided_weights_by_hand():
    asked, negative = torch.tensor([[0.6, 0.4]]).log(), torch.tensor([[0.5, 0.5]]).log()
    found = guide(asked + 3.0, negative - 2.0, 2.0).softmax(-1)  # 0.6² / 0.5 to 0.4² / 0.5
    assert torch.allclose(found, torch.tensor([[0.36, 0.16]]) / 0.52)
    assert torch.allclose(guide(asked, negative, 1.0), asked)


def test_mistakes_are_said(policy, tokenizer, prompt_of):
    for wrong in (0.0, 0.99, -2.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="guidance"):
            SamplingSettings(guidance=wrong)
    guided_one = Request(prompt_of(0), (1,), Grid(1, 1), negative_prompt=prompt_of(1))
    plain = replace(guided_one, negative_prompt=None)
    with pytest.raises(ConfigError, match="a request has no negative_prompt"):
        NativeEngine(policy, tokenizer).generate([guided_one, plain], GREEDY)
    with pytest.raises(ConfigError, match="at least 2"):
        NativeEngine(policy, tokenizer, max_batch=1).generate([guided_one], GREEDY)
    with pytest.raises(SequenceError, match="no ids"):
        Request(prompt_of(0), (1,), negative_prompt=())
    with pytest.raises(SequenceError, match="outside"):
        NativeEngine(policy, tokenizer).generate([replace(guided_one, negative_prompt=(10**6,))], GREEDY)
    endless = replace(guided_one, negative_prompt=guided_one.prompt * 2)
    small = NativeEngine(policy, tokenizer)
    small.max_positions = len(endless.negative_prompt)
    with pytest.raises(SequenceError, match="positions"):
        small.generate([endless], GREEDY)
    assert len(small.generate([endless], SamplingSettings())[0]) == 1  # it is not looked at


def test_text_stops_where_the_longer_prompt_ends_the_models_positions(policy, tokenizer, prompt_of):
    engine = NativeEngine(policy, tokenizer)
    engine.max_positions = len(prompt_of(3)) + 6
    request = Request(prompt_of(3)[:9], (1,), None, "free", 40, negative_prompt=prompt_of(3))
    ((cut,),) = engine.generate([request], SamplingSettings(guidance=1.5))
    ((whole,),) = engine.generate([request], SamplingSettings())
    assert cut.finish_reason == "length" and len(cut.ids) == 6
    assert len(whole.ids) > 6 and whole.ids[:6] == cut.ids  # text is drawn without guidance


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("padded", [False, True])
def test_cuda_gives_the_same_guided_completions(policy, tokenizer, prompt_of, padded):
    requests = mixed_requests(prompt_of)
    wanted = NativeEngine(policy, tokenizer).generate(requests, GREEDY)
    engine = NativeEngine(copy.deepcopy(policy).cuda(), tokenizer, padded=padded)
    for _ in range(2):
        found = engine.generate(requests, GREEDY)
        assert [[c.ids for c in group] for group in found] == [[c.ids for c in group] for group in wanted]
