"""The dry run's arithmetic against real modules at small sizes, and every Emu3 recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from earl.cli import main
from earl.config.sections import Optimiser
from earl.config.stages import DryRunSettings, GrpoRecipe, load_stage
from earl.errors import ConfigError
from earl.models.catalogue import KNOWN
from earl.models.shapes import EMU3, GIB, PolicyShape
from earl.policy.adapters import TARGETS, add_lora
from earl.policy.configs import SIZES, make_config
from earl.policy.likelihood import hidden_states
from earl.policy.loading import create_policy
from earl.sequence.vocabulary import Vocabulary
from earl.training.dry_run import bytes_of
from earl.training.estimate import estimate, lengths_of
from earl.training.objective import positions_of_block
from earl.training.optimisers import create_optimisers

ROOT = Path(__file__).parents[2]
EMU3_RECIPES = sorted((ROOT / "recipes" / "emu3").glob("*.toml"))
IDS = Vocabulary.compact(300, 64)


def shape_of(size) -> PolicyShape:
    return PolicyShape.from_config(make_config(size, IDS).to_dict())


@pytest.mark.parametrize("size", ["tiny", "small", "medium", {"hidden_size": 64, "num_attention_heads": 2}])
def test_counts_are_those_of_the_real_module(size):
    model = create_policy(size, IDS, 0)
    shape = shape_of(size)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    adapted = add_lora(model, 4, ("q_proj", "down_proj", "up_proj"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.lora_parameters(4, ("q_proj", "down_proj", "up_proj")) == trained


def test_the_8b_model_is_counted_without_being_made():
    from transformers import Emu3ForCausalLM

    with torch.device("meta"):
        model = Emu3ForCausalLM(make_config("8b", Vocabulary.released()))
    assert EMU3.parameters == sum(parameter.numel() for parameter in model.parameters())
    found = PolicyShape.from_config(make_config("8b", Vocabulary.released()).to_dict())
    assert found.model_dump(exclude_defaults=True).keys() <= {"pad_token_id", "bos_token_id", "eos_token_id"}
    assert PolicyShape.from_config({"model_type": "emu3", "text_config": {}}).parameters == EMU3.parameters


def test_the_optimisers_state_is_counted():
    shape, model = shape_of("tiny"), create_policy("tiny", IDS, 0)
    for settings, expected in (
        (Optimiser(learning_rate=1e-3), shape.parameters * 8),
        (
            Optimiser(name="muon", learning_rate=1e-3, muon_learning_rate=1e-2),
            shape.num_hidden_layers * shape.layer_matrices * 4
            + (shape.parameters - shape.num_hidden_layers * shape.layer_matrices) * 8,
        ),
    ):
        optimisers = create_optimisers(model.named_parameters(), settings)
        model(torch.arange(8)[None]).logits.sum().backward()
        for optimiser in optimisers:
            optimiser.step()
        held = [
            value.numel() * value.element_size()
            for optimiser in optimisers
            for state in optimiser.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.ndim
        ]
        assert sum(held) == expected


def test_flops_are_those_that_torch_counts():
    shape, model = shape_of("tiny"), create_policy("tiny", IDS, 0)
    ids = torch.randint(0, 300, (2, 40))
    matrices = shape.num_hidden_layers * shape.layer_matrices
    with FlopCounterMode(display=False) as counter:
        hidden = hidden_states(model, ids, torch.ones_like(ids, dtype=torch.bool))
    forward = counter.get_flop_counts()["Global"]
    assert forward[torch.ops.aten.mm] == 2 * matrices * ids.numel()
    with FlopCounterMode(display=False) as counter:
        hidden.sum().backward()
    assert counter.get_flop_counts()["Global"][torch.ops.aten.mm] == 4 * matrices * ids.numel()


def test_caches_are_as_large_as_the_engines_own():
    from earl.sampling.native.decoder import Decoder
    from earl.sampling.native.slots import Slots

    shape, model = shape_of("tiny"), create_policy("tiny", IDS, 0)
    decoder = Decoder(model, torch.float32)
    prompts, _ = decoder.prefill([list(range(20))] * 3)
    slots = Slots(decoder, prompts, 4, 30)

    def size(*lists):
        return sum(tensor.numel() * tensor.element_size() for tensors in lists for tensor in tensors)

    assert size(prompts.keys, prompts.values) == shape.cache_bytes(3 * 20, "float32")
    assert size(slots.keys, slots.values) == shape.cache_bytes(12 * (30 + 2), "float32")


def fitting(path: Path) -> tuple[str, int]:
    """What each published recipe is meant for."""
    if path.stem.startswith("one-gpu"):
        return "80GiB", 1
    return "80GiB", 16 if path.stem == "sft-nodes" else 4


@pytest.mark.parametrize("path", EMU3_RECIPES, ids=lambda path: path.stem)
def test_the_dry_run_of_every_emu3_recipe(path, capsys):
    memory, devices = fitting(path)
    stage = load_stage(path).stage
    words = ["train", stage, str(path), "--dry-run", "--memory", memory, "--devices", str(devices)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f'title = "{load_stage(path).title}"' in said
    assert "8,492,011,520 in all" in said or "trained" in said
    assert "fits: " in said and f"on each of {devices} x 80 GiB" in said
    assert "PFLOP" in said and "activations (estimate)" in said
    assert main([*words[:4], "--memory", "16GiB", "--devices", str(devices)]) == 2
    refused = capsys.readouterr().err
    assert "cannot hold this run" in refused and refused.count("\n") == 1


def test_all_weights_on_one_card_are_refused_with_the_reason(capsys):
    path = str(ROOT / "recipes" / "emu3" / "grpo.toml")
    assert main(["train", "grpo", path, "--dry-run", "--memory", "80GiB", "--devices", "1"]) == 2
    said = capsys.readouterr()
    assert "optimiser state 63.3" in said.err and "[lora]" in said.err
    assert "counted as the 8.5 B model" in said.out


def test_sharding_checkpointing_and_adapters_save_what_they_should():
    path = ROOT / "recipes" / "emu3" / "one-gpu.toml"
    recipe = load_stage(path)
    assert isinstance(recipe, GrpoRecipe)
    one = estimate(recipe, EMU3)
    assert (
        one.trained == EMU3.lora_parameters(32, TARGETS) and one.parameters == EMU3.parameters + one.trained
    )
    assert one.always["weights"] == EMU3.parameters * 2 + one.trained * 4
    assert "reference policy" not in one.always and "reference" not in one.phases
    assert 128 / 1.1 < one.phases["sampling"]["KV cache of completions"] / EMU3.cache_bytes(1067) < 128 * 1.1
    kept = estimate(load_stage(path, ["precision.gradient_checkpointing=false"]), EMU3)
    assert kept.phase_peak("training") > 2 * one.phase_peak("training")
    full = load_stage(ROOT / "recipes" / "emu3" / "sft-s.toml")
    four, sixteen = (estimate(full, EMU3, devices=n).always["weights"] for n in (4, 16))
    assert four == 4 * sixteen == EMU3.parameters
    assert lengths_of(full).completion == 32 * 33 + 9 + 1


@pytest.mark.parametrize(("stage", "positions"), [("grpo", {"cpu": 256, "cuda": 1024}), ("sft-s", {})])
def test_blocks_of_logits_are_those_of_the_device(stage, positions):
    """Reinforcement takes smaller ones on a CPU; supervised stages the same everywhere."""

    def logits(named: str, **more) -> dict[str, float]:
        recipe = load_stage(ROOT / "recipes" / "emu3" / f"{stage}.toml", [f"run.device={named}"])
        rows = estimate(recipe, EMU3, devices=4, **more).phases["training"]
        return {name: size for name, size in rows.items() if name.startswith("logits")}

    for device in ("cpu", "cuda"):
        count = positions_of_block("grpo" if stage == "grpo" else "sft", device)
        assert count == positions.get(device, 1024)
        held = 2 * 4 + 2  # bytes of each logit: float32 twice, and bfloat16
        assert logits(device) == {f"logits, {count:,} positions at a time": count * 32_768 * held}
        assert logits("auto", device=device) == logits(device)
    assert logits("auto") == logits("cuda"), "what has no device yet is meant for a GPU"


def test_the_dry_run_counts_for_the_device_that_is_there(capsys, monkeypatch):
    words = ["train", "grpo", str(ROOT / "recipes" / "world" / "grpo.toml"), "--dry-run", "run.device=auto"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "logits, 256 positions at a time" in said and "(no GPU here)" in said
    assert "warning" not in said
    assert main([*words, "--memory", "80GiB", "rollouts.engine=vllm", "rollouts.top_p=0.8"]) == 0
    assert "warning: completions are drawn among what" in capsys.readouterr().out
    assert main([*words, "--memory", "80GiB"]) == 0
    assert "logits, 1,024 positions at a time" in capsys.readouterr().out
    assert main([*words[:-1], "run.device=cpu", "--memory", "80GiB"]) == 0
    assert "logits, 256 positions at a time" in capsys.readouterr().out


def test_what_does_not_divide_is_named():
    recipe = load_stage(ROOT / "recipes" / "emu3" / "sft-s.toml")
    with pytest.raises(ConfigError, match=r"batch\.micro_size x ranks = 4 x 3"):
        estimate(recipe, EMU3, devices=3)


def test_a_model_that_is_here_is_read_and_a_size_can_be_named(tmp_path, model_folder, capsys):
    path = str(ROOT / "recipes" / "emu3" / "one-gpu.toml")
    words = ["train", "grpo", path, "--dry-run", "--memory", "8GiB"]
    assert main([*words, f"model.start={model_folder}", "lora.rank=2"]) == 0
    here = capsys.readouterr().out
    count = sum(p.numel() for p in create_policy_of(model_folder).parameters())
    assert f"{count + shape_at(model_folder).lora_parameters(2, TARGETS):,} in all" in here
    assert main([*words, "model.start=runs/none/model", "--size", "tiny"]) == 0
    assert "size tiny" in capsys.readouterr().out
    assert main([*words, "--size", "huge"]) == 2
    assert "huge" in capsys.readouterr().err


def shape_at(folder: Path) -> PolicyShape:
    return PolicyShape.from_config(json.loads((folder / "policy" / "config.json").read_text()))


def create_policy_of(folder: Path):
    from earl.policy.loading import load_policy

    return load_policy(folder)


def test_the_tokenizers_dry_run(capsys):
    path = str(ROOT / "recipes" / "world" / "tokenizer.toml")
    assert main(["train", "tokenizer", path, "--dry-run", "--memory", "4GiB"]) == 0
    assert "activations are not estimated" in capsys.readouterr().out


def test_the_dry_run_of_a_tokenizer_that_exists_says_what_to_do_instead(capsys):
    words = ["train", "tokenizer", str(ROOT / "recipes" / "own" / "tokenizer.toml")]
    assert main([*words, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "memory of a new tokenizer only" in said and "model.start = world" in said
    assert "train without --dry-run, or check the recipe with --show" in said
    assert main([*words, "--show"]) == 0


def test_memory_sizes():
    assert bytes_of("80GiB") == 80 * GIB and bytes_of("141 GB") == 141e9 and bytes_of("1.5TB") == 1.5e12
    for wrong in ("lots", "-1GiB", "0", "8GX"):
        with pytest.raises(ConfigError, match="memory"):
            DryRunSettings(memory=wrong)


def test_sizes_of_the_catalogue():
    assert {model.parameters for model in KNOWN.values()} == {EMU3.parameters, 270_740_287}
    assert SIZES["8b"]["hidden_size"] == EMU3.hidden_size


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('prompts.families=["add", "colour"]', "unknown edit family 'colour'"),
        ('prompts.families=["add"]', ""),
        ("prompts.options.kind=few", "kind"),
        ("verifier.options.agrement=0.3", "'scene' does not take these options: got an unexpected keyword"),
        ("verifier.kind=no.such:Verifier", "cannot be loaded from no.such:Verifier"),
    ],
)
def test_a_dry_run_of_grpo_refuses_names_that_stand_for_nothing(override, said, capsys):
    recipe = str(ROOT / "recipes" / "world" / "grpo.toml")
    rc = main(["train", "grpo", recipe, override, "--dry-run", "--memory", "80GiB"])
    err = capsys.readouterr().err
    assert (rc, err.count("\n")) == ((2, 1) if said else (0, 0)) and said in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            'data.sources.world.families=["colour"]',
            "data.sources: .* no edits of 'colour'; did you mean 'color'",
        ),
        ("data.sources.world.group=complex", "data.sources: .* no edits of 'complex'; its groups are simple"),
        ('data.sources.world.families=["color"]', ""),
        ("data.wordings=nobody", "no wording function 'nobody'"),
    ],
)
def test_a_dry_run_of_sft_looks_into_the_cards_of_shards(override, said, tmp_path, capsys):
    card = {"families": {"add": 3, "color": 2}, "groups": {"simple": 5}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    recipe, path = str(ROOT / "recipes" / "world" / "sft.toml"), f"data.sources.world.path={tmp_path}"
    rc = main(["train", "sft", recipe, path, override, "--dry-run", "--memory", "800GiB"])
    assert rc == (2 if said else 0) and re.search(said, capsys.readouterr().err)


def test_a_dry_run_says_where_edits_have_no_family(tmp_path, capsys):
    (tmp_path / "card.json").write_text(json.dumps({"families": {"": 5}, "groups": {"simple": 5}}))
    recipe, path = str(ROOT / "recipes" / "own" / "grpo.toml"), f"prompts.path={tmp_path}"
    assert main(["train", "grpo", recipe, path, 'prompts.families=["add"]', "--dry-run"]) == 2
    assert "has no edits of 'add'; its families are not named" in capsys.readouterr().err


def test_a_dry_run_of_a_tokenizer_refuses_an_unknown_family(capsys):
    recipe = str(ROOT / "recipes" / "world" / "decoder.toml")
    words = ['images.families=["stak"]', "--dry-run", "--memory", "80GiB"]
    assert main(["train", "tokenizer", recipe, *words]) == 2
    assert "unknown edit family 'stak'" in capsys.readouterr().err
