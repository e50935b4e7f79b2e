"""Model folders with an adapter in the policy's place: they load wherever a model does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from earl.cli import main
from earl.config.recipe import check
from earl.config.stages import SftRecipe
from earl.errors import ModelFormatError, ModelNotFoundError
from earl.models import resolve as models
from earl.models.resolve import resolve_model
from earl.pipeline import EditPipeline
from earl.policy.adapters import add_lora, attach_adapter, merged, save_adapter
from earl.policy.loading import load_policy
from earl.policy.saving import save_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.training.parts import Parts, assemble_policy, save_model

TOKENS = torch.arange(12)[None]


def recipe(start: Path, folder: Path, **more) -> SftRecipe:
    return check(
        SftRecipe,
        {
            "stage": "sft",
            "run": {"folder": str(folder), "device": "cpu", "tracker": "none", "threads": 1},
            "length": {"max_steps": 1},
            "batch": {"global_size": 2, "micro_size": 2},
            "optimiser": {"learning_rate": 1e-3},
            "precision": {"compute": "float32"},
            "model": {"start": str(start)},
            "data": {"sources": {"world": {"path": "nowhere"}}},
            **more,
        },
    )


def adapt(base: Path, folder: Path, seed: int = 0, named: str | None = None, vision: bool = True):
    """A run's model folder: an adapter of `base` that changes something; the peft model too."""
    model = add_lora(load_policy(base, dtype="float32"), 3, ("q_proj", "down_proj"), base=named or str(base))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=generator)
    words = TextTokenizer.from_folder(resolve_model(base).need("tokenizer"))
    eyes = str(resolve_model(base).need("vision")) if vision else None
    save_model(Parts(model, words, eyes, 4096, "snap"), folder, recipe(base, folder), step=7)
    return model


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def renamed(folder: Path, base: str) -> None:
    file = folder / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory):
    """(model folder with an adapter, the peft model that was saved)."""
    folder = tmp_path_factory.mktemp("lora") / "model"
    return folder, adapt(model_folder, folder)


@pytest.mark.parametrize("alpha", [0.5, 3.0, 4.5])
def test_an_adapter_counts_alpha_by_rank(alpha, model_folder, tmp_path):
    """Below 1 too: rounded down it would be 0, and training would teach nothing."""
    base = load_policy(model_folder, dtype="float32")
    before = base.model.layers[0].mlp.down_proj.weight.clone()
    model = add_lora(base, 2, ("down_proj",), alpha=alpha, base=str(model_folder))
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    up, down = (part["default"].weight for part in (layer.lora_B, layer.lora_A))
    with torch.no_grad():
        up.normal_(generator=torch.Generator().manual_seed(0))
    added = alpha / 2 * (up @ down).detach()
    save_adapter(model, tmp_path / "adapter")
    again = attach_adapter(load_policy(model_folder, dtype="float32"), tmp_path / "adapter")
    for one in (model, again):
        weight = merged(one).model.layers[0].mlp.down_proj.weight
        assert torch.allclose(weight - before, added, atol=1e-5) and added.abs().max() > 1e-3


def test_a_run_s_folder_loads_like_any_other(run, model_folder, tmp_path):
    folder, model = run
    assert not (folder / "policy").exists()
    again = load_policy(folder)
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), logits(load_policy(model_folder)))
    pipeline = EditPipeline.from_pretrained(folder, device="cpu")
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    first = pipeline(source, "remove the cone", seed=1, greedy=True)
    plain = tmp_path / "plain"
    shutil.copytree(model_folder, plain)
    shutil.rmtree(plain / "policy")
    save_policy(merged(load_policy(folder)), plain / "policy")
    other = EditPipeline.from_pretrained(plain, device="cpu")(source, "remove the cone", seed=1, greedy=True)
    assert first.completions[0].ids == other.completions[0].ids


def test_it_edits_from_the_command_line(run, tmp_path):
    Image.new("RGB", (64, 64), (90, 160, 80)).save(tmp_path / "a.png")
    words = ["edit", str(tmp_path / "a.png"), "remove the cone", "-o", str(tmp_path / "b.png")]
    assert main([*words, "--model", str(run[0]), "--device", "cpu"]) == 0
    assert Image.open(tmp_path / "b.png").size == (64, 64)


def test_parts_that_it_lacks_are_its_base_s(model_folder, tmp_path):
    adapt(model_folder, tmp_path / "m", vision=False)
    found = resolve_model(tmp_path / "m")
    assert found.vision_path == model_folder / "vision" and found.tokenizer_path == tmp_path / "m"
    assert EditPipeline.from_pretrained(tmp_path / "m", device="cpu").vision.area == 4096


def test_the_base_by_name_and_beside_the_adapter(run, model_folder, tmp_path, monkeypatch):
    folder, model = run
    monkeypatch.setattr(type(models.MODELS), "load", lambda registry, name: model_folder)
    of_the_shipped = adapt(model_folder, tmp_path / "named", named="world")
    config = json.loads((tmp_path / "named" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "world"
    assert torch.equal(logits(load_policy(tmp_path / "named")), logits(of_the_shipped))
    shutil.copytree(folder, tmp_path / "moved")
    shutil.copytree(model_folder, tmp_path / "base")
    renamed(tmp_path / "moved", "../../base")
    assert torch.equal(logits(load_policy(tmp_path / "moved")), logits(model))


def test_a_base_of_a_relative_path_is_named_by_its_place(model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(model_folder.parent)
    adapt(Path(model_folder.name), tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    assert resolve_model(tmp_path / "m").policy_path == tmp_path / "m" / "adapter"
    load_policy(tmp_path / "m")


def test_a_missing_base_is_one_sentence(run, tmp_path, capsys):
    folder = tmp_path / "m"
    shutil.copytree(run[0], folder)
    renamed(folder, str(tmp_path / "gone"))
    for load in (load_policy, lambda name: EditPipeline.from_pretrained(name, device="cpu")):
        with pytest.raises(
            ModelNotFoundError, match=r"the adapter in .* was trained on '.*gone', which is missing"
        ):
            load(folder)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    words = ["edit", str(tmp_path / "a.png"), "remove the cone", "-o", str(tmp_path / "b.png")]
    assert main([*words, "--model", str(folder), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "base_model_name_or_path" in said and said.count("\n") == 1
    assert not (tmp_path / "b.png").exists()


def test_an_adapter_on_an_adapter(run, tmp_path):
    second = adapt_over(run[0], tmp_path / "second")
    assert torch.allclose(logits(load_policy(tmp_path / "second")), logits(second), atol=1e-5)
    renamed(tmp_path / "second", str(tmp_path / "second"))
    with pytest.raises(ModelFormatError, match="itself"):
        load_policy(tmp_path / "second")
    shutil.copytree(run[0], tmp_path / "first")
    renamed(tmp_path / "first", str(tmp_path / "second"))
    renamed(tmp_path / "second", str(tmp_path / "first"))
    with pytest.raises(ModelFormatError, match="in turn"):
        resolve_model(tmp_path / "first")


def adapt_over(start: Path, folder: Path):
    """What training with `[lora]` from a folder with an adapter saves."""
    settings = recipe(start, folder, lora={"rank": 2, "targets": ["o_proj"]})
    parts = assemble_policy(settings, torch.device("cpu"))
    with torch.no_grad():
        for name, parameter in parts.policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(5))
    save_model(parts, folder, settings, step=1)
    return parts.policy


def test_training_from_one_trains_all_weights(run):
    policy = assemble_policy(recipe(run[0], run[0].parent / "x"), torch.device("cpu")).policy
    assert not hasattr(policy, "peft_config")
    assert all(parameter.requires_grad for parameter in policy.parameters())
    assert torch.allclose(logits(policy), logits(run[1]), atol=1e-5)


@pytest.mark.parametrize("change", [{"target_modules": ["q_proj"]}, {"use_dora": True}])
def test_weights_and_configuration_of_different_adapters(run, tmp_path, change):
    """peft would take what fits, and leave out or draw the rest."""
    folder, _ = run
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFormatError, match=r"does not fit its adapter_config\.json: \d+ weights"):
        load_policy(tmp_path / "other")
