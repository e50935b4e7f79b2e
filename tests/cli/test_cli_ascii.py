"""Standard output that takes ASCII only, as under LC_ALL=C: all is printed, with marks for the rest."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from PIL import Image

from earl.cli import main
from earl.cli.table import COMMANDS


def printed(words):
    """Exit code, and what is printed on streams that refuse everything beyond ASCII."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    for stream in (out, err):
        stream.flush()
    return code, (out.buffer.getvalue() + err.buffer.getvalue()).decode("ascii")


HELP = [[*command.words.split(), "--help"] for command in COMMANDS]


@pytest.mark.parametrize("words", [["--help"], ["models"], ["data", "sources"], *HELP], ids=" ".join)
def test_everything_is_printed(words):
    code, text = printed(words)
    assert code == 0 and len(text) > 100


def test_a_sentence_about_other_letters():
    code, text = printed(["edit", "\u732b.png", "remove it", "-o", "\u72ac.png"])
    assert code == 2 and "there is no image at" in text


def test_a_table_with_other_letters(tmp_path):
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
    code, text = printed([*words, "-o", str(tmp_path / "out")])
    assert code == 0 and "family ?" in text and "10.00" in text, text


def test_a_process_of_its_own():
    surroundings = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "earl", "models"]
    done = subprocess.run(words, env=surroundings, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.isascii() and done.stderr == b""
