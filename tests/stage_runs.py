"""What tests of training stages share: codes that are mean colours, recipes run in processes of their
own, and what a run left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from earl.config.recipe import save_recipe


class MeanColour:
    """A vision tokenizer of 64 codes: two bits of each channel's mean over a cell."""

    codebook_size = 64
    rule = "snap"
    area = 32 * 32

    def encode(self, images: Sequence[Any], resize: bool = True) -> list[np.ndarray]:
        codes = []
        for image in images:
            rows, columns = image.height // 8, image.width // 8
            mean = np.asarray(image).reshape(rows, 8, columns, 8, 3).mean((1, 3)).astype(int) // 64
            codes.append((mean @ [16, 4, 1]).astype(np.int32))
        return codes

    def decode(self, codes: Sequence[np.ndarray]) -> list[Image.Image]:
        pictures = []
        for grid in codes:
            levels = np.stack([grid // 16, grid // 4 % 4, grid % 4], axis=-1) * 64 + 32
            pictures.append(Image.fromarray(levels.repeat(8, 0).repeat(8, 1).astype(np.uint8)))
        return pictures

    rule = "snap"

    def fingerprint(self) -> str:
        return "mean colour"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The policy that a run left."""
    return load_file(folder / "model" / "policy" / "model.safetensors")


def records(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """The lines of a run's log."""
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def run_script(folder: Path, script: str, recipe: Any, *, ranks: int = 1, die_at: int = 0) -> list[int]:
    """Run a script on a recipe's file, in processes started as a launcher starts them; their exit codes.

    The script finds the recipe in sys.argv[1] and `die_at` in the environment as DIE_AT.
    """
    program, file = folder / "script.py", folder / "recipe.toml"
    program.write_text(script)
    save_recipe(recipe, file)
    tests = Path(__file__).parent
    paths = f"{tests.parent / 'src'}{os.pathsep}{tests}"
    environment = {**os.environ, "PYTHONPATH": paths, "DIE_AT": str(die_at), "OMP_NUM_THREADS": "1"}
    if ranks > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
        environment |= {"GLOO_SOCKET_IFNAME": "lo", "LOCAL_WORLD_SIZE": str(ranks)}
    said = [folder / f"stderr-{rank}.txt" for rank in range(ranks)]
    started = [
        subprocess.Popen(
            [sys.executable, str(program), str(file)],
            env=environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}),
            stderr=said[rank].open("wb"),
        )
        for rank in range(ranks)
    ]
    codes = [process.wait(timeout=240) for process in started]
    for path in said:
        print(path.read_text(errors="replace")[-4000:])  # shown where the test fails
    return codes
