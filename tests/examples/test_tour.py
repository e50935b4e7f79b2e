"""examples/tour.ipynb: what is stored in it, and that it runs from top to bottom."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "examples" / "tour.ipynb"


def test_the_stored_outputs_are_small_whole_and_of_no_machine():
    text = TOUR.read_text()
    notebook = json.loads(text)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(text) < 1_000_000
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert not any(output["output_type"] == "error" for output in outputs)
    for path in ("/work", "/tmp", "/home", "/root"):
        assert path not in text


@pytest.mark.long
def test_it_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for name in ("recipes", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "examples").mkdir()
    shutil.copy(TOUR, tmp_path / "examples")
    notebook = nbformat.read(TOUR, 4)
    used = sum(os.times()[2:4])
    nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(tmp_path / "examples")}}
    ).execute()
    seconds = sum(os.times()[2:4]) - used
    assert 5 < seconds < 180, f"{seconds:.0f} CPU seconds, expected under three minutes"
    assert (tmp_path / "examples" / "out" / "tour" / "model" / "earl.json").is_file()
