"""SFT from recipe to model folder: learning, resuming, ranks, stopping."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file

from earl.config.recipe import load_recipe
from earl.config.stages import SftRecipe
from earl.data.shards import EditShards, load_shards
from earl.errors import ConfigError, DataError, OutputError, TrainingError
from earl.pages.run import write_run_page
from earl.policy.configs import SIZES
from earl.policy.loading import load_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.training import checkpoint
from earl.training.loop import Trainer
from earl.training.sft.tasks import SftTasks
from earl.training.sft.train import train_sft
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import save_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer
from stage_runs import largest_difference, records, run_script, weights

from .conftest import make_recipe, recipe_table

CAPTIONS = {"edit": 0, "caption_to_image": 0.4, "image_to_caption": 0.2, "identity": 0.4}

# Runs a recipe; with DIE_AT the process kills itself in the middle of that update.
SCRIPT = """
import os, signal, sys
from earl.config.recipe import load_recipe
from earl.config.stages import SftRecipe
from earl.data.stream import TokenStream
from earl.training.sft.train import train_sft

die_at, calls, draw = int(os.environ.get("DIE_AT", 0)), [0], TokenStream.__next__
def maybe_die(stream):
    calls[0] += 1
    if calls[0] == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(stream)
TokenStream.__next__ = maybe_die
train_sft(load_recipe(SftRecipe, sys.argv[1]))
"""


def test_a_run_leaves_a_model_a_log_and_its_recipe(plain_run: Path, room: Path) -> None:
    assert [line["step"] for line in records(plain_run)] == [1, 2, 3, 4, 5, 6]
    losses = [line["loss"] for line in records(plain_run)]
    assert losses[-1] < losses[0] - 0.3
    meta = json.loads((plain_run / "model" / "earl.json").read_text())
    assert meta["format"] == 1 and meta["vocabulary"]["codebook_size"] == 64
    assert (plain_run / "model" / "tokenizer.json").is_file()
    assert load_policy(plain_run / "model").config.vocab_size == meta["vocabulary"]["size"]
    resolved = load_recipe(SftRecipe, plain_run / "recipe.toml")
    assert resolved == make_recipe(recipe_table(room, plain_run))


def test_a_run_says_what_it_is_trained_on(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both groups by default; a group and a weight as the recipe has them."""
    table = recipe_table(room, tmp_path / "run")
    shards = load_shards(room / "train")
    rows = Counter(shards[row].group for row in range(len(shards)))
    both = table["data"]["sources"]["world"]
    table["data"]["sources"]["few"] = {**both, "group": "simple", "weight": 0.5}
    train_sft(make_recipe(table))
    said = capsys.readouterr().err
    assert f"data source world: {rows['complex']} complex, {rows['simple']} simple edits\n" in said
    assert f"data source few: {rows['simple']} simple edits, weight 0.5\n" in said


def test_kill_and_resume_equals_uninterrupted(plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path / "run")
    assert run_script(tmp_path, SCRIPT, make_recipe(table), die_at=6) == [-9]  # step 5 done, step 4 saved
    assert [line["step"] for line in records(tmp_path / "run")][-1] == 5
    train_sft(make_recipe(table))
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) == 0.0
    again, before = records(tmp_path / "run"), records(plain_run)
    assert [line["loss"] for line in again] == [line["loss"] for line in before]


def test_two_ranks_equal_one(plain_run: Path, room: Path, tmp_path: Path) -> None:
    recipe = make_recipe(recipe_table(room, tmp_path / "run"))
    assert run_script(tmp_path, SCRIPT, recipe, ranks=2) == [0, 0]
    last = checkpoint.load_snapshot(tmp_path / "run" / "checkpoints" / "step-00000006")
    assert len(last.state["streams"]) == 2, "there were two ranks, not two runs"
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) < 1e-5
    for two, one in zip(records(tmp_path / "run"), records(plain_run), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)


def test_ranks_that_share_muons_work_equal_one(room: Path, tmp_path: Path) -> None:
    tables = [recipe_table(room, tmp_path / name) for name in ("one", "two")]
    for table in tables:
        # A low rate for the matrices: where Muon computes in bfloat16, sums of another order show.
        table["optimiser"] = {"name": "muon", "learning_rate": 1e-3, "muon_learning_rate": 1e-4}
    train_sft(make_recipe(tables[0]))
    assert run_script(tmp_path, SCRIPT, make_recipe(tables[1]), ranks=2) == [0, 0]
    # Six such updates move a matrix's elements by 1e-4; one that no rank moved would show.
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5


def test_micro_batches_do_not_change_the_update(plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["batch"]["micro_size"] = 8
    train_sft(make_recipe(table))
    assert largest_difference(weights(tmp_path), weights(plain_run)) < 1e-5


def test_everything_at_once_resumes_exactly(room: Path, tmp_path: Path) -> None:
    """Muon, bf16, averages, shared sources, stitching: interrupted in process, then continued."""
    tables = []
    for name in ("whole", "cut"):
        table = recipe_table(room, tmp_path / name)
        table["optimiser"] = {"name": "muon", "learning_rate": 1e-3, "muon_learning_rate": 1e-2}
        table |= {"precision": {"compute": "bf16"}, "ema": {"decay": 0.9}}
        table["batch"]["share"], table["data"]["stitch"] = 2, True
        table["data"]["validation"] = str(room / "validation")
        table["validation"] = {"every": 3, "sequences": 16}
        tables.append(table)
    train_sft(make_recipe(tables[0]))
    tables[1]["length"]["max_steps"] = 3
    train_sft(make_recipe(tables[1]))
    tables[1]["length"]["max_steps"] = 6
    train_sft(make_recipe(tables[1]))
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "cut")) == 0.0
    whole, cut = records(tmp_path / "whole", "validation"), records(tmp_path / "cut", "validation")
    assert whole == cut and [line["step"] for line in whole] == [3, 6]
    assert 0 <= whole[-1]["greedy_exact"] <= whole[-1]["hit_kept"] <= 1
    average = load_file(tmp_path / "cut" / "checkpoints" / "step-00000006" / "average.safetensors")
    name = "model.norm.weight"
    assert torch.equal(average[f"policy.{name}"], weights(tmp_path / "cut")[name])


def test_full_disk_stops_with_the_last_checkpoint_intact(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_run: Path
) -> None:
    save, calls = checkpoint.save_file, []

    def fills_up(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save_file", fills_up)
    table = recipe_table(room, tmp_path)
    with pytest.raises(OutputError, match=r"step-00000004.*No space left"):
        train_sft(make_recipe(table))
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "checkpoints")] == ["step-00000002"]
    monkeypatch.setattr(checkpoint, "save_file", save)
    train_sft(make_recipe(table))
    assert largest_difference(weights(tmp_path), weights(plain_run)) == 0.0


def test_full_disk_at_the_end_costs_no_training(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_run: Path
) -> None:
    replace = os.replace

    def fills_up(source: Any, target: Any) -> None:
        if Path(target).name == "earl.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fills_up)
    with pytest.raises(OutputError, match=r"model.*No space left.*intact"):
        train_sft(make_recipe(recipe_table(room, tmp_path)))
    assert not [
        path
        for path in (tmp_path / "model").iterdir()
        if path.name.endswith((".json", ".tmp")) and "earl" in path.name
    ]
    monkeypatch.setattr(os, "replace", replace)
    report = train_sft(make_recipe(recipe_table(room, tmp_path)))
    assert report.step == 6 and len(records(tmp_path)) == 6, "nothing was trained again"
    assert (tmp_path / "model" / "earl.json").is_file()
    assert largest_difference(weights(tmp_path), weights(plain_run)) == 0.0


def test_early_stop_publishes_the_best_weights(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = {1: 1.0, 2: 0.5, 3: 0.6, 4: 0.7}
    monkeypatch.setattr(
        "earl.training.sft.validation.Validator.__call__", lambda self, step: {"loss": rising[step]}
    )
    table = recipe_table(room, tmp_path)
    table["data"]["validation"] = str(room / "validation")
    table |= {"validation": {"every": 1, "patience": 2}, "checkpoint": {"every": 100, "keep": 1}}
    report = train_sft(make_recipe(table))
    assert (report.step, report.best_step) == (4, 2) and "step 2" in report.reason
    best = load_file(tmp_path / "checkpoints" / "step-00000002" / "model.safetensors")
    for name, value in weights(tmp_path).items():
        assert torch.equal(best[f"policy.{name}"], value)


def test_a_folded_temperature_goes_on_with_the_training(plain_run: Path, room: Path, tmp_path: Path) -> None:
    shutil.copytree(plain_run / "model", tmp_path / "start")
    meta = json.loads((tmp_path / "start" / "earl.json").read_text())
    assert "temperature" not in meta
    (tmp_path / "start" / "earl.json").write_text(json.dumps({**meta, "temperature": 0.5, "reasoning": True}))
    table = recipe_table(room, tmp_path / "run")
    table["length"]["max_steps"] = 1
    table["model"] = {"start": str(tmp_path / "start")}
    train_sft(make_recipe(table))
    written = json.loads((tmp_path / "run" / "model" / "earl.json").read_text())
    assert written["temperature"] == 0.5
    assert "reasoning" not in written, "a start that reasons, trained to edit without"


def test_lora_leaves_the_base_alone(plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["model"] = {"start": str(plain_run / "model")}
    table["lora"] = {"rank": 2, "targets": ["q_proj", "down_proj"]}
    table["precision"]["gradient_checkpointing"] = True
    train_sft(make_recipe(table))
    saved = load_file(tmp_path / "checkpoints" / "step-00000006" / "model.safetensors")
    assert saved and all("lora" in name for name in saved)
    adapted, base = load_policy(tmp_path / "model" / "adapter"), load_policy(plain_run / "model")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        changed = (adapted(input_ids=ids).logits - base(input_ids=ids).logits).abs().max()
        with adapted.disable_adapter():
            assert torch.equal(adapted(input_ids=ids).logits, base(input_ids=ids).logits)
    assert changed > 1e-4


def test_gradient_checkpointing_changes_nothing(plain_run: Path, room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["precision"]["gradient_checkpointing"] = True
    train_sft(make_recipe(table))
    assert largest_difference(weights(tmp_path), weights(plain_run)) < 1e-6


def test_captions_and_copies_are_learnt_on_all_tokens(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path) | {"tasks": CAPTIONS}
    table["data"]["validation"] = str(room / "validation")
    table["validation"] = {"every": 6, "sequences": 9}
    train_sft(make_recipe(table))
    first, *_, last = records(tmp_path)
    assert last["text"] < first["text"] - 0.2 and last["visual"] < first["visual"] - 0.2
    assert "changed" not in first, "there is no edit among the tasks"
    assert "greedy_exact/identity" in records(tmp_path, "validation")[0]
    assert load_policy(tmp_path / "model") is not None


def test_shares_of_tasks_and_an_epoch(room: Path, tmp_path: Path) -> None:
    from earl.data.shards import load_shards

    table = recipe_table(room, tmp_path)
    table["tasks"] = {"edit": 0, "caption_to_image": 0.5, "identity": 0.5}
    sources = {"world": load_shards(room / "train")}
    mixture = tasks_of(table, sources).mixture
    assert mixture.names == ["identity:world", "caption_to_image:world"]
    assert mixture.epoch_size == pytest.approx(len(sources["world"]))


def tasks_of(table: dict[str, Any], sources: dict[str, Any]) -> SftTasks:
    recipe = make_recipe(table)
    return SftTasks(recipe, sources, TextTokenizer.from_folder(recipe.model.text_tokenizer))


def test_units_share_an_image(room: Path, tmp_path: Path) -> None:
    from earl.data.shards import load_shards

    table = recipe_table(room, tmp_path)
    table["batch"] = {"global_size": 8, "micro_size": 8, "share": 4}
    table["tasks"] = {"identity": 0.2, "answer": 0.5, "cover": 0.1, "edit": 0.2}
    sources = {"world": load_shards(room / "train")}
    shards, tasks = sources["world"], tasks_of(table, sources)
    units, mixture = tasks.units, tasks.mixture
    asked = [part for unit in units["answer:world"] for part in unit]
    assert sorted(asked) == [(row, number) for row in range(len(shards)) for number in (0, 1)]
    covers = [part for unit in units["cover:world"] for part in unit]
    finds = [(row, n) for row, n in sorted(asked) if shards[row].questions[n].startswith("find ")]
    assert sorted(covers) == finds and 0 < len(finds) < len(asked)
    for name in ("answer:world", "edit:world"):
        assert max(map(len, units[name])) == 4
        for unit in units[name]:
            assert len({shards[row].source for row, _ in unit}) == 1
    assert mixture.epoch_size == pytest.approx(len(shards.bundles(4))), "as many as bundles of edits"
    drawn = [next(mixture)[0] for _ in range(2000)]
    assert drawn.count("answer:world") / 2000 == pytest.approx(0.5, abs=0.05)


def test_answers_are_learnt(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["batch"] = {"global_size": 8, "micro_size": 8, "share": 4}
    table["tasks"] = {"answer": 0.4, "cover": 0.2, "edit": 0.4}
    table["data"]["validation"] = str(room / "validation")
    table["validation"] = {"every": 6, "sequences": 9}
    train_sft(make_recipe(table))
    first, *_, last = records(tmp_path)
    assert last["text"] < first["text"] - 0.2
    validation = records(tmp_path, "validation")[0]
    assert validation["text"] > 0 and {"greedy_exact/cover", "greedy_exact/edit"} <= set(validation)


def test_answers_need_questions(room: Path, tmp_path: Path) -> None:
    from earl.data.shards import load_shards, write_shard

    shards = load_shards(room / "train")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "shards.json").write_text((room / "train/shards.json").read_text())
    write_shard(bare, 0, [replace(shards[0], questions=(), answers=())], split="train")
    assert load_shards(bare).questions() == [[]]
    table = recipe_table(room, tmp_path)
    table["data"]["sources"] = {"world": {"path": str(bare)}}
    for task in ("answer", "cover"):
        table["tasks"] = {"edit": 0, "identity": 0.5, task: 0.5}
        with pytest.raises(DataError, match=rf"has no questions, which tasks\.{task} needs.*--questions"):
            train_sft(make_recipe(table))


def test_not_a_number_stops_the_run(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Trainer._update

    def poisoned(self: Trainer, batches: list[Any]) -> None:
        if self.step == 3:
            with torch.no_grad():
                next(self.objective.parameters())[:] = float("nan")
        return update(self, batches)

    monkeypatch.setattr(Trainer, "_update", poisoned)
    with pytest.raises(TrainingError, match=r"step 3.*learning_rate"):
        train_sft(make_recipe(recipe_table(room, tmp_path)))
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "checkpoints")] == ["step-00000002"]


def test_a_run_of_another_stage_is_named(plain_run: Path, room: Path) -> None:
    recipe = make_recipe(recipe_table(room, plain_run))
    other = recipe.model_copy(update={"stage": "grpo"})
    with pytest.raises(ConfigError, match=r"holds a run of stage 'sft'.*stage 'grpo'.*run\.folder="):
        train_sft(other)


def test_a_model_that_no_run_made_is_not_replaced(room: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match="holds a model and no run"):
        train_sft(make_recipe(recipe_table(room, tmp_path)))
    assert (tmp_path / "model" / "mine.txt").exists()


def test_a_recipe_that_no_run_wrote_is_not_replaced(room: Path, tmp_path: Path) -> None:
    """A person's own has comments."""
    (tmp_path / "recipe.toml").write_text("# mine\nstage = 'sft'\n")
    with pytest.raises(ConfigError, match=r"holds a recipe\.toml and no run.*run\.folder=runs/NAME"):
        train_sft(make_recipe(recipe_table(room, tmp_path)))
    assert (tmp_path / "recipe.toml").read_text().startswith("# mine")


def test_codes_of_another_vision_tokenizer_are_refused(room: Path, tmp_path: Path) -> None:
    """They are numbers of the same range and mean other images."""
    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=64), tmp_path / "vision", area=1024)
    table = recipe_table(room, tmp_path / "run")
    table["model"]["vision_tokenizer"] = str(tmp_path / "vision")
    with pytest.raises(DataError, match=r"train was encoded by another vision tokenizer \(mean colour\)"):
        train_sft(make_recipe(table))


def test_edits_that_cannot_be_written_are_told_before_a_step(room: Path, tmp_path: Path) -> None:
    """One of many would end a run when it is drawn, after hours."""
    shards = load_shards(room / "train")
    rows = shards.dataset.with_format(None).to_list()
    rows[3] |= {"target_codes": []}
    rows[5] |= {"reasoning": ""}
    table = recipe_table(room, tmp_path)
    tokenizer = TextTokenizer.from_folder(room / "text")
    made = EditShards(Dataset.from_list(rows), shards.manifest, "mine")
    with pytest.raises(DataError, match=rf"1 of {len(rows)} edits of world \(mine\) have no target image"):
        SftTasks(make_recipe(table), {"world": made}, tokenizer)
    table["data"]["reasoning"] = True
    made = EditShards(Dataset.from_list(rows[4:]), shards.manifest, "mine")
    with pytest.raises(DataError, match=r"1 of \d+ edits of world .* have no reasoning.*`earl reason make`"):
        SftTasks(make_recipe(table), {"world": made}, tokenizer)
    table["data"]["reasoning"], table["tasks"] = False, CAPTIONS
    SftTasks(make_recipe(table), {"world": made}, tokenizer)
    made = EditShards(Dataset.from_list([rows[4] | {"target_caption": ""}]), shards.manifest, "mine")
    with pytest.raises(DataError, match=r"1 of 1 edits of world .* have no target caption"):
        SftTasks(make_recipe(table), {"world": made}, tokenizer)


@pytest.mark.parametrize("limit", ["data.max_tokens", "positions"])
def test_sequences_that_are_left_out_are_counted(
    limit: str, plain_run: Path, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = recipe_table(room, tmp_path)
    sources = {"world": load_shards(room / "train")}
    tasks = SftTasks(make_recipe(table), sources, TextTokenizer.from_folder(room / "text"))
    lengths = sorted(len(tasks.encode("edit:world", row)[0]) for row in range(len(sources["world"])))
    table["length"], middle = {"max_steps": 1}, lengths[len(lengths) // 2]
    if limit == "positions":
        monkeypatch.setitem(SIZES["tiny"], "max_position_embeddings", middle)
    else:
        table["data"]["max_tokens"] = middle
    train_sft(make_recipe(table))
    assert records(tmp_path)[0]["left_out"] >= 1 and "left_out" not in records(plain_run)[0]


def test_missing_shards_are_named(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["data"]["sources"]["world"]["path"] = str(tmp_path / "none")
    with pytest.raises(DataError, match=r"none does not exist; make shards by `earl prepare`"):
        train_sft(make_recipe(table))


def test_held_back_edits_are_shown_and_change_nothing(room: Path, tmp_path: Path) -> None:
    """Before, target, edited at each validation and on the report's page; the weights are those without."""
    vision = create_vision_tokenizer(seed=0, codebook_size=64)
    save_vision_tokenizer(VisionTokenizer(vision, area=1024, codes_of="mean colour"), tmp_path / "vision")
    for images in (2, 0):
        table = recipe_table(room, tmp_path / str(images))
        table["length"] = {"max_steps": 2}
        table["model"] |= {"vision_tokenizer": str(tmp_path / "vision")}
        table["data"]["validation"] = str(room / "validation")
        table["validation"] = {"every": 1, "images": images}
        train_sft(make_recipe(table))
    sheets = sorted(path.name for path in (tmp_path / "2" / "images").iterdir())
    assert sheets == ["validation-00000001.png", "validation-00000002.png"]
    with Image.open(tmp_path / "2" / "images" / sheets[0]) as sheet:
        assert sheet.width == 2 * (3 * 288 + 4 * 12)  # two cells of three images each
    assert not (tmp_path / "0" / "images").exists()
    assert largest_difference(weights(tmp_path / "2"), weights(tmp_path / "0")) == 0
    page = write_run_page(tmp_path / "2", tmp_path / "page.html").read_text()
    assert "validation-00000002" in page
