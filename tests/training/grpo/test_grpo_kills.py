"""kill -9 at random moments, resumed each time: the weights of an uninterrupted run, whole or LoRA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from earl.config.recipe import save_recipe

from .tiny import make_recipe, recipe_table, records

# Imports once and forks each run, so that ten of them cost ten runs and not ten times the imports.
# Arguments: the recipes of the uninterrupted and of the killed run, a seed, how many kills.
# It computes nothing itself: a fork of a process with torch's threads running could hang.
SCRIPT = """
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from earl.config.recipe import load_recipe
from earl.config.stages import GrpoRecipe
from earl.training.grpo.train import train_grpo
from training.grpo.tiny import Bright, MeanColour

def start(path):
    child = os.fork()
    if child == 0:
        try:
            train_grpo(load_recipe(GrpoRecipe, path), Bright(), vision=MeanColour())
        finally:
            os._exit(0 if not sys.exc_info()[0] else 1)
    return child

def ended(child, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    return None

def checkpoints(path):
    folder = load_recipe(GrpoRecipe, path).run.folder + "/checkpoints"
    return sorted(name for name in os.listdir(folder) if name[0] != ".") if os.path.isdir(folder) else []

whole, killed, seed, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
began = time.monotonic()
child = start(whole)
while not checkpoints(whole):
    assert ended(child, 0.01) is None, "the uninterrupted run"
first = time.monotonic() - began  # seconds from the start to the first checkpoint
assert ended(child, 500) == 0, "the uninterrupted run"
length = time.monotonic() - began
step = (length - first) / load_recipe(GrpoRecipe, whole).length.max_steps
kills = []
for turn in range(times):  # anywhere from the first instruction to the middle of the third step
    child = start(killed)
    wait = rng.uniform((turn % 2) * (first + step), first + 2 * step)  # every other one surely gets on
    if ended(child, wait) is not None:
        break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills.append([round(wait, 3), *checkpoints(killed)[-1:]])
status = ended(start(killed), 500)
print(json.dumps({"kills": kills, "status": status, "seconds": length}))
"""
LORA = {"lora": {"rank": 2, "targets": ["q_proj", "down_proj"]}}


@pytest.mark.long
@pytest.mark.parametrize(
    ("more", "kills", "steps", "weights_at"),
    [({}, 10, 60, "policy/model.safetensors"), (LORA, 4, 24, "adapter/adapter_model.safetensors")],
    ids=["whole policy", "lora"],
)
def test_kills_change_nothing(
    more: dict, kills: int, steps: int, weights_at: str, room: Path, tmp_path: Path
) -> None:
    paths = []
    for name in ("whole", "killed"):
        table = recipe_table(room, tmp_path / name) | more
        table |= {"length": {"max_steps": steps}, "checkpoint": {"every": 1, "keep": 2}}
        table |= {"heldout": {"prompts": 2}, "validation": {"every": 7}, "strips": {"every": 5}}
        paths.append(save_recipe(make_recipe(table), tmp_path / f"{name}.toml"))
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root / 'tests'}"}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    seed = int.from_bytes(os.urandom(4), "big")
    command = [sys.executable, str(script), *map(str, paths), str(seed), str(kills)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == 0, f"seed {seed}: {done.stderr[-2000:]}"
    assert len(told["kills"]) == kills, f"the run ended before it was killed {kills} times: {told}"
    seen = {last for _, *there in told["kills"] for last in there}
    assert len(seen) > (kills > 4), f"it never got on: {told}"
    weights = [load_file(tmp_path / name / "model" / weights_at) for name in ("whole", "killed")]
    assert weights[0].keys() == weights[1].keys() and weights[0]
    for name, tensor in weights[0].items():
        assert tensor.equal(weights[1][name]), f"{name} differs after {told} (seed {seed})"
    rewards = [[line["reward"] for line in records(tmp_path / name)] for name in ("whole", "killed")]
    assert rewards[0] == rewards[1] and len(rewards[0]) == steps
