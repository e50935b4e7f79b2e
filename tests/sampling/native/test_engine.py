import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from plain_engine import complete

from earl.config import SamplingSettings
from earl.errors import ConfigError, ModelFormatError, SequenceError
from earl.policy.adapters import add_lora
from earl.policy.likelihood import Scoring, token_scores
from earl.policy.loading import create_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.engine import NativeEngine
from earl.sequence.kinds import completion_kinds
from earl.sequence.layout import parse_completion, write_completion

GREEDY = SamplingSettings(greedy=True)
SAMPLED = SamplingSettings(temperature=0.8)


def check_equal(found, wanted):
    assert found.ids == wanted.ids
    assert found.finish_reason == wanted.finish_reason and found.seed == wanted.seed
    assert np.allclose(found.logprobs, wanted.logprobs, atol=2e-4)


def mixed_requests(prompt_of):
    """Other prompts, prompt lengths, group sizes, grids (1x1 and one column among them), prefills."""
    return [
        Request(prompt_of(0), (3, 4, 5), Grid(3, 4)),
        Request(prompt_of(1, Grid(4, 5)), (3,), Grid(2, 6)),
        Request(prompt_of(2), (9, 2**62), Grid(1, 1)),
        Request(prompt_of(3, Grid(1, 2)), (0,), Grid(4, 1)),
        Request(prompt_of(4), (7, 8), Grid(2, 2), "direct"),
        Request(prompt_of(5), (1, 2), None, "direct"),
        Request(prompt_of(6), (5, 6), Grid(2, 3), "reasoning", 12),
        Request(prompt_of(7), (5,), None, "free", 9),
    ]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, SamplingSettings(top_k=5, top_p=0.7)])
@pytest.mark.parametrize("max_batch", [64, 5, 1])
def test_equal_to_the_plain_twin_in_any_batch(policy, tokenizer, prompt_of, sampling, max_batch):
    requests = mixed_requests(prompt_of)
    found = NativeEngine(policy, tokenizer, max_batch=max_batch).generate(requests, sampling)
    for request, completions in zip(requests, found, strict=True):
        for seed, completion in zip(request.seeds, completions, strict=True):
            check_equal(completion, complete(policy, tokenizer, request, seed, sampling))


def test_fixed_shapes_as_on_a_gpu_give_the_same(policy, tokenizer, prompt_of):
    requests = mixed_requests(prompt_of)
    wanted = NativeEngine(policy, tokenizer).generate(requests, SAMPLED)
    found = NativeEngine(policy, tokenizer, padded=True, max_batch=16).generate(requests, SAMPLED)
    assert [[c.ids for c in group] for group in found] == [[c.ids for c in group] for group in wanted]


def test_text_modes_are_really_exercised(policy, tokenizer, prompt_of):
    """The mixed requests above end both ways, and one model-written size is read."""
    found = NativeEngine(policy, tokenizer).generate(mixed_requests(prompt_of), SAMPLED)
    reasons = {completion.finish_reason for completions in found[5:] for completion in completions}
    assert reasons == {"stop", "length"}


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 1},
        {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "rope_theta": 100.0},
        {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 3, "tie_word_embeddings": True},
    ],
)
def test_random_small_configurations(tokenizer, prompt_of, shape):
    keys = {"num_hidden_layers": 2, "intermediate_size": 72, "rms_norm_eps": 1e-3, **shape}
    model = create_policy(keys, tokenizer.vocabulary, seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    requests = [Request(prompt_of(n), (n, n + 1), Grid(2, 3)) for n in range(3)]
    found = NativeEngine(model, tokenizer).generate(requests, GREEDY)
    for request, completions in zip(requests, found, strict=True):
        for seed, completion in zip(request.seeds, completions, strict=True):
            check_equal(completion, complete(model, tokenizer, request, seed, GREEDY))


def test_a_size_that_the_model_writes_itself(tokenizer, prompt_of):
    """A model taught by heart: it thinks, opens the image, writes "2*3", and paints it."""
    model = create_policy("tiny", tokenizer.vocabulary, seed=0)
    codes = np.arange(6).reshape(2, 3) * 7
    prompt = prompt_of(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    lessons = [torch.tensor([[*prompt, *write_completion(codes, tokenizer, said)]]) for said in (None, "so")]
    for _ in range(60):
        loss = sum(model(input_ids=ids, labels=ids).loss for ids in lessons)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    requests = [Request(prompt, (1, 2), None, prefill, 30) for prefill in ("direct", "reasoning", "free")]
    rows = []
    found = NativeEngine(model, tokenizer).generate(requests, GREEDY, lambda *row: rows.append(row))
    for request, completions in zip(requests, found, strict=True):
        for completion in completions:
            check_equal(completion, complete(model, tokenizer, request, completion.seed, GREEDY))
            assert np.array_equal(parse_completion(completion.ids, tokenizer).codes, codes)
    assert len(rows) == 12 and all(np.array_equal(row, codes[at]) for _, at, row in rows)


def test_same_seed_same_image_whatever_else_is_asked(policy, tokenizer, prompt_of):
    engine = NativeEngine(policy, tokenizer)
    wanted = Request(prompt_of(1), (11,), Grid(5, 5))
    alone = engine.generate([wanted])[0][0]
    crowd = [Request(prompt_of(n, Grid(1 + n % 4, 2)), (n, 11), Grid(1 + n % 6, 5)) for n in range(2, 12)]
    among = engine.generate([*crowd, Request(prompt_of(1), (1, 2, 11), Grid(5, 5))])[-1]
    assert among[2].ids == alone.ids and among[0].ids != alone.ids
    assert engine.generate([wanted])[0][0] == alone


def test_logprobs_are_those_that_training_scores(policy, tokenizer, prompt_of):
    vocabulary = tokenizer.vocabulary
    for prefill in ("size", "direct", "reasoning"):
        request = Request(prompt_of(2), (1, 2, 3), Grid(3, 3), prefill, 20)
        sampling = SamplingSettings(temperature=0.7, top_k=9)
        for completion in NativeEngine(policy, tokenizer).generate([request], sampling)[0]:
            if completion.finish_reason == "length":
                continue
            ids = torch.tensor([[*request.prompt, *completion.ids]])
            kinds = completion_kinds(completion.ids, tokenizer, prefill)
            given = np.asarray(completion.logprobs) == 0.0
            if prefill == "size":
                assert (kinds[given] == 0).all() and (kinds[~given] != 0).all()
            kinds = np.where(given, 0, kinds)  # a grid that was given is forced in any prefill
            padded = torch.tensor([[0] * len(request.prompt) + kinds.tolist()])
            scored = token_scores(
                policy, ids, torch.ones_like(ids), padded, vocabulary, Scoring(0.7)
            ).logprobs_BT
            assert np.allclose(scored[0, len(request.prompt) :].detach(), completion.logprobs, atol=2e-4)


def test_rows_come_in_order_and_add_up_to_the_image(policy, tokenizer, prompt_of):
    rows, ended = {}, {}

    def on_row(sample, row, codes):
        assert sample not in ended and codes.dtype == np.int32
        assert row == len(rows.setdefault(sample, []))
        rows[sample].append(codes)

    requests = [Request(prompt_of(0), (1, 2), Grid(3, 4)), Request(prompt_of(1), (3,), Grid(1, 1))]
    requests.append(Request(prompt_of(2), (3,), Grid(2, 2), "direct"))
    found = NativeEngine(policy, tokenizer).generate(requests, SAMPLED, on_row, ended.__setitem__)
    flat = [completion for completions in found for completion in completions]
    assert [ended[index] for index in range(4)] == flat
    for index, completion in enumerate(flat):
        parsed = parse_completion(completion.ids, tokenizer)
        assert parsed.problem is None
        assert np.array_equal(np.stack(rows[index]), parsed.codes)


def test_new_weights_are_seen_at_the_next_call(tokenizer, prompt_of):
    model = create_policy("tiny", tokenizer.vocabulary, seed=1)
    engine = NativeEngine(model, tokenizer)
    request = Request(prompt_of(0), (1,), Grid(4, 4))
    before = engine.generate([request])[0][0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(3)
    after = engine.generate([request])[0][0]
    assert after != before
    check_equal(after, complete(model, tokenizer, request, 1, SamplingSettings()))


def test_lora_is_sampled_with_and_without_its_update(tokenizer, prompt_of):
    base = create_policy("tiny", tokenizer.vocabulary, seed=1)
    request = Request(prompt_of(0), (1,), Grid(4, 4))
    plain = NativeEngine(base, tokenizer).generate([request], GREEDY)[0][0]
    model = add_lora(base, 4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    adapted = NativeEngine(model, tokenizer).generate([request], GREEDY)[0][0]
    check_equal(adapted, complete(model, tokenizer, request, 1, GREEDY))
    assert adapted.ids != plain.ids
    with model.disable_adapter():
        assert NativeEngine(model, tokenizer).generate([request], GREEDY)[0][0].ids == plain.ids


def test_bfloat16_follows_the_grammar_and_stays_close(policy, tokenizer, prompt_of):
    request = Request(prompt_of(0), tuple(range(8)), Grid(3, 3))
    found = NativeEngine(policy, tokenizer, dtype=torch.bfloat16).generate([request])[0]
    exact = NativeEngine(policy, tokenizer).generate([request])[0]
    assert all(parse_completion(completion.ids, tokenizer).problem is None for completion in found)
    agreed = sum(
        a == b for f, e in zip(found, exact, strict=True) for a, b in zip(f.ids[6:9], e.ids[6:9], strict=True)
    )
    assert agreed > 12  # of 24; chance would give none


def test_mistakes_are_said(policy, tokenizer, prompt_of):
    engine = NativeEngine(policy, tokenizer)
    assert engine.generate([]) == []
    with pytest.raises(SequenceError, match="positions"):
        engine.generate([Request(prompt_of(0), (1,), Grid(100, 100))])
    with pytest.raises(SequenceError, match="outside"):
        engine.generate([Request((10**6,), (1,), Grid(1, 1))])
    with pytest.raises(SequenceError, match="seed"):
        Request(prompt_of(0), ())
    with pytest.raises(SequenceError, match="seed"):
        Request(prompt_of(0), (-1,))
    with pytest.raises(SequenceError, match="prompt"):
        Request((), (1,))
    for wrong in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(ConfigError):
            SamplingSettings(**wrong)
    with pytest.raises(ModelFormatError, match="not of one model"):
        NativeEngine(create_policy("tiny", type(tokenizer.vocabulary).compact(100, 8), 0), tokenizer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("padded", [False, True])
def test_cuda_gives_the_same_greedy_completions(policy, tokenizer, prompt_of, padded):
    import copy

    requests = mixed_requests(prompt_of)
    wanted = NativeEngine(policy, tokenizer).generate(requests, GREEDY)
    on_gpu = copy.deepcopy(policy).cuda()
    engine = NativeEngine(on_gpu, tokenizer, padded=padded)
    for _ in range(2):
        found = engine.generate(requests, GREEDY)
        assert [[c.ids for c in group] for group in found] == [[c.ids for c in group] for group in wanted]


def test_a_frozen_engine_reads_the_weights_once(policy, tokenizer, prompt_of, monkeypatch):
    refreshed = []
    monkeypatch.setattr(Decoder, "refresh", lambda self: refreshed.append(self))
    request = Request(prompt_of(0), (1,), Grid(4, 4))
    for frozen, times in ((True, 0), (False, 2)):
        engine = NativeEngine(policy, tokenizer, frozen=frozen)
        found = [engine.generate([request])[0][0] for _ in range(3)]
        assert found[0] == found[1] == found[2] and len(refreshed) == times
