"""Completion scripts: what a shell offers after the words that were typed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from earl.cli.completion import CompletionOptions, completion
from earl.cli.table import COMMANDS


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    completion(CompletionOptions(shell=shell))  # type: ignore[arg-type]
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered", "withheld"),
    [
        (["ed"], ["edit"], ["serve"]),
        (["train", ""], ["sft", "grpo", "dpo", "tokenizer"], ["edit"]),
        (["train", "s"], ["sft"], ["grpo"]),
        (["edit", "--keep"], ["--keep-outside"], ["--seed"]),
        (["edit", "in.png", "make it night", "--se"], ["--seed"], ["--keep-outside"]),
        (["serve", "--po"], ["--port"], ["--seed"]),
    ],
)
def test_bash_offers_commands_and_options(
    words: list[str], offered: list[str], withheld: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    body = script("bash", capsys) + 'COMP_WORDS=(earl "$@"); COMP_CWORD=$#; _earl; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", body, "bash", *words], capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert done.stderr == "" and set(offered) <= set(found) and not set(withheld) & set(found), found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_the_script_and_the_shell_can_read_it(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, capsys)
    for command in COMMANDS:
        assert all(word in text for word in command.words.split()), command.words
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=text, capture_output=True, text=True).stderr == ""
