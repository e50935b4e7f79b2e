"""Warnings and load messages of libraries stay off the terminal of a command, and on that of a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOISE = re.compile(r"warning|failed to load|deprecat|pytree|triton", re.I)
TRAINING = "run.folder=run length.max_steps=1 batch.global_size=2 batch.micro_size=2 rollouts.group=2"
TRAINING += " heldout.prompts=2 run.device=cpu"
COMMANDS = {
    "edit": "edit source.png night -o out.png --device cpu",
    "convert": "convert world converted",
    "train": f"train grpo {ROOT}/recipes/world/grpo-lora.toml model.start=world {TRAINING}",
}


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TRANSFORMERS")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, env=plain
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_show_no_librarys_warnings(command: str, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), "green").save(tmp_path / "source.png")
    done = run(["-m", "earl", *COMMANDS[command].split()], tmp_path)
    assert done.returncode == 0, done.stderr
    others = [line for line in done.stderr.splitlines() if not line.startswith("earl")]
    assert not [line for line in others if NOISE.search(line)], done.stderr


def test_the_library_leaves_its_hosts_warnings_alone(tmp_path: Path) -> None:
    program = (
        "import logging, warnings, os\n"
        "import earl, earl.pipeline.edit\n"
        "assert ('ignore', None, Warning, None, 0) not in warnings.filters\n"
        "assert not logging.getLogger().handlers\n"
        "assert 'TRANSFORMERS_VERBOSITY' not in os.environ\n"
        "assert logging.getLogger('torch.utils._pytree').level == logging.NOTSET\n"
    )
    done = run(["-c", program], tmp_path)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_while_the_first_modules_load_is_one_sentence(monkeypatch, capsys):
    import earl
    from earl.__main__ import main

    class Pressed:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "earl.cli":
                raise KeyboardInterrupt

    monkeypatch.delattr(earl, "cli", raising=False)
    monkeypatch.delitem(sys.modules, "earl.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    assert main() == 130 and capsys.readouterr().err == "earl: interrupted\n"
