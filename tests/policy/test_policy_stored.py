"""A policy opened for sampling alone: the weights of `load_policy`, found, checked and refused alike."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Emu3Config, Emu3ForCausalLM, Emu3ForConditionalGeneration
from transformers.models.emu3.modeling_emu3 import Emu3RotaryEmbedding

from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError
from earl.policy.adapters import add_lora, save_adapter
from earl.policy.loading import create_policy, load_policy
from earl.policy.saving import save_policy
from earl.policy.stored import Rotary, StoredPolicy, open_policy, stored_config


def saved(folder, ids, **changes):
    """A small policy on disk, its config.json changed."""
    save_policy(create_policy("tiny", ids, seed=3), folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def assert_same_weights(stored, policy):
    assert type(stored) is StoredPolicy and not stored.training
    theirs = policy.state_dict()
    assert stored.state_dict().keys() == theirs.keys()
    for name, tensor in stored.state_dict().items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name])
    assert not any(parameter.requires_grad for parameter in stored.parameters())
    for name in ("vocab_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings"):
        assert getattr(stored.config, name) == getattr(policy.config, name)
    assert stored.config.rms_norm_eps == policy.config.rms_norm_eps
    positions = torch.arange(700)[None]
    like = torch.zeros(1)
    expected = policy.model.rotary_emb(like, position_ids=positions)
    for ours, table in zip(stored.model.rotary_emb(like, position_ids=positions), expected, strict=True):
        assert torch.equal(ours, table)


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_released_layout(vectors, dtype):
    assert_same_weights(open_policy(vectors, dtype=dtype), load_policy(vectors, dtype=dtype))


@pytest.mark.parametrize("size", ["tiny", "small"])  # "small" ties its head
def test_our_layout(tmp_path, ids, size):
    save_policy(create_policy(size, ids, seed=3), tmp_path, dtype=torch.bfloat16)
    stored = open_policy(tmp_path)
    assert_same_weights(stored, load_policy(tmp_path))
    same = stored.lm_head.weight.data_ptr() == stored.model.embed_tokens.weight.data_ptr()
    assert same == stored.config.tie_word_embeddings == (size == "small")


def test_a_tied_head_that_is_stored_otherwise_is_the_embedding_all_the_same(tmp_path, ids):
    save_policy(create_policy("small", ids, seed=3), tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = torch.zeros_like(weights["model.embed_tokens.weight"])
    save_file(weights, path, metadata={"format": "pt"})
    stored = open_policy(tmp_path)
    assert_same_weights(stored, load_policy(tmp_path))
    assert stored.lm_head.weight is stored.model.embed_tokens.weight and stored.lm_head.weight.any()


def test_the_text_part_of_a_full_hf_folder(tmp_path, ids):
    whole = Emu3Config(
        text_config=create_policy("tiny", ids, seed=5).config.to_dict(),
        vq_config={"base_channels": 32, "channel_multiplier": [1], "num_res_blocks": 1, "hidden_size": 32}
        | {"attn_resolutions": [], "codebook_size": ids.codebook_size},
        vocabulary_map={"<image>": 3},
    )
    Emu3ForConditionalGeneration(whole).save_pretrained(tmp_path)
    assert_same_weights(open_policy(tmp_path), load_policy(tmp_path))


def test_shards_biases_and_a_head_of_its_own_width(tmp_path, ids):
    config = create_policy("tiny", ids, seed=4).config
    config.attention_bias = config.mlp_bias = True
    config.head_dim = 32
    Emu3ForCausalLM(config).save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    stored = open_policy(tmp_path)
    assert_same_weights(stored, load_policy(tmp_path))
    assert stored.config.head_dim == 32 and "model.layers.0.mlp.up_proj.bias" in stored.state_dict()


@pytest.mark.parametrize("theta", [2_000.0, 1_000_000.0])
def test_the_table_of_positions_is_theirs_on_every_dtype(ids, theta):
    size = {"hidden_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": theta}
    config = create_policy(size | {"num_hidden_layers": 1}, ids, seed=1).config
    positions = torch.tensor([[0, 1, 5, 4095]])
    for dtype in (torch.float32, torch.bfloat16):
        like = torch.zeros(1, dtype=dtype)
        theirs = Emu3RotaryEmbedding(config=config)(like, position_ids=positions)
        for ours, table in zip(Rotary(theta, 48)(like, positions), theirs, strict=True):
            assert ours.dtype == dtype and torch.equal(ours, table)


def test_what_asks_for_more_is_the_transformers_class(tmp_path, ids):
    base = saved(tmp_path / "base", ids)
    policy = load_policy(base)
    save_adapter(add_lora(policy, rank=2, alpha=4), tmp_path / "adapter")
    assert hasattr(open_policy(tmp_path / "adapter"), "peft_config")
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    for number, changes in enumerate(({"rope_parameters": scaled}, {"hidden_act": "gelu"})):
        folder = saved(tmp_path / str(number), ids, **changes)
        assert stored_config(folder) is None
        assert type(open_policy(folder)) is Emu3ForCausalLM


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": None},
        {"hidden_size": "wide"},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 3},
        {"num_hidden_layers": 3},
        {"rms_norm_eps": "small"},
        {"attention_bias": True},
    ],
    ids=str,
)
def test_errors_are_those_of_load_policy(tmp_path, ids, changes):
    folder = saved(tmp_path / "p", ids, **changes)
    said = []
    for load in (load_policy, open_policy):
        with pytest.raises(ModelFormatError) as caught:
            load(folder)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("load", [load_policy, open_policy])
def test_fewer_ids_than_the_weights_have(tmp_path, ids, load):
    with pytest.raises(ModelFormatError, match=r"do not make a model|has shape"):
        load(saved(tmp_path / "p", ids, vocab_size=7))


def test_weights_that_do_not_fit(tmp_path, ids):
    folder = saved(tmp_path / "p", ids)
    path = folder / "model.safetensors"
    good = load_file(path)
    whole = path.read_bytes()
    for weights, words in (
        ({k: v for k, v in good.items() if k != "model.norm.weight"}, r"missing model\.norm\.weight"),
        (good | {"extra": torch.zeros(1)}, "unexpected extra"),
        (good | {"model.norm.weight": good["model.norm.weight"].bfloat16()}, "of types"),
        (good | {"model.norm.weight": torch.zeros(3)}, "has shape"),
    ):
        save_file(weights, path)
        with pytest.raises(ModelFormatError, match=words):
            open_policy(folder)
    path.write_bytes(whole[:5000])
    with pytest.raises(ModelFormatError, match="truncated"):
        open_policy(folder)
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match="float12"):
        open_policy(folder, dtype="float12")
    with pytest.raises((ModelNotFoundError, ModelFormatError)):
        open_policy(tmp_path / "absent")


def test_opening_imports_neither_transformers_nor_the_compiler(tmp_path, ids):
    folder = saved(tmp_path / "p", ids)
    code = (
        f"import sys\nfrom earl.policy.stored import open_policy\nopen_policy({str(folder)!r})\n"
        "print(sorted({'torch', 'transformers', 'torch._dynamo', 'peft', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['torch']", done.stderr
