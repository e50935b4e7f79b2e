"""Run folders of SFT: signals, damage, and what cannot be gone on with."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from earl.config.recipe import load_recipe
from earl.config.stages import SftRecipe
from earl.data.sums import digest_of
from earl.errors import ConfigError, Interrupted, OutputError
from earl.store import only_one
from earl.training.checkpoint import checkpoint_path
from earl.training.loop import Trainer
from earl.training.sft.train import train_sft
from earl.world.shards import WorldData, prepare_world
from stage_runs import MeanColour, largest_difference, records, weights

from .conftest import make_recipe, recipe_table


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("checkpoint", {"resume": False}, r"run\.folder.*checkpoint\.resume"),
        ("optimiser", {"learning_rate": 0.5}, r"learning_rate = 0\.5.*made with 0\.001.*model\.start"),
        ("model", {"size": "small"}, r"model\.size = 'small'"),
        ("lora", {"rank": 2}, r"lora\.alpha = 32\.0.*made without it"),
    ],
)
def test_a_run_goes_on_as_it_was_made_or_not_at_all(
    section: str, change: dict[str, Any], said: str, plain_run: Path, room: Path
) -> None:
    before = (plain_run / "recipe.toml").read_text(), (plain_run / "log.jsonl").read_text()
    table = recipe_table(room, plain_run)
    table[section] = table.get(section, {}) | change
    with pytest.raises(ConfigError, match=said):
        train_sft(make_recipe(table))
    assert before == ((plain_run / "recipe.toml").read_text(), (plain_run / "log.jsonl").read_text())


def test_a_longer_run_is_noted(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = recipe_table(room, tmp_path)
    table["length"]["max_steps"] = 2
    train_sft(make_recipe(table))
    table["length"]["max_steps"] = 4
    assert train_sft(make_recipe(table)).step == 4
    assert "length.max_steps was 2 until step 2 and is 4 from here on" in capsys.readouterr().err
    starts = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert starts[1]["changed"] == {"length.max_steps": [2, 4]} and "changed" not in starts[0]
    assert load_recipe(SftRecipe, tmp_path / "recipe.toml").length.max_steps == 4


def test_inputs_that_changed_meanwhile_are_told(
    plain_run: Path, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other weights under the start's name, other edits in a source's folder: as many as before."""
    shutil.copytree(plain_run / "model", tmp_path / "start")
    shutil.copytree(room / "train", tmp_path / "data")
    table = recipe_table(room, tmp_path / "run") | {"model": {"start": str(tmp_path / "start")}}
    table["data"]["sources"]["world"]["path"] = str(tmp_path / "data")
    table |= {"length": {"max_steps": 1}, "lora": {"rank": 2}}
    train_sft(make_recipe(table))
    capsys.readouterr()
    table["length"]["max_steps"] = 2
    train_sft(make_recipe(table))
    assert "contents" not in (said := capsys.readouterr().err) and "weights" not in said
    before = digest_of(tmp_path / "data")
    assert before == digest_of(room / "train"), "wherever they lie"
    sums = next((tmp_path / "data").glob("shard-*/checksums.json"))
    sums.write_text(json.dumps({**json.loads(sums.read_text()), "more.arrow": "00"}))
    assert digest_of(tmp_path / "data") != before
    shutil.rmtree(tmp_path / "data")
    prepare_world(tmp_path / "data", MeanColour(), WorldData(sources=40, resolution=40))
    policy = tmp_path / "start" / "policy" / "model.safetensors"
    save_file({name: tensor + 1e-3 for name, tensor in load_file(policy).items()}, policy)
    table["length"]["max_steps"] = 3
    train_sft(make_recipe(table))
    said = capsys.readouterr().err
    assert re.search(r"contents of data\.world was '\w+' until step 2 and is '\w+' from here on", said)
    assert re.search(r"weights of model\.start was '[\w.]+' until step 2 and is", said)


def test_what_kills_left_is_cleared_away(room: Path, tmp_path: Path) -> None:
    left = [
        tmp_path / name for name in (".partial-1-recipe.toml", "model/.partial-2-vision/model.safetensors")
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    train_sft(make_recipe(recipe_table(room, tmp_path)))
    assert not list(tmp_path.rglob(".partial-*"))


@pytest.mark.parametrize("part", ["checkpoints", "model", "images", "tensorboard"])
@pytest.mark.parametrize("link", [True, False])
def test_a_file_in_the_place_of_a_runs_folders_is_refused_before_a_step(
    part: str, link: bool, room: Path, tmp_path: Path
) -> None:
    place = tmp_path / "run" / part
    place.parent.mkdir()
    place.symlink_to("/no/where") if link else place.write_text("x")
    with pytest.raises(OutputError, match=f"{part} is a (link to nothing|file where)"):
        train_sft(make_recipe(recipe_table(room, tmp_path / "run")))
    assert [path.name for path in place.parent.iterdir()] == [part]


def test_two_trainings_in_one_folder_are_refused(room: Path, tmp_path: Path) -> None:
    recipe = make_recipe(recipe_table(room, tmp_path))
    with only_one(tmp_path), pytest.raises(OutputError, match="another process works in"):
        train_sft(recipe)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_run_whose_folder_is_removed_stops_with_a_sentence(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, update = tmp_path / "run", Trainer._update

    def removing(self: Trainer, batches: list[Any]) -> None:
        update(self, batches)
        if self.step == 3:
            shutil.rmtree(folder)

    monkeypatch.setattr(Trainer, "_update", removing)
    with pytest.raises(OutputError, match="run was removed or replaced while this command worked in it"):
        train_sft(make_recipe(recipe_table(room, folder)))
    assert not folder.exists()


@pytest.mark.parametrize("place", ["file", "link", "read-only"])
def test_a_folder_that_cannot_be_written_is_refused_before_work(
    place: str, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("earl.training.sft.train.assemble_policy", lambda *_: pytest.fail("work was begun"))
    folder = tmp_path / "run"
    if place == "file":
        folder.write_text("")
    elif place == "link":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()

        def denied(*_: Any, **__: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(OutputError, match=r"run"):
        train_sft(make_recipe(recipe_table(room, folder)))


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    plain_run: Path, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(plain_run, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "step-00000006" / "optimiser.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 8
    file.write_bytes(damaged)
    train_sft(make_recipe(recipe_table(room, tmp_path / "run")))
    said = capsys.readouterr().err
    assert "step-00000006/optimiser.safetensors is damaged" in said and "continuing after step 4" in said
    assert largest_difference(weights(tmp_path / "run"), weights(plain_run)) == 0.0


@pytest.mark.parametrize(("number", "code", "name"), [(2, 130, "Ctrl-C"), (15, 143, "SIGTERM")])
def test_a_signal_ends_a_run_with_a_checkpoint_and_no_model(
    number: int, code: int, name: str, plain_run: Path, room: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    step = Trainer.train_step

    def interrupted(self: Trainer) -> str | None:
        if self.step == 3:
            os.kill(os.getpid(), number)
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    table = recipe_table(room, tmp_path)
    table["data"]["validation"] = str(room / "validation")
    table["validation"], table["run"]["log_every"] = {"every": 3, "sequences": 4}, 4
    recipe = make_recipe(table)
    with pytest.raises(Interrupted, match=rf"stopped by {name} after step 3 of 6.*goes on") as ended:
        train_sft(recipe)
    assert ended.value.exit_code == code and not (tmp_path / "model").exists()
    assert not records(tmp_path, "validation"), "it does not keep a user waiting"
    monkeypatch.undo()
    train_sft(recipe)
    assert largest_difference(weights(tmp_path), weights(plain_run)) == 0.0
    assert [line["step"] for line in records(tmp_path, "validation")] == [3, 6]
    norms = [line["gradient_norm"] for line in records(plain_run)]
    means = {line["step"]: line["gradient_norm"] for line in records(tmp_path)}
    assert means == {4: pytest.approx(sum(norms[:4]) / 4), 6: pytest.approx(sum(norms[4:]) / 2)}


def test_patience_that_comes_later_watches_what_comes(room: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The best step so far has no checkpoint then: it is not published, and does not end the run."""
    losses = {1: 0.1, 2: 0.5, 3: 0.6, 4: 0.55, 5: 0.7, 6: 0.8}
    monkeypatch.setattr(
        "earl.training.sft.validation.Validator.__call__", lambda self, step: {"loss": losses[step]}
    )
    table = recipe_table(room, tmp_path)
    table["data"]["validation"] = str(room / "validation")
    table["validation"], table["length"] = {"every": 1, "sequences": 4}, {"max_steps": 3}
    assert train_sft(make_recipe(table)).best_step == 1
    table["validation"]["patience"], table["length"] = 2, {"max_steps": 6}
    result = train_sft(make_recipe(table))
    assert result.step == 6 and result.best_step == 4
    best = load_file(checkpoint_path(tmp_path / "checkpoints", 4) / "model.safetensors")
    assert all(torch.equal(best[f"policy.{name}"], tensor) for name, tensor in weights(tmp_path).items())
