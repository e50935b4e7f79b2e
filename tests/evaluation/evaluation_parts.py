"""Editors and verifiers for tests: they do real work on images, quickly and predictably."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from earl.config import EvaluationSettings
from earl.evaluation.benchmark import Benchmark, open_benchmark
from earl.evaluation.editors import Candidate, Edited
from earl.evaluation.run import Judging, evaluate
from earl.records import Verdict


class Inverter:
    """Inverts images; writes no image for the tasks named, and counts what it made."""

    def __init__(self, *, no_image: Sequence[str] = (), candidates: int = 1, slow: float = 0.0) -> None:
        self.name = "inverter"
        self.no_image, self.candidates, self.slow = set(no_image), candidates, slow
        self.made: list[str] = []

    def describe(self):
        return {"kind": "model", "name": self.name, "candidates": self.candidates}

    def edit(self, batch):
        return [self._one(task, image) for task, image in batch]

    def _one(self, task, image):
        time.sleep(self.slow)
        self.made.append(task.key)
        source = image.resize((32, 32))
        if task.id in self.no_image:
            return Edited(task, source, (Candidate(None, "no_image", 7, "length", "cut off"),))
        pictures = [
            ImageOps.invert(source).point(lambda v, i=i: v // (i + 1)) for i in range(self.candidates)
        ]
        seeds = [task.number * self.candidates + i for i in range(self.candidates)]
        return Edited(task, source, tuple(Candidate(p, seed=s) for p, s in zip(pictures, seeds, strict=True)))


class Brightness:
    """Scores an edit by its mean brightness: 0-10 for black to white. No image, no score."""

    def __init__(self, *, slow: float = 0.0, fails: Sequence[str] = (), status: str = "unusable") -> None:
        self.slow, self.fails, self.status = slow, set(fails), status
        self.asked: list[str] = []

    async def judge(self, attempts):
        return [await self._one(attempt) for attempt in attempts]

    async def _one(self, attempt):
        await asyncio.sleep(self.slow)
        self.asked.append(attempt.key)
        if attempt.edited is None:
            return Verdict("unfinished" if attempt.finish_reason == "length" else "undecodable")
        if attempt.instruction in self.fails:
            return Verdict(self.status, raw="hm", why="cannot tell")
        value = round(float(np.asarray(attempt.edited).mean()) / 25.5, 4)
        return Verdict("ok", value, value, 10.0, 9.0, raw=f"seen {value}")


def judging(verifier=None, **more) -> Judging:
    return Judging(verifier or Brightness(), {"kind": "judge", "model": "brightness"}, **more)


def own_data(folder: Path, count: int = 6) -> Path:
    """Own data with grey images of known brightness and their targets, in two families."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        Image.new("RGB", (40, 40), (20 * i, 20 * i, 20 * i)).save(folder / f"{i}.png")
        Image.new("RGB", (40, 40), (255 - 20 * i,) * 3).save(folder / f"{i}-after.png")
        row = {"id": f"t{i}", "source": f"{i}.png", "target": f"{i}-after.png", "instruction": f"invert {i}"}
        row |= {"family": "even" if i % 2 == 0 else "odd", "group": "complex" if i % 2 else "simple"}
        lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def own_benchmark(folder: Path, count: int = 6) -> Benchmark:
    return open_benchmark(str(own_data(folder, count)))


def run(tmp_path: Path, name: str = "run", *, editor=None, verifier=None, count: int = 6, **more):
    """Results of own data in tmp_path/NAME."""
    benchmark = own_benchmark(tmp_path / "data", count)
    chooser = more.pop("chooser", None)
    settings = EvaluationSettings(**more)
    judge = judging(verifier)
    return evaluate(tmp_path / name, benchmark, editor or Inverter(), judge, settings, chooser=chooser)
