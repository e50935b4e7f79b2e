"""Standard output that takes ASCII only, as under LC_ALL=C: all is printed, with marks for the rest."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from earl.cli import main
from earl.cli.table import COMMANDS


@pytest.fixture
def ascii_output(monkeypatch):
    """What is printed on streams that refuse everything beyond ASCII."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def printed() -> str:
        for stream in streams.values():
            stream.flush()
        return "".join(stream.buffer.getvalue().decode("ascii") for stream in streams.values())

    return printed


HELP = [[*command.words.split(), "--help"] for command in COMMANDS]


@pytest.mark.parametrize("words", [["--help"], ["models"], ["data", "sources"], *HELP], ids=" ".join)
def test_everything_is_printed(words, ascii_output):
    assert main(words) == 0
    assert len(ascii_output()) > 100


def test_a_sentence_about_other_letters(ascii_output):
    assert main(["edit", "\u732b.png", "remove it", "-o", "\u72ac.png"]) == 2
    assert "there is no image at" in ascii_output()


def test_a_table_with_other_letters(tmp_path, ascii_output):
    """Families, names and ids of any script, scored without a model."""
    own, made = tmp_path / "own", tmp_path / "\u753b"
    for folder in (own, made):
        folder.mkdir()
    rows = []
    for number, name in enumerate(("\u732b", "\u00fc")):
        Image.new("RGB", (32, 32), (number, 90, 0)).save(own / f"{number}.png")
        Image.new("RGB", (32, 32), (90, number, 0)).save(own / f"{number}-after.png")
        Image.new("RGB", (32, 32), (90, number, 0)).save(made / f"{name}.png")
        rows.append({"id": name, "source": f"{number}.png", "target": f"{number}-after.png"})
        rows[-1] |= {"instruction": "\u5de6", "family": f"family {name}"}
    (own / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["evaluate", str(own), "--predictions", str(made), "--verifier", "target"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0, ascii_output()
    assert "family ?" in ascii_output() and "10.00" in ascii_output()


def test_a_process_of_its_own():
    surroundings = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "earl", "models"]
    done = subprocess.run(words, env=surroundings, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.isascii() and done.stderr == b""
