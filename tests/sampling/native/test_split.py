"""A policy over several devices gives what it gives on one; every layer's cache lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from two_devices import TwoDevices, label

from earl.config import SamplingSettings
from earl.errors import ConfigError
from earl.policy.adapters import add_lora, save_adapter
from earl.policy.likelihood import token_logprobs
from earl.policy.loading import create_policy, load_policy
from earl.policy.quantised import quantise
from earl.policy.saving import save_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.engine import NativeEngine
from earl.sampling.native.slots import Slots

ZERO, ONE = torch.device("cpu:0"), torch.device("cpu:1")
IN_ORDER = {"model.embed_tokens": "cpu:0", "model.layers.0": "cpu:0", "": "cpu:1"}
BACK_AND_FORTH = {"model.embed_tokens": "cpu:1", "model.layers.1": "cpu:1", "lm_head": "cpu:1", "": "cpu:0"}


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A policy of three layers with a head of its own, loud enough that choices are clear-cut."""
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
    model = create_policy({**shape, "tie_word_embeddings": False}, tokenizer.vocabulary, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)
    folder = tmp_path_factory.mktemp("split") / "policy"
    save_policy(model, folder)
    return folder


@pytest.fixture
def requests(prompt_of):
    """Groups of other sizes, prompts of other lengths, text and images: every kind of step is taken."""
    return [
        Request(prompt_of(0), (3, 4, 5), Grid(3, 4)),
        Request(prompt_of(1, Grid(4, 5)), (3,), Grid(2, 6)),
        Request(prompt_of(4), (7, 8), Grid(2, 2), "direct"),
        Request(prompt_of(6), (5, 6), Grid(2, 3), "reasoning", 12),
    ]


@pytest.fixture
def two(monkeypatch):
    """Two devices; oneDNN's packed matrices, which labels do not see through, are left out."""
    monkeypatch.setattr("earl.sampling.native.weights.can_pack", lambda dtype: False)
    return TwoDevices()


def test_labels_refuse_what_two_devices_refuse(two):
    with two:
        here, there = torch.ones(2, 2, device="cpu:0"), torch.ones(2, 2, device="cpu:1")
        assert (here.device, (here @ here).device) == (ZERO, ZERO)
        for mixed in (lambda: here @ there, lambda: torch.cat([here, there]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="mixes"):
                mixed()
        assert (here.to("cpu:1") @ there).device == ONE
        assert here.device == ZERO and two.moves == 1


@pytest.mark.parametrize("device_map", [IN_ORDER, BACK_AND_FORTH])
@pytest.mark.parametrize("sampling", [SamplingSettings(greedy=True), SamplingSettings(temperature=0.8)])
def test_sampling_is_the_same(folder, tokenizer, requests, two, device_map, sampling):
    wanted = NativeEngine(load_policy(folder), tokenizer, max_batch=8).generate(requests, sampling)
    with two:
        split = load_policy(folder, device_map=device_map)
        engine = NativeEngine(split, tokenizer, max_batch=8)
        assert not engine.padded
        found = engine.generate(requests, sampling)
    assert two.moves > 0
    for group, other in zip(found, wanted, strict=True):
        for completion, expected in zip(group, other, strict=True):
            assert completion.ids == expected.ids
            assert completion.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_caches_lie_beside_their_layers(folder, prompt_of, two):
    with two, torch.inference_mode():
        decoder = Decoder(load_policy(folder, device_map=IN_ORDER), torch.float32)
        prompts, hidden = decoder.prefill([prompt_of(0), prompt_of(1)])
        slots = Slots(decoder, prompts, 2, 4)
        slots.grow(9)
        slots.keep([1])
        hidden, _ = slots.feed([[5], [6]], [0, 0])
    for caches in (prompts.keys, prompts.values, slots.keys, slots.values):
        assert [label(cache) for cache in caches] == [ZERO, ONE, ONE]
    assert label(hidden) == ONE and label(decoder.weights.embedding) == ZERO


def test_what_flows_moves_once_a_step_however_many_layers_follow(folder, prompt_of, two):
    moves = []
    for device_map in (IN_ORDER, {**IN_ORDER, "model.layers.1": "cpu:0"}):
        with two, torch.inference_mode():
            decoder = Decoder(load_policy(folder, device_map=device_map), torch.float32)
            prompts, _ = decoder.prefill([prompt_of(0)])
            slots, before = Slots(decoder, prompts, 2, 4), two.moves
            slots.feed([[5], [6]], [0, 0])
            moves.append(two.moves - before)
    assert moves == [5, 5], "hidden states, slots, positions and the two tables of positions"


def test_scoring_and_the_plain_forward_pass_are_the_same(folder, tokenizer, two):
    ids = torch.randint(0, tokenizer.vocabulary.size, (2, 12), generator=torch.Generator().manual_seed(0))
    kinds = (ids >= tokenizer.vocabulary.first_visual).long() + (
        ids < tokenizer.vocabulary.first_visual
    ).long()
    kinds[ids >= tokenizer.vocabulary.first_visual] = 2
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    whole = load_policy(folder)
    with torch.no_grad():
        logits = whole(input_ids=ids).logits
        scores = token_logprobs(whole, ids, mask, kinds, tokenizer.vocabulary)
    with two, torch.no_grad():
        split = load_policy(folder, device_map=BACK_AND_FORTH)
        there = split(input_ids=ids.to("cpu:0")).logits
        found = token_logprobs(
            split, ids.to("cpu:1"), mask.to("cpu:1"), kinds.to("cpu:1"), tokenizer.vocabulary
        )
    assert label(there) == ZERO, "the answer comes back to where the ids were"
    assert torch.allclose(there, logits, atol=1e-4)
    assert torch.allclose(found, scores, atol=1e-4)


def test_a_released_folder_by_the_map(two):
    vectors = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors" / "lm"
    expected = load_file(vectors / "expected.safetensors")
    with two, torch.no_grad():
        split = load_policy(vectors, device_map={"model.layers.0": "cpu:1", "": "cpu:0"})
        assert split.hf_device_map["model.layers.0"] == ONE and split.hf_device_map["lm_head"] == ZERO
        found = split(input_ids=expected["input_ids"].to("cpu:0")).logits
    assert two.moves > 0
    assert torch.allclose(found, expected["logits"], atol=1e-4)


def test_an_adapter_goes_where_its_base_lies(folder, tokenizer, requests, two, tmp_path):
    model = add_lora(load_policy(folder), 2, base=str(folder))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save_adapter(model, tmp_path / "adapter")
    greedy = SamplingSettings(greedy=True)
    wanted = NativeEngine(load_policy(tmp_path / "adapter"), tokenizer).generate(requests, greedy)
    with two:
        found = NativeEngine(load_policy(tmp_path / "adapter", device_map=IN_ORDER), tokenizer)
        completions = found.generate(requests, greedy)
    assert [[c.ids for c in group] for group in completions] == [[c.ids for c in group] for group in wanted]


def test_what_a_split_policy_cannot_do_is_said(folder, tokenizer, two):
    with two:
        split = load_policy(folder, device_map=IN_ORDER)
        assert not any(parameter.requires_grad for parameter in split.parameters())
        with pytest.raises(ConfigError, match=r"CUDA graphs.*cpu:0, cpu:1.*without device_map"):
            NativeEngine(split, tokenizer, padded=True)
        with pytest.raises(ConfigError, match="training takes a policy on one device"):
            add_lora(split, 2)
        with pytest.raises(ConfigError, match="quantisation takes a policy on one device"):
            quantise(split, "int8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_together_give_the_same(folder, tokenizer, requests):
    second = "cuda:1" if torch.cuda.device_count() > 1 else "cpu"
    greedy = SamplingSettings(greedy=True)
    wanted = NativeEngine(load_policy(folder), tokenizer).generate(requests, greedy)
    for first, other in (("cuda:0", second), (second, "cuda:0")):
        device_map = {"model.embed_tokens": first, "model.layers.0": first, "": other}
        found = NativeEngine(load_policy(folder, device_map=device_map), tokenizer).generate(requests, greedy)
        assert [[c.ids for c in group] for group in found] == [[c.ids for c in group] for group in wanted]
