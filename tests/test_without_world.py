"""The core works where the procedural world is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
CORE = (  # of every core room what needs no scene; tests/examples goes from own data to an evaluation
    "examples",
    "sequence",
    "vision",
    "policy/test_policy_likelihood.py",
    "policy/test_policy_loading.py",
    "policy/test_policy_saving.py",
    "sampling/native/test_draw.py",
    "sampling/native/test_drafts.py",
    "sampling/native/test_engine.py",
    "verifiers/test_answers.py",
    "verifiers/test_judge.py",
    "data/test_sources.py",
    "training/test_checkpoint.py",
    "training/test_training_parts.py",
    "evaluation/test_numbers.py",
    "evaluation/test_stages.py",
)


@pytest.mark.slow
def test_the_core_passes_its_tests_without_the_world():
    command = [sys.executable, "-m", "pytest", "-p", "without_world", "-m", "not long", "-x"]
    done = subprocess.run(
        [*command, *(str(TESTS / path) for path in CORE)],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"


def test_the_blocker_removes_the_world():
    code = "import without_world\ntry:\n    import earl.world\nexcept ModuleNotFoundError:\n    print('gone')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS / "support", capture_output=True, text=True, check=False
    )
    assert done.stdout == "gone\n", done.stderr
