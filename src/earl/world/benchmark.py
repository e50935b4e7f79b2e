"""The world benchmark: unseen scenes, one edit each, judged by what is seen in the pixels.

The model sees the rendered source and the instruction; the scene verifier sees the source, the
instruction and the edited image. Tasks are drawn from a split that training never touches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from earl.data.tasks import Split
from earl.errors import ConfigError
from earl.evaluation.report import Judged, by_family, versions
from earl.evaluation.stages import judge_each
from earl.pipeline import EditPipeline
from earl.records import Attempt
from earl.verifiers.protocol import Verifier
from earl.world import FAMILIES, WorldTask, render, sample_task
from earl.world.wordings import Wordings, reword


@dataclass(frozen=True, slots=True)
class WorldBenchmark:
    """What to run.

    Attributes:
        num: tasks, >= 1.
        seed: of the draw of tasks and of the sampling; another seed, other tasks.
        split: "test", or "heldout" for combinations that training never showed.
        families: some of `earl.world.FAMILIES`; all when empty.
        resolution: side of the images in px; the model's own when None.
        temperature, top_k, top_p, greedy, guidance, negative_instruction: of `SamplingSettings`.
        wordings: how the tasks are asked for, see `earl.world.wordings`.
        batch: edits made together; changes the speed, never the images.
    """

    num: int = 500
    seed: int = 0
    split: Split = "test"
    families: tuple[str, ...] = ()
    resolution: int | None = None
    temperature: float = 1.0
    top_k: int = 2048
    top_p: float = 1.0
    greedy: bool = False
    guidance: float = 1.0
    negative_instruction: str | None = None
    batch: int = 64
    wordings: Wordings = "own"

    def __post_init__(self) -> None:
        if self.num < 1 or self.batch < 1:
            raise ConfigError(f"num ({self.num}) and batch ({self.batch}) must be at least 1")
        unknown = sorted(set(self.families) - set(FAMILIES))
        if unknown:
            raise ConfigError(f"unknown families {', '.join(unknown)}; there are {', '.join(FAMILIES)}")


def draw_tasks(benchmark: WorldBenchmark) -> list[WorldTask]:
    """The tasks of a benchmark; a smaller `num` gives the first of them."""
    numbers = np.random.SeedSequence(benchmark.seed).generate_state(benchmark.num, np.uint64)
    families = benchmark.families or None
    tasks = [sample_task(int(number >> np.uint64(1)), benchmark.split, families) for number in numbers]
    return [reword(task, benchmark.wordings, benchmark.seed) for task in tasks]


def evaluate_world(
    pipeline: EditPipeline,
    benchmark: WorldBenchmark,
    *,
    verifier: Verifier | None = None,
    on_batch: Callable[[int, int, Sequence[Judged]], None] | None = None,
) -> dict[str, Any]:
    """Edit, judge, and report.

    Args:
        verifier: the scene verifier when None.
        on_batch: called with (edits done, edits in all, what was judged so far).

    Returns:
        {"simple": …, "complex": …, "families": {name: …}} as `report.by_family` gives them, and
        "model", "seed", "split", "settings", "seconds" (by stage), "versions".
    """
    if verifier is None:
        from earl.world.verifier.scene import SceneVerifier

        verifier = SceneVerifier()
    tasks = draw_tasks(benchmark)
    side = benchmark.resolution or round(pipeline.vision.area**0.5 / 8) * 8
    edits: list[Judged] = []
    seconds = {"edit": 0.0, "judge": 0.0}
    for start in range(0, len(tasks), benchmark.batch):
        batch = tasks[start : start + benchmark.batch]
        attempts = _edit(pipeline, benchmark, batch, side, start, seconds)
        began = time.perf_counter()
        verdicts = asyncio.run(judge_each(verifier, attempts))
        seconds["judge"] += time.perf_counter() - began
        edits += [Judged(t.id, t.family, t.group, v) for t, v in zip(batch, verdicts, strict=True)]
        if on_batch:
            on_batch(len(edits), len(tasks), edits)
    return by_family(edits, seed=benchmark.seed) | {
        "model": pipeline.name,
        "seed": benchmark.seed,
        "split": benchmark.split,
        "settings": asdict(benchmark) | {"resolution": side},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "versions": versions(),
    }


def _edit(
    pipeline: EditPipeline,
    benchmark: WorldBenchmark,
    batch: Sequence[WorldTask],
    side: int,
    first: int,
    seconds: dict[str, float],
) -> list[Attempt]:
    sources = [Image.fromarray(render(task.source, side)) for task in batch]
    began = time.perf_counter()
    results = pipeline.edit_many(
        [(source, task.instruction) for source, task in zip(sources, batch, strict=True)],
        seeds=[benchmark.seed + first + i for i in range(len(batch))],
        temperature=benchmark.temperature,
        top_k=benchmark.top_k,
        top_p=benchmark.top_p,
        greedy=benchmark.greedy,
        guidance=benchmark.guidance,
        negative_instruction=benchmark.negative_instruction,
    )
    seconds["edit"] += time.perf_counter() - began
    return [result.attempts(key=task.id)[0] for task, result in zip(batch, results, strict=True)]
