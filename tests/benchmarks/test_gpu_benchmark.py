"""The GPU benchmark runs from end to end at the smallest size on a CPU, and writes what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def test_everything_at_the_smallest_size(tmp_path):
    done = run("--size", "tiny", "--device", "cpu", "--threads", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert list(record["measures"]) == ["edits", "sampling", "grpo", "sft", "vision"]
    values = {name: {row["name"]: row["value"] for row in rows} for name, rows in record["measures"].items()}
    assert all(value > 0 for rows in values.values() for value in rows.values())
    assert values["grpo"]["step"] >= values["grpo"]["sampling"] + values["grpo"]["update"]
    assert values["vision"]["equal codes, batch 1"] == 1.0
    assert record["device"] == "cpu" and record["date"] and record["parameters"] > 0
    table = (tmp_path / "gpu.md").read_text()
    assert record["machine"] in table and "| grpo | step |" in table


def test_the_large_model_on_a_cpu_is_refused():
    done = run("--size", "8b", "--device", "cpu")
    assert done.returncode == 2 and "--size small" in done.stderr
