"""What a model was not taught is said in one line before it works; what it was taught is not."""

from __future__ import annotations

import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from earl.cli import main
from earl.models.catalogue import RELEASED
from earl.models.resolve import ModelFolder
from earl.pipeline.domain import domain_of, lacking
from earl.world.domain import WORLD, unknown_words
from earl.world.language.grammar import expand
from earl.world.language.tables import FRAMES, HELDOUT, OPERATIONS, WORDS, texts
from earl.world.model import FOLDER
from earl.world.rendering import render
from earl.world.tasks import sample_task
from earl.world.wordings import reword

BEST = "mair-lab/earl-sft-simple.rl-simple-n-complex-scaled"
THINKING = "mair-lab/earl-thinking-sft-simple.rl-simple-n-complex"


def scene(seed=20, side=64):
    return Image.fromarray(render(sample_task(seed, "test").source, side))


def photograph(size=(120, 80)):
    """Soft blotches of many colours, as no backdrop of the world has them."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene().save("scene.png")
    photograph().save("photo.jpg")
    return tmp_path


def pipeline(model="world", reasons=False):
    return SimpleNamespace(name=model, settings=SimpleNamespace(model=model), reasons=reasons)


def test_tasks_of_the_world_raise_no_warning():
    for seed in range(300):
        for split in ("test", "heldout", "train"):
            task = sample_task(seed, split)
            assert not unknown_words(task.instruction), task.instruction
    for seed in range(40):
        assert not WORLD.problems(scene(seed), sample_task(seed, "test").instruction)


def test_no_word_that_the_language_has_or_writes_is_unknown():
    for table in (WORDS, FRAMES, OPERATIONS, HELDOUT):
        for text in texts(table):
            for said in expand(text):
                assert not unknown_words(re.sub(r"\{\w+\}", " ", said)), said
    for wordings in ("mixed", "pairs", "constructions"):
        for seed in range(200):
            said = reword(sample_task(seed, "test"), wordings).instruction
            assert not unknown_words(said), said
    assert unknown_words("a red cube on the ground") == ["ground"], "no table has it"


@pytest.mark.parametrize("side", [48, 64, 256])
def test_an_image_of_the_world_is_known_at_other_sizes_and_after_compression(side):
    image = scene(3, side)
    buffer = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(side / 100)).save(buffer, "JPEG", quality=80)
    assert not WORLD.problems(Image.open(buffer), "make it night")


@pytest.mark.parametrize("image", [photograph(), photograph((64, 64)), Image.new("RGB", (64, 64), "black")])
def test_other_images_are_not(image):
    assert WORLD.problems(image, "make it night") == ["the image is none of its drawn scenes"]


@pytest.mark.parametrize(
    "instruction,unknown",
    [
        ("make the sky stormy", ["stormy"]),
        ("plase remvoe the red cyllinder", []),
        ("turn the car into a bicycle", ["car", "bicycle"]),
        ("把天空变成暴风雨", ["把天空变成暴风雨"]),
        ("mach den Würfel rot", ["mach", "den", "rot", "Würfel"]),
        ("add a naïve red cube", ["naïve"]),
    ],
)
def test_words(instruction, unknown):
    assert unknown_words(instruction) == unknown


@pytest.mark.parametrize("instruction", ["?!", "\N{FULL MOON SYMBOL}", "…", "please"])
def test_an_instruction_that_asks_for_nothing(instruction):
    assert WORLD.problems(scene(), instruction) == [f"{instruction!r} has no word of its language"]


def test_a_sentence_names_what_is_missing_and_a_model_that_has_it():
    said = lacking(pipeline(), photograph(), ["make the sky stormy"])
    assert "drawn scenes" in said and "'stormy'" in said and BEST in said and "earl models" in said
    assert lacking(pipeline(), scene(), ["make it night", "remove the cube"]) == ""
    said = lacking(pipeline(), scene(), ["make it night"], reasoning=True)
    assert THINKING in said and "drawn scenes" not in said
    assert THINKING in lacking(pipeline(BEST), photograph(), ["anything"], reasoning=True)
    for reasons in (True, None):  # None: a model of which it is not known
        assert lacking(pipeline("own/model", reasons), photograph(), ["anything"], reasoning=True) == ""


def test_a_long_word_is_shown_in_part():
    (problem,) = WORLD.problems(scene(), "a" * 2000)
    assert problem == f"its language lacks '{'a' * 29}…'"


def test_which_models_reason():
    assert [model.name for model in RELEASED if model.reasons] == ["mair-lab/thinking-sft-simple", THINKING]
    assert ModelFolder(FOLDER, name=BEST).reasons is False
    assert ModelFolder(FOLDER, name=THINKING).reasons is True
    assert ModelFolder(FOLDER, name="runs/a", meta={"reasoning": True}).reasons is True
    assert ModelFolder(FOLDER, name="runs/a", meta={"format": 1}).reasons is False
    assert ModelFolder(FOLDER, name="owner/other").reasons is None
    assert domain_of("world") is WORLD and domain_of(BEST) is None


def test_edit_warns_once(files, capsys):
    assert main(["edit", "photo.jpg", "make the sky stormy", "add a moustache", "-o", "out.png"]) == 0
    err = capsys.readouterr().err
    assert err.count("not taught") == 1 and err.startswith("earl: warning: 'world' was not taught")
    assert "'moustache'" in err and BEST in err
    assert main(["edit", "scene.png", "make it night", "-o", "night.png"]) == 0
    assert capsys.readouterr().err == ""


def test_edit_warns_once_of_many_and_of_reasoning(files, capsys):
    jobs = [{"image": name, "instruction": "make it stormy"} for name in ("no.png", "scene.png", "photo.jpg")]
    (files / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    assert main(["edit", "jobs.jsonl", "-o", "edited"]) == 1  # one image is not there
    assert capsys.readouterr().err.count("not taught") == 1
    shutil.copytree(FOLDER, "model")
    meta = json.loads((files / "model/earl.json").read_text())
    command = ["edit", "scene.png", "make it night", "--reasoning", "--max-text-tokens", "2", "--force"]
    for taught in (False, True):
        (files / "model/earl.json").write_text(json.dumps(meta | {"reasoning": taught}))
        main([*command, "-o", "out.png", "--model", "model"])
        told = capsys.readouterr().err
        assert "not taught" not in told if taught else THINKING in told


def test_a_model_that_reasons_can_be_told_not_to(files, capsys):
    shutil.copytree(FOLDER, "taught")
    meta = json.loads((files / "taught/earl.json").read_text())
    (files / "taught/earl.json").write_text(json.dumps(meta | {"reasoning": True}))
    command = ["edit", "scene.png", "make it night", "--model", "taught", "--max-text-tokens", "2"]
    assert main([*command, "-o", "unasked.png"]) == 2  # it reasons, and is cut off
    assert "wrote no image" in capsys.readouterr().err
    assert main([*command, "-o", "told.png", "--no-reasoning"]) == 0
