"""Preference tuning from pairs on disk to a model folder: data, objective against its plain twin, runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from earl.cli import main
from earl.config.data import PreparationSettings, SourceSettings
from earl.config.recipe import check
from earl.config.sections import Lora
from earl.config.stages import Dpo, DpoRecipe
from earl.data.collate import collate
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.errors import ConfigError, DataError
from earl.models.shapes import EMU3
from earl.policy.loading import create_policy
from earl.policy.saving import save_policy
from earl.sequence.kinds import Kind
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.training.dpo.objective import (
    DpoObjective,
    completion_sums,
    pair_batch,
    pair_examples,
    with_reference,
)
from earl.training.dpo.train import train_dpo
from earl.training.estimate import estimate
from earl.training.reference import Reference
from earl.world.rendering import render
from earl.world.tasks import all_texts, sample_task
from stage_runs import MeanColour, largest_difference, records, weights


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, and 12 pairs: the task's target is preferred to an image in red."""
    folder = tmp_path_factory.mktemp("dpo")
    tokenizer = train_text_tokenizer(all_texts(np.random.default_rng(0), 200), size=400, codebook_size=64)
    save_policy(create_policy("tiny", tokenizer.vocabulary, seed=0), folder / "model" / "policy")
    tokenizer.save(folder / "model")
    meta = {"format": 1, "vocabulary": tokenizer.vocabulary.to_dict(), "origin": "a test"}
    (folder / "model" / "earl.json").write_text(json.dumps(meta))
    rows = []
    for number in range(12):
        task = sample_task(number)
        images = {"source": render(task.source), "preferred": render(task.target)}
        for name, pixels in images.items():
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number}-{name}.png")
        Image.new("RGB", (32, 32), (200, 20 + number, 20)).save(folder / f"{number}-other.png")
        files = {name: f"{number}-{name}.png" for name in (*images, "other")}
        rows.append({**files, "instruction": task.instruction})
    (folder / "choices.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shards(folder / "choices.jsonl", folder / "pairs")
    return folder


def shards(source: Path, out: Path) -> None:
    settings = PreparationSettings(area=32 * 32, shard_rows=8)
    prepare_source(open_source(str(source), SourceSettings()), out, MeanColour(), settings)


def table(room: Path, folder: Path) -> dict[str, Any]:
    return {
        "stage": "dpo",
        "run": {"folder": str(folder), "device": "cpu", "tracker": "none", "log_every": 1, "threads": 1},
        "length": {"max_steps": 6},
        "batch": {"global_size": 4, "micro_size": 2},
        "optimiser": {"learning_rate": 1e-3, "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "precision": {"compute": "float32"},
        "checkpoint": {"every": 2, "keep": 5},
        "model": {"start": str(room / "model")},
        "data": {"sources": {"choices": {"path": str(room / "pairs")}}},
    }


def test_choices_become_pairs_of_codes(room: Path) -> None:
    """Over two shards; the other image has the code of its colour in every cell."""
    pairs = load_shards(room / "pairs")
    assert len(pairs) == 12 and pairs.without_pair() == 0
    edit = pairs[9]
    (code,) = set(edit.other_codes.ravel().tolist())
    assert code == 200 // 64 * 16 and edit.other_codes.shape == edit.source_codes.shape == (4, 4)
    with Image.open(room / "9-preferred.png") as target:
        assert np.array_equal(edit.target_codes, MeanColour().encode([target])[0])


def test_a_pair_without_a_preferred_image_is_refused(room: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (room / "choices.jsonl").read_text().splitlines()]
    rows = [{**row, **{k: str(room / row[k]) for k in ("source", "preferred", "other")}} for row in rows]
    del rows[0]["preferred"]
    (tmp_path / "choices.json").write_text(json.dumps(rows))
    settings = PreparationSettings(area=32 * 32, max_rejected=0.5)
    prepare_source(
        open_source(str(tmp_path / "choices.json"), SourceSettings()), tmp_path / "s", MeanColour(), settings
    )
    assert "no target that is better" in (tmp_path / "s" / "rejected.jsonl").read_text()
    assert len(load_shards(tmp_path / "s")) == 11


def test_objective_equals_the_plain_twin(room: Path) -> None:
    """Shared prompts against two whole sequences, each scored alone from full logits."""
    tokenizer = TextTokenizer.from_folder(room / "model")
    policy, start = (create_policy("tiny", tokenizer.vocabulary, seed=seed) for seed in (1, 2))
    recipe = check(DpoRecipe, table(room, room / "unused"))
    settings = Dpo(beta=0.3)
    pairs = load_shards(room / "pairs")
    bundles = [pair_examples(pairs[row], tokenizer) for row in (0, 5, 11)]
    batch = pair_batch(collate(bundles, tokenizer.vocabulary.pad))
    for sharing in ("cache", "mask"):
        objective = DpoObjective(
            policy, tokenizer.vocabulary, recipe.precision, settings=settings, sharing=sharing
        )
        (scored,) = with_reference(objective, Reference(start), [batch], torch.device("cpu"))
        losses = objective(scored)
        policy.zero_grad()
        losses.total.backward()
        got = policy.lm_head.weight.grad.clone()
        policy.zero_grad()
        total = torch.zeros(())
        for bundle in bundles:
            logp = [[_plain(model, e, tokenizer) for e in bundle] for model in (policy, start)]
            gains = [(logp[0][i] - logp[1][i].detach()) for i in (0, 1)]
            total = total - torch.nn.functional.logsigmoid(0.3 * (gains[0] - gains[1]))
        total.backward()
        assert losses.total.item() == pytest.approx(total.item(), rel=1e-5)
        assert torch.allclose(got, policy.lm_head.weight.grad, atol=1e-5)
        assert scored.active == 3 and losses.metrics["loss"][1] == 3


def _plain(model: Any, example: Any, tokenizer: TextTokenizer) -> torch.Tensor:
    """Log-probability of a completion: full logits, softmax over the visual columns."""
    ids = torch.from_numpy(example.ids.astype(np.int64))[None]
    logits = model(ids).logits[0]
    first = tokenizer.vocabulary.first_visual
    total = torch.zeros(())
    for place in np.flatnonzero(example.kinds):
        logp = torch.log_softmax(logits[place - 1, first : tokenizer.vocabulary.size], dim=0)
        total = total + logp[ids[0, place] - first]
    return total


def test_sums_of_rows_in_turn() -> None:
    logprobs_BT = torch.tensor([[0.0, -1.0, -2.0], [0.0, -4.0, 0.0], [-1.0, -1.0, -1.0], [0.0, 0.0, -0.5]])
    assert completion_sums(logprobs_BT).tolist() == [[-3.0, -4.0], [-3.0, -0.5]]


def test_a_run_learns_the_preference_and_goes_on_where_it_was_cut(room: Path, tmp_path: Path) -> None:
    settings = table(room, tmp_path / "whole")
    settings["data"]["validation"] = str(room / "pairs")
    settings["validation"] = {"every": 3, "sequences": 5}
    train_dpo(check(DpoRecipe, settings))
    lines = records(tmp_path / "whole")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5) and lines[0]["margin"] == pytest.approx(0)
    assert lines[-1]["margin"] > 0.5 and lines[-1]["accuracy"] == 1
    validated = records(tmp_path / "whole", split="validation")
    assert [line["step"] for line in validated] == [3, 6] and validated[-1]["accuracy"] == 1
    cut = {**table(room, tmp_path / "cut"), "length": {"max_steps": 2}}
    train_dpo(check(DpoRecipe, cut))
    train_dpo(check(DpoRecipe, table(room, tmp_path / "cut")))
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "cut")) == 0
    assert [line["loss"] for line in records(tmp_path / "cut")] == [line["loss"] for line in lines]


def test_an_adapter_begins_at_no_margin(room: Path, tmp_path: Path) -> None:
    settings = {**table(room, tmp_path / "run"), "lora": {"rank": 4}, "length": {"max_steps": 3}}
    train_dpo(check(DpoRecipe, settings))
    lines = records(tmp_path / "run")
    assert lines[0]["margin"] == pytest.approx(0, abs=1e-5) and lines[-1]["margin"] > 0
    assert (tmp_path / "run" / "model" / "adapter").is_dir()


def test_edits_that_are_no_pairs_are_refused(room: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (room / "choices.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("other")
    (room / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shards(room / "edits.jsonl", tmp_path / "edits")
    settings = table(room, tmp_path / "run")
    settings["data"]["sources"]["choices"]["path"] = str(tmp_path / "edits")
    with pytest.raises(DataError, match=r"12 of 12 edits of choices .* are no pairs"):
        train_dpo(check(DpoRecipe, settings))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("batch", {"share": 2}, "batch.share is for SFT"),
        ("model", {"start": None, "size": "tiny", "text_tokenizer": "x"}, "model.start is missing"),
        ("validation", {"patience": 2}, "needs data.validation"),
        ("dpo", {"beta": 0.0}, "beta"),
    ],
)
def test_settings_that_do_not_fit(room: Path, section: str, change: dict[str, Any], message: str) -> None:
    settings = table(room, room / "unused")
    settings[section] = {**settings.get(section, {}), **change}
    with pytest.raises(ConfigError, match=message):
        check(DpoRecipe, settings)


def test_the_command_trains_a_model(room: Path, tmp_path: Path) -> None:
    settings = {**table(room, tmp_path / "run"), "length": {"max_steps": 1}}
    path = settings.pop("data")["sources"]["choices"]["path"]
    lines = [
        f"data.sources.choices.path = {json.dumps(path)}",
        f"stage = {json.dumps(settings.pop('stage'))}",
    ]
    lines += [f"{at}.{key} = {json.dumps(to)}" for at, of in settings.items() for key, to in of.items()]
    (tmp_path / "dpo.toml").write_text("\n".join(lines))
    assert main(["train", "dpo", str(tmp_path / "dpo.toml")]) == 0
    assert (tmp_path / "run" / "model" / "earl.json").is_file()


def test_estimate_counts_two_completions_a_pair_and_a_reference(room: Path) -> None:
    recipe = check(DpoRecipe, table(room, room / "unused"))
    found = estimate(recipe, EMU3)
    assert found.always["reference policy"] == EMU3.parameters * 4
    assert found.flops["reference"] < found.flops["training"]
    adapted = estimate(recipe.replace(lora=Lora(rank=8)), EMU3)
    assert "reference policy" not in adapted.always


def test_the_two_sequences_of_a_pair_share_all_but_the_completion(room: Path) -> None:
    tokenizer = TextTokenizer.from_folder(room / "model")
    first, second = pair_examples(load_shards(room / "pairs")[0], tokenizer)
    prompt = first.prefix + 1
    assert first.prefix == second.prefix and np.array_equal(first.ids[:prompt], second.ids[:prompt])
    assert (first.kinds[:prompt] == 0).all() and not np.array_equal(first.ids, second.ids)
    assert len(first) == len(second)


def test_stitched_edits_repeat_the_source_where_they_change_nothing(room: Path) -> None:
    tokenizer = TextTokenizer.from_folder(room / "model")
    edit = load_shards(room / "pairs")[0]
    changed = np.zeros((4, 4), bool)
    changed[0, 0] = True
    edit = replace(edit, changed=changed, other_changed=changed)
    for example, codes in zip(
        pair_examples(edit, tokenizer, stitched=True), (edit.target_codes, edit.other_codes), strict=True
    ):
        written = (example.ids[example.kinds == Kind.VISUAL] - tokenizer.vocabulary.first_visual).reshape(
            4, 4
        )
        assert written[0, 0] == codes[0, 0]
        assert np.array_equal(written[~changed], edit.source_codes[~changed])
