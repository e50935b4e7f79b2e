"""Output folders are checked before any work: nothing that the commands would work on exists here."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from earl.cli import main

RECIPES = Path(__file__).parents[2] / "recipes" / "world"
TRAINING = ("tokenizer", "sft", "dpo", "grpo")
COMMANDS = {
    "prepare": "prepare no/rows -o OUT --vision no/model",
    "prepare edits": "prepare edits no/rows -o OUT --model no/model --verifier target",
    "prepare world": "prepare world -o OUT --vision no/model --sources 8",
    "prepare text": "prepare text -o OUT --vision no/model",
    "world sample": "world sample -o OUT",
    "reason make": "reason make no/shards -o OUT --vision no/model --writer-url http://127.0.0.1:9/v1",
    "evaluate": "evaluate no/rows -o OUT --model no/model --verifier target",
    "convert": "convert no/model OUT",
    "merge": "merge OUT no/model=0.5 no/other=0.5",
    **{f"train {stage}": f"train {stage} {RECIPES}/{stage}.toml run.folder=OUT" for stage in TRAINING},
}


@pytest.fixture(params=["a file", "a file above", "a link to nothing", "read-only"])
def refused(request, tmp_path, monkeypatch):
    """A place where no folder can be written, and a word that says why."""
    folder = tmp_path / "out"
    if request.param == "read-only":
        folder.mkdir()
        touch = Path.touch

        def denied(path, *how, **more):
            if folder in path.parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            touch(path, *how, **more)

        monkeypatch.setattr(Path, "touch", denied)  # root may write everywhere
        return folder / "run", "Permission denied"
    if request.param == "a link to nothing":
        folder.symlink_to(tmp_path / "nowhere")
        return folder, "link"
    folder.write_text("precious")
    return (folder, "file") if request.param == "a file" else (folder / "run", "file")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_output_folder_is_checked_before_any_work(command, refused, tmp_path, capsys):
    folder, why = refused
    before = sorted(tmp_path.rglob("*"))
    assert main(COMMANDS[command].replace("OUT", str(folder)).split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("earl: ") and said.count("\n") == 1, said
    assert str(folder.parent) in said and (why in said or f"{folder} exists" in said), said
    assert sorted(tmp_path.rglob("*")) == before
