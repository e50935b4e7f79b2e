"""kill -9 at many moments: an evaluation goes on with nothing lost, nothing doubled, nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from .evaluation_parts import Brightness, Inverter, run

COUNT = 24
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from evaluation.evaluation_parts import Brightness, Inverter, judging
from earl.config import EvaluationSettings
from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.run import evaluate
root = Path({root!r})
judge = judging(Brightness(slow=0.05), window=3)
settings = EvaluationSettings(batch=4)
evaluate(root / "killed", open_benchmark(str(root / "data")), Inverter(slow=0.01), judge, settings)
"""


def progress(folder: Path) -> int:
    return sum(
        len((folder / name).read_bytes().splitlines())
        for name in ("edits.jsonl", "verdicts.jsonl")
        if (folder / name).exists()
    )


def test_kill_9_at_ten_moments(tmp_path):
    whole = run(tmp_path, "whole", count=COUNT)
    program = PROGRAM.format(tests=str(Path(__file__).resolve().parent.parent), root=str(tmp_path))
    folder = tmp_path / "killed"
    killed = 0
    for moment in range(10):
        process = subprocess.Popen([sys.executable, "-c", program])
        while process.poll() is None and progress(folder) < 1 + (moment * 2 * COUNT) // 10:
            time.sleep(0.005)
        time.sleep(0.003 * (moment % 4))  # between two lines, not always right after one
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait(30)
    assert killed >= 8
    results = run(tmp_path, "killed", editor=Inverter(), verifier=Brightness(), count=COUNT)
    assert results == whole
    for name in ("edits.jsonl", "verdicts.jsonl", "metrics.jsonl"):
        keys = [json.loads(line)["key"] for line in (folder / name).read_text().splitlines()]
        assert len(keys) == len(set(keys)) == COUNT
    for place in ("sources", "edits", "targets"):
        pictures = {path.name: path.read_bytes() for path in (folder / place).glob("*.png")}
        assert pictures == {
            path.name: path.read_bytes() for path in (tmp_path / "whole" / place).glob("*.png")
        }
