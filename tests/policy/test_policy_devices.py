"""Which block lies where: maps by accelerate and by hand, at the size of the released models."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import Emu3ForCausalLM

from earl.errors import ConfigError
from earl.policy.configs import read_config
from earl.policy.devices import block_of, plan_devices
from earl.policy.loading import create_policy, load_policy
from earl.policy.saving import save_policy

GIB = 2**30
CUDA = [torch.device("cuda", index) for index in range(4)]
# The released config.json (FACTS: Emu3-8B), flat as published.
RELEASED = {
    "model_type": "Emu3",
    "architectures": ["Emu3ForCausalLM"],
    "vocab_size": 184622,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 9216,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "pad_token_id": 151643,
    "bos_token_id": 151849,
    "eos_token_id": 151850,
    "torch_dtype": "bfloat16",
}


def on_meta(config):
    with torch.device("meta"):
        return Emu3ForCausalLM(config)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    (folder / "config.json").write_text(json.dumps(RELEASED))
    return on_meta(read_config(folder))


@pytest.fixture
def small(ids):
    return create_policy("tiny", ids, seed=0)


def shares(model, places):
    """Bytes in bfloat16 on each device."""
    taken = {}
    for name, parameter in model.named_parameters():
        place = places[block_of(name)]
        taken[place] = taken.get(place, 0) + 2 * parameter.numel()
    return taken


def layer_places(model, places):
    return [places[f"model.layers.{index}"] for index in range(len(model.model.layers))]


@pytest.mark.parametrize(("count", "size"), [(2, 12), (2, 10), (3, 8), (4, 6)])
def test_the_released_size_over_small_gpus(released, count, size):
    assert sum(parameter.numel() for parameter in released.parameters()) == pytest.approx(8.49e9, rel=1e-3)
    memory = dict.fromkeys(range(count), f"{size}GiB")
    places = plan_devices(released, "auto", torch.bfloat16, max_memory=memory)
    taken = shares(released, places)
    assert set(taken) == set(CUDA[:count]) and sum(taken.values()) == pytest.approx(2 * 8.49e9, rel=1e-3)
    assert max(taken.values()) <= size * GIB
    order = [place.index for place in layer_places(released, places)]
    assert order == sorted(order), "what flows goes through each device once"
    assert (places["model.embed_tokens"], places["lm_head"]) == (CUDA[0], CUDA[count - 1])
    assert places["model.rotary_emb"] == CUDA[0]


def test_two_devices_share_evenly(released):
    taken = shares(
        released, plan_devices(released, "auto", torch.bfloat16, max_memory={0: "40GiB", 1: "40GiB"})
    )
    assert abs(taken[CUDA[0]] - taken[CUDA[1]]) < 3 * GIB


def test_what_does_not_fit_is_refused_with_the_sizes(released):
    with pytest.raises(
        ConfigError, match=r"15\.8 GiB in bfloat16 does not fit into 0: 7\.0 GiB, 1: 7\.0 GiB"
    ):
        plan_devices(released, "auto", torch.bfloat16, max_memory={0: "7GiB", 1: "7GiB"})


def test_the_rest_on_the_cpu_only_where_it_is_named(released):
    places = plan_devices(released, "auto", torch.bfloat16, max_memory={0: "8GiB", "cpu": "30GiB"})
    assert set(places.values()) == {CUDA[0], torch.device("cpu")}
    assert shares(released, places)[CUDA[0]] <= 8 * GIB


def test_auto_without_a_gpu_is_the_cpu(small, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert set(plan_devices(small, "auto", torch.float32).values()) == {torch.device("cpu")}


def test_auto_takes_nine_tenths_of_what_is_free(released, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        "accelerate.utils.get_max_memory",
        lambda given=None: given or {0: 12 * GIB, 1: 12 * GIB, "cpu": 99 * GIB},
    )
    taken = shares(released, plan_devices(released, "auto", torch.bfloat16))
    assert set(taken) == set(CUDA[:2]) and max(taken.values()) <= 0.9 * 12 * GIB


def test_names_stand_for_what_is_below_them(small):
    places = plan_devices(small, {"": 1, "model": "cpu", "model.layers.1": "cuda:2"}, torch.float32)
    cpu = torch.device("cpu")
    assert layer_places(small, places)[:2] == [cpu, CUDA[2]]
    assert (places["model.norm"], places["lm_head"]) == (cpu, CUDA[1])
    assert plan_devices(small, {"": "cuda"}, torch.float32)["lm_head"] == CUDA[0]


@pytest.mark.parametrize(
    ("device_map", "said"),
    [
        ("balanced_low_0", "give 'auto' or a mapping"),
        ({"model": 0}, "no device for lm_head"),
        ({"": 0, "model.layers.99": 1}, "'model.layers.99'.*model.layers.0 to"),
        ({"": 0, "model.layer.0": 1}, "'model.layer.0'"),
        ({"": 0, "model.layers.0.mlp": 1}, "a layer is not split"),
        ({"": "disk"}, "'disk'; blocks lie on CUDA devices or the CPU"),
        ({"": "gpu0"}, "'gpu0', which is no device"),
        ({"": -1}, "-1"),
    ],
)
def test_maps_that_cannot_be(small, device_map, said):
    with pytest.raises(ConfigError, match=said):
        plan_devices(small, device_map, torch.float32)


def test_a_tied_head_stays_with_its_embedding(ids):
    config = create_policy({"tie_word_embeddings": True, "num_hidden_layers": 4}, ids, seed=0).config
    tied = on_meta(config)
    with pytest.raises(ConfigError, match="one weight in this policy"):
        plan_devices(tied, {"": 0, "lm_head": 1}, torch.float32)
    half = sum(parameter.numel() for parameter in tied.parameters()) * 4 * 3 // 4
    places = plan_devices(tied, "auto", torch.float32, max_memory={0: half, 1: half})
    assert places["lm_head"] == places["model.embed_tokens"]
    assert len(set(places.values())) == 2


@pytest.mark.parametrize("memory", [{0: "ten"}, {"gpu": "10GiB"}])
def test_memory_that_is_no_size(small, memory):
    with pytest.raises(ConfigError, match="is not understood"):
        plan_devices(small, "auto", torch.float32, max_memory=memory)


def test_loading_says_what_is_wrong(small, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    save_policy(small, tmp_path / "p")
    with pytest.raises(ConfigError, match="lm_head on cuda:1, but torch sees 1 CUDA"):
        load_policy(tmp_path / "p", device_map={"": "cpu", "lm_head": 1})
    with pytest.raises(ConfigError, match="give both"):
        load_policy(tmp_path / "p", max_memory={0: "1GiB"})
    with pytest.raises(ConfigError, match="a mapping already says"):
        load_policy(tmp_path / "p", device_map={"": "cpu"}, max_memory={0: "1GiB"})


def test_a_map_of_one_device_is_an_ordinary_policy(small, tmp_path):
    save_policy(small, tmp_path / "p")
    tokens = torch.arange(8)[None]
    loaded = load_policy(tmp_path / "p", device_map={"": "cpu"}, dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16 and all(p.requires_grad for p in loaded.parameters())
    assert not hasattr(loaded, "hf_device_map")
    with torch.no_grad():
        wanted = load_policy(tmp_path / "p", dtype="bfloat16")(input_ids=tokens).logits
        assert torch.equal(loaded(input_ids=tokens).logits, wanted)
