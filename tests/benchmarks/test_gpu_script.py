"""`recipes/world/gpu.sh` runs from end to end on a CPU at the smallest size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_all_of_it_at_the_smallest_size(tmp_path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DEVICE": "cpu",
        "SCALE": "tiny",
        "MINUTES": "0.1",
        "CORES": "1",
        "OUT": str(tmp_path),
    }
    script = ROOT / "recipes" / "world" / "gpu.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    layers = [
        json.loads((tmp_path / name / "policy" / "config.json").read_text())["num_hidden_layers"]
        for name in ("start", "deep", "deeper", "deeper-policy")
    ]
    assert layers[2:] == [12, 12] and layers[0] == layers[1] < 12
    for name in ("deep-own", "deep-mixed", "deeper-own", "deeper-mixed"):
        assert "simple" in (tmp_path / f"evaluation-{name}.txt").read_text()
    assert json.loads((tmp_path / "gpu.json").read_text())["device"] == "cpu"
