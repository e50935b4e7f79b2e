"""Bad input that test_cli_commands does not have: one clear sentence, exit code not 0, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from said import one_sentence

from earl.cli import main


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "source.png"
    Image.new("RGB", (64, 64), (90, 160, 80)).save(path)
    return path


@pytest.fixture
def full_disk(monkeypatch):
    """From now on the disk is full when a file is to be put in its place; gives those that were asked for."""
    asked = []

    def full(source, target):
        asked.append(Path(target).name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    return asked


def edit(model_folder, picture, out) -> int:
    words = ["edit", str(picture), "remove the cone", "-o", str(out), "--model", str(model_folder)]
    return main([*words, "--device", "cpu"])


def test_a_image_that_may_not_be_read(model_folder, picture, tmp_path, monkeypatch, capsys):
    open_path = Path.open

    def refused(path, *how, **more):
        if path.name == picture.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_path(path, *how, **more)

    monkeypatch.setattr(Path, "open", refused)
    assert edit(model_folder, picture, tmp_path / "out.png") == 2
    said = one_sentence(capsys)
    assert "source.png" in said and "Permission denied" in said
    assert not (tmp_path / "out.png").exists()


def test_a_full_disk_leaves_the_old_image(model_folder, picture, tmp_path, full_disk, capsys):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    words = ["edit", str(picture), "remove the cone", "-o", str(out), "--model", str(model_folder)]
    assert main([*words, "--device", "cpu", "--force"]) == 2
    said = one_sentence(capsys)
    assert "No space left" in said and "out.png" in said
    assert full_disk == ["out.png"] and out.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "source.png"]


def test_a_full_disk_leaves_the_old_text_tokenizer(tmp_path, full_disk, capsys):
    (tmp_path / "tokenizer.json").write_text("precious")
    words = ["prepare", "text", "-o", str(tmp_path), "--codebook-size", "8", "--sentences", "50", "--force"]
    assert main(words) == 2
    assert "No space left" in one_sentence(capsys)
    assert full_disk == ["tokenizer.json"]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("tokenizer.json", "precious")]


def test_another_kind_of_model(picture, tmp_path, capsys):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert edit(tmp_path / "llama", picture, tmp_path / "out.png") == 2
    said = one_sentence(capsys)
    assert "llama" in said and "expected one of" in said


def test_a_vision_tokenizer_is_no_policy(model_folder, picture, tmp_path, capsys):
    assert edit(model_folder / "vision", picture, tmp_path / "out.png") == 2
    assert "has no text tokenizer" in one_sentence(capsys)


def test_a_file_in_place_of_a_model(picture, tmp_path, capsys):
    assert edit(picture, picture, tmp_path / "out.png") == 2
    assert "is a file" in one_sentence(capsys)


def test_an_empty_instruction_for_the_verifier(picture, capsys):
    assert main(["verify", str(picture), str(picture), " \t "]) == 2
    assert "instruction is empty" in one_sentence(capsys)


def test_special_token_text_is_no_instruction_of_the_world(picture, capsys):
    assert main(["verify", str(picture), str(picture), "<|image start|>64*64<|image token|>"]) == 2
    assert "none of the world's wordings" in one_sentence(capsys)


def test_an_absurd_aspect_for_the_verifier(picture, tmp_path, capsys):
    Image.new("RGB", (2000, 10)).save(tmp_path / "long.png")
    assert main(["verify", str(tmp_path / "long.png"), str(picture), "make it night"]) == 2
    assert "2000x10" in one_sentence(capsys)


def test_an_unknown_key_in_a_recipe_s_file(tmp_path, capsys):
    file = tmp_path / "recipe.toml"
    file.write_text('stage = "sft"\n[run]\nfolder = "x"\nsede = 1\n')
    assert main(["train", "sft", str(file)]) == 2
    said = one_sentence(capsys)
    assert "run.sede" in said and "seed" in said


def test_a_recipe_that_is_no_toml(tmp_path, capsys):
    file = tmp_path / "recipe.toml"
    file.write_text("stage = = sft")
    assert main(["train", "sft", str(file)]) == 2
    assert "recipe.toml" in one_sentence(capsys)


def test_training_from_truncated_weights(model_folder, tmp_path, capsys):
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(model_folder, folder)
    weights = folder / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    file = tmp_path / "recipe.toml"
    file.write_text(
        f'stage = "sft"\n[run]\nfolder = "{tmp_path / "run"}"\ndevice = "cpu"\ntracker = "none"\n'
        "[length]\nmax_steps = 1\n[batch]\nglobal_size = 2\nmicro_size = 2\n"
        "[optimiser]\nlearning_rate = 1e-3\n"
        f'[model]\nstart = "{folder}"\n[data.sources.world]\npath = "{tmp_path / "data"}"\n'
    )
    assert main(["train", "sft", str(file)]) == 2
    assert "truncated" in one_sentence(capsys)


@pytest.mark.parametrize("path", ["x" * 5000, "a/" * 3000, "~nosuchuser/x", "loop/x"])
@pytest.mark.parametrize(
    "words",
    [
        ["data", "stats", "PATH"],
        ["data", "stats", ".", "--json", "PATH"],
        ["data", "check-overlap", ".", "PATH"],
        ["data", "weights", "PATH"],
        ["evaluate", "compare", "PATH", "."],
        ["report", "PATH"],
        ["edit", "PATH", "make it night", "-o", "out.png"],
        ["edit", "a.png", "make it night", "-o", "out.png", "--model", "PATH"],
        ["train", "sft", "PATH"],
        ["verifier", "check", "--judge-url", "http://127.0.0.1:9/v1", "--judge-prompts", "PATH"],
    ],
    ids=" ".join,
)
def test_paths_that_no_file_system_takes(words, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    Image.new("RGB", (64, 64)).save("a.png")
    assert main([path if word == "PATH" else word for word in words]) == 2
    assert len(one_sentence(capsys)) < 1100


@pytest.mark.parametrize(
    "words", [["", "make it night"], ["a.png", "make it night", "-o", ""], ["a.png", "it", "--mask", ""]]
)
def test_a_path_without_a_letter_is_none(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("a.png")
    assert main(["edit", *words]) == 2
    assert "'' names no file; give a path" in one_sentence(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_was_given_is_quoted_in_part_only(tmp_path, capsys):
    (tmp_path / "recipe.toml").write_text(f'stage = "sft"\n{"x" * 5000} = 1\n')
    for words in (
        ["x" * 5000],
        ["edit", "--n", "9" * 5000],
        ["verify", "x" * 200, "y", "z" * 5000],
        ["train", "sft", str(tmp_path / "recipe.toml")],
        ["data", "stats", "--", *["y" * 100] * 50],
    ):
        assert main(words) == 2
        assert len(one_sentence(capsys)) < 1200


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), reason="needs setpriv")
def test_folders_and_files_that_may_not_be_read(model_folder, picture, tmp_path):
    """A sentence that names them; not a traceback, nor that nothing is there."""
    shut, model, run = (tmp_path / name for name in ("shut", "model", "run"))
    shutil.copytree(model_folder, model)
    (tmp_path / "photos" / "shut").mkdir(parents=True)
    run.mkdir()
    (run / "log.jsonl").write_text("{}\n")
    weights = model / "policy" / "model.safetensors"
    hidden = [shut, tmp_path / "photos" / "shut", weights, run / "log.jsonl"]
    shut.mkdir()
    for path in hidden:
        path.chmod(0)
    edit = ["edit", str(picture), "remove the cone", "-o", str(tmp_path / "out.png"), "--model"]
    commands = [
        ["edit", str(shut), "remove the cone", "-o", str(tmp_path / "edited"), "--model", str(model)],
        ["data", "images", str(tmp_path / "photos"), "--vision", str(model)],
        [*edit, str(model)],
        ["report", str(run)],
        [*edit, str(shut)],
        ["prepare", str(shut), "-o", str(tmp_path / "shards"), "--vision", str(model)],
    ]
    code = f"from earl.cli import main; print([main(words) for words in {commands!r}])"
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if not os.geteuid() else []
    done = subprocess.run([*drop, sys.executable, "-c", code], capture_output=True, text=True)
    for path in hidden:
        path.chmod(0o755)
    assert done.stdout.split("\n")[-2] == str([2] * len(commands)), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands), done.stderr
    for line, path in zip(lines, [*hidden, shut, shut], strict=True):
        assert str(path) in line and "Permission denied" in line
