"""`earl convert`: every layout to one folder, equal to its source, or nothing at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import earl
from earl.cli import main
from earl.config.convert import ConversionSettings
from earl.convert.folder import convert_model
from earl.errors import EarlError, ModelFormatError, OutputError
from earl.models.resolve import resolve_model
from earl.policy.loading import create_policy, load_policy
from earl.policy.saving import save_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.vocabulary import Vocabulary
from hub_cache import EARL, VECTORS, fake_hub
from sequence.conftest import released_like_ranks, write_released_form


def logits_of(policy, ids):
    with torch.no_grad():
        return policy(input_ids=ids).logits


@pytest.mark.parametrize("converted", [False, True])
def test_the_golden_policy(tmp_path, converted, capsys):
    folder = VECTORS / "lm"
    if converted:
        assert main(["convert", str(folder), str(tmp_path / "lm"), "--parts", "policy"]) == 0
        assert "differ by 0 at most" in capsys.readouterr().out
        folder = tmp_path / "lm"
    expected = load_file(VECTORS / "lm" / "expected.safetensors")
    found = logits_of(earl.load_policy(folder), expected["input_ids"])
    assert (found - expected["logits"]).abs().max() < 1e-4


@pytest.mark.parametrize(("temperature", "dtype"), [(0.5, "bfloat16"), (0.7, "bfloat16"), (3.0, "float32")])
def test_a_temperature_is_folded_into_the_policy(tmp_path, temperature, dtype):
    done = convert_model("world", tmp_path / "one", dtype=dtype)
    folded = convert_model(tmp_path / "one", tmp_path / "two", temperature=temperature)
    before = done.meta.get("temperature", 1.0)  # what the shipped model has folded in already
    assert folded.meta["temperature"] == pytest.approx(before * temperature)
    ids = torch.randint(0, 400, (1, 30), generator=torch.Generator().manual_seed(0))
    logits, after = (logits_of(earl.load_policy(tmp_path / name), ids).float() for name in ("one", "two"))
    rounding = 0.0 if temperature == 0.5 else torch.finfo(getattr(torch, dtype)).eps * logits.abs().max()
    assert (after - logits / temperature).abs().max() <= rounding / temperature + 1e-4
    again = convert_model(tmp_path / "two", tmp_path / "three", temperature=2.0)
    assert again.meta.get("temperature", 1.0) == pytest.approx(before * 2 * temperature)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--temperature", "1e-38"], "expected 0.0001 to 100"),
        (["--temperature", "2", "--parts", "vision"], "not among"),
    ],
)
def test_a_temperature_that_makes_no_sense(tmp_path, capsys, extra, said):
    assert main(["convert", "world", str(tmp_path / "out"), *extra]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("converted", [False, True])
def test_the_golden_vision_tokenizer(tmp_path, converted):
    folder = VECTORS / "vq"
    if converted:
        convert_model(folder, tmp_path / "vq", parts=("vision",))
        folder = tmp_path / "vq"
    tokenizer = earl.load_vision_tokenizer(folder)
    expected = load_file(VECTORS / "vq" / "expected.safetensors")
    for n in range(3):
        (codes,) = tokenizer.encode([VECTORS / "vq" / f"image_{n}.png"], resize=False)
        np.testing.assert_array_equal(codes, expected[f"codes_{n}"][0].numpy())
        decoded = tokenizer.decode_codes(expected[f"codes_{n}"])
        torch.testing.assert_close(decoded, expected[f"decoded_{n}"], atol=1e-4, rtol=0)


def test_the_released_tokenizer_gives_the_ids_of_the_release_before_and_after(tmp_path):
    ranks = released_like_ranks(151_643)
    (tmp_path / "text").mkdir()
    source = write_released_form(tmp_path / "text", ranks, Vocabulary.released().codebook_size)
    done = convert_model(source, tmp_path / "out", parts=("tokenizer",))
    assert done.checks == {"text ids": 0.0}
    for folder in (source, tmp_path / "out"):
        tokenizer = TextTokenizer.from_folder(resolve_model(folder).need("tokenizer"))
        found = tokenizer.vocabulary
        assert (found.pad, found.eol, found.eof, found.bos, found.eos) == (
            151643,
            151846,
            151847,
            151849,
            151850,
        )
        assert (found.img, found.boi, found.eoi) == (151851, 151852, 151853)
        assert (found.first_visual, found.codebook_size, found.size) == (151854, 32768, 184622)
        for text in (
            "<|image start|>",
            "<|visual token 000000|>",
            "<|endoftext|> <|extra_204|>",
            "a<|extra_200|>b",
        ):
            ids = tokenizer.encode(text)
            assert ids and max(ids) < 151643
            assert tokenizer.decode(ids) == text


@pytest.fixture
def hub(tmp_path, monkeypatch, model_folder) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fake_hub(tmp_path / "hub", model_folder)
    return tmp_path / "hub"


def test_a_released_model_becomes_one_folder(hub, tmp_path, capsys):
    target = tmp_path / "clean"
    assert main(["convert", EARL, str(target), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert max(record["checks"].values()) == 0.0
    assert set(record["checks"]) == {"text ids", "image codes", "decoded pixels", "logits"}
    assert {path.name for path in target.iterdir()} == {
        "policy", "vision", "tokenizer.json", "earl.json", "README.md"
    }  # fmt: skip
    meta = json.loads((target / "earl.json").read_text())
    assert meta["origin"]["source"] == EARL and len(meta["origin"]["revision"]) == 40
    assert meta["parameters"] == sum(p.numel() for p in earl.load_policy(target).parameters())
    card = (target / "README.md").read_text()
    assert f"base_model: {EARL}" in card and "mean 4.80" in card and "logits: 0" in card
    shutil.rmtree(hub)
    ids = torch.arange(20)[None]
    pipeline = earl.EditPipeline.from_pretrained(target, device="cpu")
    assert pipeline.vision.area == record["meta"]["area"]
    assert meta["size"] == pipeline.vision.rule and f"| size rule | {meta['size']} |" in card
    again = convert_model(target, tmp_path / "again")  # ours to ours
    assert torch.equal(
        logits_of(earl.load_policy(target), ids), logits_of(earl.load_policy(again.folder), ids)
    )


def test_another_dtype(tmp_path, model_folder):
    done = convert_model(model_folder, tmp_path / "half", dtype="bfloat16", parts=("policy",))
    assert done.meta["dtype"] == "bfloat16" and done.checks["logits"] == 0.0
    half, whole = earl.load_policy(tmp_path / "half"), earl.load_policy(model_folder)
    assert half.dtype == torch.bfloat16
    ids = torch.arange(20)[None]
    assert (logits_of(half, ids).float() - logits_of(whole, ids)).abs().max() < 0.05


def test_an_adapter_is_merged(tmp_path, model_folder):
    from earl.policy.adapters import add_lora, save_adapter

    adapted = add_lora(load_policy(model_folder), 4, base=str(model_folder))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(adapted, tmp_path / "adapter")
    convert_model(tmp_path / "adapter", tmp_path / "merged")
    merged, ids = earl.load_policy(tmp_path / "merged"), torch.arange(20)[None]
    assert not hasattr(merged, "peft_config")
    assert (logits_of(merged, ids) - logits_of(adapted.eval(), ids)).abs().max() < 1e-4
    assert (logits_of(merged, ids) - logits_of(load_policy(model_folder), ids)).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_large_adapter_is_merged_as_far_as_its_dtype_reaches(tmp_path, model_folder, dtype, monkeypatch):
    """Its sums round by more than the logits of two equal policies may differ."""
    from earl.policy.adapters import add_lora, save_adapter

    adapted = add_lora(load_policy(model_folder), 4, base=str(model_folder))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    save_adapter(adapted, tmp_path / "adapter")
    settings, what = ConversionSettings(dtype=dtype), "products of merged matrices, relative"
    done = convert_model(tmp_path / "adapter", tmp_path / "merged", settings)
    assert 0 < done.checks[what] < 4 * torch.finfo(getattr(torch, dtype)).eps + 1e-5

    def wrongly(policy):
        plain = policy.merge_and_unload()
        plain.model.layers[0].self_attn.q_proj.weight.data *= 1.1
        return plain

    monkeypatch.setattr("earl.convert.folder.merged", wrongly)
    with pytest.raises(ModelFormatError, match="products of merged matrices"):
        convert_model(tmp_path / "adapter", tmp_path / "wrong", settings)


def made_elsewhere(base: Path, folder: Path, **options):
    """An adapter as peft writes it, and the adapted policy with its head tied to the embedding before."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(load_policy(base), LoraConfig(r=2, task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(folder, save_embedding_layers=False)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return adapted.eval()


@pytest.fixture
def tied(tmp_path) -> Path:
    vocabulary = Vocabulary(400, 300, 64, *range(290, 298))
    save_policy(create_policy({"tie_word_embeddings": True}, vocabulary, seed=0), tmp_path / "tied")
    return tmp_path / "tied"


@pytest.mark.parametrize("trained", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]])
def test_a_trained_embedding_or_head_comes_along_untied(tmp_path, tied, trained):
    torch.manual_seed(0)
    adapted = made_elsewhere(tied, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=trained)
    ids = torch.arange(20)[None]
    expected = logits_of(adapted, ids)
    assert (expected - logits_of(load_policy(tied), ids)).abs().max() > 0.1
    assert torch.equal(logits_of(load_policy(tmp_path / "adapter"), ids), expected)
    convert_model(tmp_path / "adapter", tmp_path / "merged", parts=("policy",))
    merged = load_policy(tmp_path / "merged")
    assert not merged.config.tie_word_embeddings
    assert (logits_of(merged, ids) - expected).abs().max() < 1e-4


def test_what_is_there_stays(tmp_path, model_folder, monkeypatch):
    target = tmp_path / "out"
    convert_model(model_folder, target, parts=("tokenizer",))
    before = (target / "earl.json").read_text()
    with pytest.raises(OutputError, match="--force"):
        convert_model(model_folder, target)
    with pytest.raises(OutputError, match="where the source lies"):
        convert_model(target, target, force=True, parts=("tokenizer",))
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="no model folder of ours"):
        convert_model(model_folder, tmp_path / "papers", force=True)
    answers = iter([torch.zeros(3, 4), torch.ones(3, 4)])
    with monkeypatch.context() as patch:
        patch.setattr("earl.convert.folder.probe_logits", lambda _: next(answers))
        with pytest.raises(ModelFormatError, match="differ from its source's by 1"):
            convert_model(model_folder, target, force=True)
    assert (target / "earl.json").read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "papers"}
    convert_model(model_folder, target, force=True)
    assert (target / "policy").is_dir()


def test_parts_that_do_not_belong_together(tmp_path, model_folder):
    with pytest.raises(ModelFormatError, match="do not belong together"):
        convert_model(model_folder, tmp_path / "out", vision=VECTORS / "vq", parts=("tokenizer", "vision"))
    with pytest.raises(EarlError, match="BAAI/Emu3-Stage1"):
        convert_model(VECTORS / "lm", tmp_path / "out")
    assert not (tmp_path / "out").exists()
