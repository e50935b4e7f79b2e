"""Commands from end to end, and bad input: one clear sentence, exit code not 0, nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from said import one_sentence

from earl.cli import main


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.png"
    Image.new("RGB", (64, 64), (90, 160, 80)).save(path)
    return path


@pytest.fixture
def edit(model_folder, source, tmp_path):
    """Runs `earl edit`; returns (exit code, output path)."""
    out = tmp_path / "out.png"

    def run(*extra, picture=source, text="make the red cube blue", model=model_folder):
        words = ["edit", str(picture), text, "-o", str(out), "--model", str(model), "--device", "cpu", *extra]
        return main(words), out

    return run


def test_edit_writes_a_image_and_says_so(edit, capsys):
    code, out = edit("--seed", "4")
    assert code == 0
    assert Image.open(out).size == (64, 64)
    said = capsys.readouterr().out
    assert str(out) in said
    assert "seed 4" in said


def test_edit_json_and_several_images(edit, capsys):
    code, out = edit("--num-images", "2", "--seed", "5", "--json")
    assert code == 0
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == [str(out.with_stem("out-1")), str(out.with_stem("out-2"))]
    assert record["seeds"] == [5, 6]
    assert all(Image.open(path).size == (64, 64) for path in record["images"])
    assert record["finish_reasons"] == ["stop", "stop"]


def test_edit_with_a_mask_leaves_the_rest_alone(edit, source, tmp_path, capsys):
    Image.effect_noise((128, 128), 90).convert("RGB").save(source)
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (0, 0, 48, 128))
    mask.save(tmp_path / "mask.png")
    code, out = edit("--mask", str(tmp_path / "mask.png"), "--before-after")
    assert code == 0
    before, after = (np.asarray(Image.open(path), int) for path in (source, out))
    assert before.shape == after.shape
    assert (before[:, 72:] == after[:, 72:]).all() and np.abs(before - after)[:, :40].mean() > 10
    capsys.readouterr()
    Image.new("L", (64, 64)).save(tmp_path / "mask.png")
    assert edit("--mask", str(tmp_path / "mask.png"), "--force")[0] == 2
    assert "the mask has 64x64 pixels, the image 128x128" in one_sentence(capsys)
    assert edit("--mask", str(tmp_path / "mask.png"), picture=tmp_path)[0] == 2
    assert "mask belongs to one image" in capsys.readouterr().err


def test_edit_with_guidance(edit, capsys):
    _, out = edit("--greedy")
    plain = out.read_bytes()
    assert edit("--greedy", "--force", "--guidance", "4")[0] == 0
    led = out.read_bytes()
    assert led != plain
    from_text = ["--greedy", "--force", "--guidance", "4", "--negative-instruction"]
    assert edit(*from_text, "keep the picture as it is")[0] == 0
    assert out.read_bytes() == led
    assert edit(*from_text, "make the red cube blue")[0] == 0
    assert out.read_bytes() == plain  # led away from what is asked itself
    capsys.readouterr()
    for words, said in [
        (["--negative-instruction", "add a cone"], "--negative-instruction names what guidance"),
        (["--guidance", "2", "--negative-instruction", " "], "is empty"),
        (["--guidance", "0.5"], "0.5: expected 1 to 100"),
        (["--guidance", "nan"], "nan: expected 1 to 100"),
    ]:
        assert edit("--force", *words)[0] == 2
        assert said in one_sentence(capsys)
    assert out.read_bytes() == plain


def test_edit_with_reasoning_shows_the_text_and_its_boxes(edit, capsys, monkeypatch):
    from dataclasses import replace

    from earl.pipeline import EditPipeline

    texts = ("1. Grass. 3. The region is [8, 16, 40, 48], [0, 0, 8, 8].", "no region at all")
    edit_many = EditPipeline.edit_many  # an untrained model names no boxes: these words are put in its mouth
    monkeypatch.setattr(
        EditPipeline,
        "edit_many",
        lambda *a, **k: [
            replace(result, reasoning=texts[: k["num_images"]]) for result in edit_many(*a, **k)
        ],
    )
    code, out = edit("--reasoning", "--num-images", "2", "--seed", "1")
    said = capsys.readouterr()
    if code:  # it may write no image; the text is there all the same
        assert "wrote no image" in said.err
    else:
        assert f"reasoning: {texts[0]}" in said.out and f"reasoning: {texts[1]}" in said.out
    boxed = Image.open(out.with_stem("out-1-boxes"))
    assert boxed.size == (512, 512)
    assert boxed.getpixel((64, 256)) == (220, 38, 38) and boxed.getpixel((319, 383)) == (220, 38, 38)
    assert boxed.getpixel((63, 40)) == (37, 99, 235)
    assert boxed.getpixel((200, 300)) == pytest.approx((90, 160, 80), abs=1)
    assert not out.with_stem("out-2-boxes").exists()
    assert edit("--reasoning", "--num-images", "2")[0] == 2
    assert "exists already" in capsys.readouterr().err


def test_files_that_another_edit_made_meanwhile_are_left(edit, tmp_path, capsys, monkeypatch):
    from earl.pipeline import EditPipeline

    edit_many, others = EditPipeline.edit_many, [tmp_path / f"out{n}.png" for n in ("", "-before-after")]
    monkeypatch.setattr(
        EditPipeline,
        "edit_many",
        lambda *a, **k: ([path.write_text("other") for path in others], edit_many(*a, **k))[1],
    )
    code, _ = edit("--before-after", "--json")
    assert code == 0 and [path.read_text() for path in others] == ["other", "other"]
    said = capsys.readouterr()
    assert said.err.count("was written by another edit meanwhile and is kept") == 2
    (written,) = json.loads(said.out)["images"]
    assert Path(written).parent == tmp_path and Path(written) not in others
    assert Image.open(written).size == (64, 64)
    assert len(list(tmp_path.glob("out-before-after-*.png"))) == 1


def test_same_seed_same_file(edit):
    _, out = edit("--seed", "1")
    first = out.read_bytes()
    edit("--seed", "1", "--force")
    assert out.read_bytes() == first
    edit("--seed", "2", "--force")
    assert out.read_bytes() != first


def test_edit_does_not_overwrite(edit, capsys):
    _, out = edit()
    before = out.read_bytes()
    capsys.readouterr()
    code, _ = edit("--seed", "8")
    assert code == 2
    assert "--force" in one_sentence(capsys)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (None, "missing.png"),
        (b"", "empty.png"),
        (b"not an image at all", "text.png"),
        (b"\x89PNG\r\n", "cut.png"),
    ],
)
def test_images_that_are_none(edit, tmp_path, capsys, content, name):
    picture = tmp_path / name
    if content is not None:
        picture.write_bytes(content)
    code, out = edit(picture=picture)
    assert code != 0
    assert name in one_sentence(capsys)
    assert not out.exists()


def test_a_folder_as_image(edit, tmp_path, capsys):
    code, _ = edit(picture=tmp_path)
    assert code != 0
    one_sentence(capsys)


def test_a_truncated_image(edit, source, capsys):
    Image.effect_noise((64, 64), 90).save(source)
    source.write_bytes(source.read_bytes()[:700])
    code, _ = edit()
    assert code != 0
    one_sentence(capsys)


def test_absurd_aspect(edit, tmp_path, capsys):
    Image.new("RGB", (2000, 10)).save(tmp_path / "long.png")
    code, _ = edit(picture=tmp_path / "long.png")
    assert code != 0
    assert "2000" in one_sentence(capsys)


def test_empty_instruction(edit, capsys):
    code, _ = edit(text="  ")
    assert code != 0
    assert "empty" in one_sentence(capsys)


def test_special_token_text_is_only_text(edit):
    code, out = edit(text="<|image start|>64*64<|image token|> <|extra_204|>")
    assert code == 0
    assert Image.open(out).size == (64, 64)


def test_no_such_model(edit, tmp_path, capsys):
    code, _ = edit(model=tmp_path / "nothing")
    assert code != 0
    assert "nothing" in one_sentence(capsys)


def test_a_folder_that_is_no_model(edit, tmp_path, capsys):
    code, _ = edit(model=tmp_path)
    assert code != 0
    one_sentence(capsys)


@pytest.mark.parametrize("part", ["policy", "vision"])
@pytest.mark.parametrize("damage", ["truncated", "gone", "pickled"])
def test_damaged_weights(edit, model_folder, tmp_path, capsys, part, damage):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    weights = folder / part / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    else:
        weights.unlink()
    if damage == "pickled":
        (folder / part / "pytorch_model.bin").write_bytes(b"\x80\x04")
    code, out = edit(model=folder)
    assert code != 0
    one_sentence(capsys)
    assert not out.exists()


def test_missing_tokenizer(edit, model_folder, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "tokenizer.json").unlink()
    code, _ = edit(model=folder)
    assert code != 0
    assert "tokenizer" in one_sentence(capsys)


def test_best_of_goes_with_one_image_only(edit, capsys):
    code, _ = edit("--best-of", "3", "--num-images", "2")
    assert code == 2
    one_sentence(capsys)


def test_models_lists_the_released_ones(capsys):
    assert main(["models"]) == 0
    assert "mair-lab/earl-sft-simple.rl-simple-n-complex-scaled" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} >= {"world", "mair-lab/sft-simple"}


@pytest.fixture(scope="module")
def world_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    assert main(["world", "sample", "--num", "2", "--families", "color", "-o", str(folder)]) == 0
    task = json.loads((folder / "tasks.json").read_text())[0]
    return str(folder / task["source"]), str(folder / task["target"]), task["instruction"]


def test_verify_a_right_and_a_missing_edit(world_images, capsys):
    source, target, instruction = world_images
    assert main(["verify", source, target, instruction, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"] >= 9
    assert main(["verify", source, source, instruction]) == 0
    overall = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("overall"))
    assert float(overall.split()[-1]) <= 3


def test_verify_what_cannot_be_judged(world_images, source, capsys):
    picture, target, _ = world_images
    assert main(["verify", picture, target, "sing a song"]) == 2
    assert "sing a song" in one_sentence(capsys)
    assert main(["verify", picture, str(source.with_name("none.png")), "make it night"]) == 2
    one_sentence(capsys)


def test_best_of_draws_several_and_keeps_one(edit, world_images, capsys):
    picture, _, instruction = world_images
    code, out = edit("--best-of", "2", "--best-by", "scene", "--json", picture=picture, text=instruction)
    assert code == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["seeds"]) == len(record["images"]) == 1
    assert 0 <= record["scores"]["overall"] <= 10
    assert Image.open(out).size == (64, 64)


def test_best_of_refuses_before_sampling_what_the_verifier_cannot_read(edit, capsys):
    code, out = edit("--best-of", "2", "--best-by", "scene", text="sing a song")
    assert code == 2
    one_sentence(capsys)
    assert not out.exists()


def test_evaluate_prints_a_table_and_writes_the_same_numbers(model_folder, tmp_path, capsys):
    file = tmp_path / "report.json"
    words = ["evaluate", "world", "--num", "2", "--json", str(file), "--model", str(model_folder)]
    assert main([*words, "--device", "cpu", "--families", "color", "--results"]) == 0
    report = json.loads(file.read_text())
    color = report["families"]["color"]
    assert sum(color["outcomes"].values()) == color["judged"] == report["groups"]["simple"]["n"] == 2
    assert 0 <= report["all"]["scores"]["exact"]["mean"] <= 1
    shown = capsys.readouterr().out
    assert "95%" in shown
    row = shown.splitlines()[-2].split()
    assert row[:2] == ["all", "2"] and sum(map(float, row[2:])) == 1.0, "the shares of what the edits did"
    assert main(words) == 2  # the file is there now
    assert "--force" in one_sentence(capsys)


def test_demo(model_folder, tmp_path, capsys):
    words = ["demo", "-o", str(tmp_path / "demo.png"), "--model", str(model_folder), "--device", "cpu"]
    assert main(words) == 0
    assert main(words) == 0  # its own image is replaced
    assert "verifier's score" in capsys.readouterr().out
    assert Image.open(tmp_path / "demo.png").width > 500


def test_demo_of_what_the_world_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--device", "cpu", "--instruction", "make the zeppelin blue"]) == 0
    said = capsys.readouterr()
    assert said.err.count("warning: ") == 2 and "its language lacks 'zeppelin'" in said.err
    assert "nothing was changed" in said.err
    assert main(["demo", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "10.0 of 10" in said.out and "reasoning: orange chest back left: blue chest" in said.out


RECIPE = """
stage = "sft"
[run]
folder = "{folder}"
[length]
max_steps = 2
[batch]
global_size = 4
micro_size = 2
[optimiser]
learning_rate = 1e-3
[model]
start = "{model}"
[data.sources.world]
path = "{folder}/data"
"""


def recipe(tmp_path, text=RECIPE):
    path = tmp_path / "recipe.toml"
    path.write_text(text.format(folder=tmp_path, model=tmp_path))
    return str(path)


def test_a_recipe_is_shown_resolved(tmp_path, capsys):
    assert main(["train", "sft", recipe(tmp_path), "run.seed=7", "--show"]) == 0
    shown = capsys.readouterr().out
    assert "seed = 7" in shown
    assert "weight_decay" in shown


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("optimiser.lerning_rate=1e-3", "learning_rate"),
        ("batch.micro_size=3", "batch.micro_size"),
        ("run.seed=-1", "run.seed"),
        ("nonsense", "key.sub=value"),
    ],
)
def test_wrong_settings(tmp_path, capsys, override, hint):
    assert main(["train", "sft", recipe(tmp_path), override]) == 2
    assert hint in one_sentence(capsys)


def test_recipes_that_are_missing_or_for_another_stage(tmp_path, capsys):
    assert main(["train", "sft", str(tmp_path / "none.toml")]) == 2
    one_sentence(capsys)
    assert main(["train", "tokenizer", recipe(tmp_path)]) == 2
    assert "sft" in one_sentence(capsys)


def test_sft_from_the_command_line_to_a_model_that_edits(model_folder, edit, tmp_path, capsys):
    """Prepare, train two steps, edit with what came out."""
    data = tmp_path / "data"
    words = ["prepare", "world", "-o", str(data), "--vision", str(model_folder), "--device", "cpu"]
    assert main([*words, "--sources", "4"]) == 0
    file = recipe(tmp_path)
    settings = [
        f"model.start={model_folder}",
        f"run.folder={tmp_path / 'run'}",
        "run.device=cpu",
        "run.tracker=none",
        "precision.compute=float32",
        "validation.every=2",
    ]
    assert main(["train", "sft", file, *settings]) == 0
    assert "at step 2" in capsys.readouterr().out
    code, out = edit(model=tmp_path / "run" / "model")
    assert code == 0
    assert Image.open(out).size == (64, 64)
