import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Emu3Config, Emu3ForCausalLM, Emu3ForConditionalGeneration

from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError
from earl.policy.configs import SIZES
from earl.policy.loading import create_policy, load_policy, warm_start_visual
from earl.policy.saving import save_policy


def logits_of(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens).logits


def test_released_layout_gives_the_release_s_logits(vectors):
    expected = load_file(vectors / "expected.safetensors")
    model = load_policy(vectors)
    assert type(model) is Emu3ForCausalLM and not model.training
    assert (logits_of(model, expected["input_ids"]) - expected["logits"]).abs().max() < 1e-4


def test_dropout_is_off_even_in_training_mode(vectors):
    model = load_policy(vectors).train()
    tokens = torch.arange(12)[None]
    assert torch.equal(logits_of(model, tokens), logits_of(model, tokens))
    assert model.model.layers[0].dropout.p == 0.0


def test_ours_round_trip_and_stock_transformers_reads_it(tmp_path, ids):
    model = create_policy("tiny", ids, seed=3)
    save_policy(model, tmp_path / "policy")
    tokens = torch.randint(0, ids.size, (2, 9))
    again = load_policy(tmp_path / "policy")
    assert torch.equal(logits_of(again, tokens), logits_of(model, tokens))
    assert again.config.attention_dropout == 0.0
    stock = Emu3ForCausalLM.from_pretrained(tmp_path / "policy")
    assert torch.equal(logits_of(stock.eval(), tokens), logits_of(model, tokens))


def test_save_in_bfloat16_and_load_as_asked(tmp_path, ids):
    model = create_policy("tiny", ids, seed=3)
    save_policy(model, tmp_path / "p", dtype=torch.bfloat16)
    assert model.dtype == torch.float32
    assert load_policy(tmp_path / "p").dtype == torch.bfloat16
    assert load_policy(tmp_path / "p", dtype="float32").dtype == torch.float32
    with pytest.raises(ConfigError, match="float12"):
        load_policy(tmp_path / "p", dtype="float12")


def test_shards_with_an_index(tmp_path, ids):
    model = create_policy("tiny", ids, seed=4)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    tokens = torch.arange(8)[None]
    assert torch.equal(logits_of(load_policy(tmp_path), tokens), logits_of(model, tokens))
    shards[0].unlink()
    with pytest.raises(ModelNotFoundError, match="index"):
        load_policy(tmp_path)


@pytest.mark.parametrize("first_published", [False, True])
def test_the_text_part_of_a_full_hf_folder(tmp_path, ids, first_published):
    text = create_policy("tiny", ids, seed=5)
    vision = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "attn_resolutions": [1]}
    vision |= {"codebook_size": 50, "hidden_size": 32}
    names = {"<image>": 60, "<|extra_200|>": 61, "<|image start|>": 62, "<|visual token 000000|>": 100}
    config = Emu3Config(
        text_config=text.config.to_dict(), vq_config=vision, vocabulary_map=names, tie_word_embeddings=False
    )
    full = Emu3ForConditionalGeneration(config)
    full.model.text_model.load_state_dict(text.model.state_dict())
    full.lm_head.load_state_dict(text.lm_head.state_dict())
    full.save_pretrained(tmp_path)
    if first_published:
        old = {}
        for name, tensor in load_file(tmp_path / "model.safetensors").items():
            if name.startswith("lm_head."):
                name = f"text_model.{name}"
            name = name.replace("model.text_model.", "text_model.model.").replace(
                "model.vqmodel.", "vqmodel."
            )
            old[name] = tensor
        save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tokens = torch.arange(8)[None]
    assert torch.equal(logits_of(load_policy(tmp_path), tokens), logits_of(text, tokens))


def copy_of(vectors, folder):
    shutil.copytree(vectors, folder)
    return folder


def test_remote_code_beside_the_weights_is_not_run(vectors, tmp_path):
    folder = copy_of(vectors, tmp_path / "m")
    (folder / "modeling_emu3.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "configuration_emu3.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    load_policy(folder)
    assert not (tmp_path / "ran").exists()


def test_truncated_weights_are_one_sentence(vectors, tmp_path):
    folder = copy_of(vectors, tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    for length in (len(whole) - 100, 4, 0):
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ModelFormatError, match="truncated") as caught:
            load_policy(folder)
        assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(vectors, tmp_path):
    folder = copy_of(vectors, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"model\.safetensors"):
        load_policy(folder)
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(ModelFormatError, match="pickled"):
        load_policy(folder)


def rewritten(vectors, folder, change):
    copy_of(vectors, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def test_weights_that_do_not_fit_are_refused(vectors, tmp_path):
    missing = rewritten(vectors, tmp_path / "a", lambda w: w.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelFormatError, match=r"missing model\.layers\.1\.mlp\.up_proj\.weight"):
        load_policy(missing)
    extra = rewritten(vectors, tmp_path / "b", lambda w: w.update({"model.extra": torch.zeros(2)}))
    with pytest.raises(ModelFormatError, match=r"unexpected model\.extra"):
        load_policy(extra)
    shape = rewritten(vectors, tmp_path / "c", lambda w: w.update({"model.norm.weight": torch.zeros(3)}))
    with pytest.raises(ModelFormatError, match=r"shape \(3,\)"):
        load_policy(shape)


def test_config_that_is_not_ours_or_lacks_fields(vectors, tmp_path):
    folder = copy_of(vectors, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ModelFormatError, match="llama"):
        load_policy(folder)
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match="hidden_size"):
        load_policy(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFormatError, match="JSON"):
        load_policy(folder)


def test_create_is_deterministic_and_leaves_the_global_stream_alone(ids):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second, other = (create_policy("tiny", ids, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert first.config.vocab_size == ids.size and first.config.eos_token_id == ids.eos


def test_sizes_by_name_and_by_keys(ids):
    assert "8b" in SIZES and SIZES["8b"]["hidden_size"] == 4096
    model = create_policy(
        {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}, ids, seed=0
    )
    assert model.config.num_hidden_layers == SIZES["small"]["num_hidden_layers"]
    with pytest.raises(ConfigError, match="huge"):
        create_policy("huge", ids, seed=0)
    with pytest.raises(ConfigError, match="hidden_sice"):
        create_policy({"hidden_sice": 32}, ids, seed=0)
    with pytest.raises(ConfigError, match="multiple"):
        create_policy({"hidden_size": 30, "num_attention_heads": 4}, ids, seed=0)


def test_warm_start_puts_like_codes_near_each_other(ids):
    model = create_policy("tiny", ids, seed=0)
    text_before = model.lm_head.weight[: ids.first_visual].clone()
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    features[1] = features[0] + 0.01
    before = model.get_input_embeddings().weight[ids.first_visual :][:50].clone()
    warm_start_visual(model, features, ids)
    added = model.get_input_embeddings().weight[ids.first_visual :][:50] - before
    assert torch.equal(model.lm_head.weight[: ids.first_visual], text_before)
    assert added.square().mean().sqrt().item() == pytest.approx(0.02, rel=1e-4)
    near = (added[0] - added[1]).norm()
    assert near < 0.1 * (added[0] - added[2:]).norm(dim=1).min()
    with pytest.raises(ConfigError, match="row per code"):
        warm_start_visual(model, features[:-1], ids)


def test_a_rank_on_a_cpu_loads_too(tmp_path, ids):
    model = create_policy("tiny", ids, seed=0)
    save_policy(model, tmp_path / "model")
    again = load_policy(tmp_path / "model", device="cpu:0")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
