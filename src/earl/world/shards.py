"""Tokenised shards of the world's tasks: rendered, encoded in batches, written as they come.

Edits that share a source share its image and its codes. Shards that are already there are left
alone, so a run that was cut short continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.data.card import drop_card, write_card
from earl.data.changes import changed_cells
from earl.data.shards import Edit, shard_path, start_folder, write_shard
from earl.data.tokenise import Encoder
from earl.errors import OutputError
from earl.files import clear_partial
from earl.store import only_one
from earl.world.language.naming import name_solids, to_json
from earl.world.plans import plan
from earl.world.rendering import render
from earl.world.scene import Scene
from earl.world.scene_questions import questions
from earl.world.settings import WorldData
from earl.world.tasks import WorldTask, caption, sample_group

_CAPTIONS = 71  # stream of the caption wordings
_QUESTIONS = 73


def prepare_world(
    folder: str | Path,
    encoder: Encoder,
    settings: WorldData,
    *,
    batch: int = 64,
    workers: int = 0,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the world's tasks as shards into a folder.

    Args:
        encoder: makes codes from images.
        batch: images encoded at once.
        workers: processes that draw images; 0 draws in this one.
        on_shard: called with (shards done, shards in all).

    A folder may be continued with more sources; a last shard that was short stays short.

    Raises:
        DataError: the folder holds shards made with other settings, another process is preparing it, or
            an unknown family.
        OutputError: the disk is full, or one of the workers was killed.
    """
    folder = Path(folder)
    made_with = {
        "origin": "world",
        "fingerprint": encoder.fingerprint(),
        "codebook_size": encoder.codebook_size,
        **({"size_rule": encoder.rule} if encoder.rule != "snap" else {}),  # older folders: "snap"
        **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(settings).items() if k != "sources"},
    }
    start_folder(folder, made_with)
    count = -(-settings.sources // settings.shard_sources)
    # Spawned, not forked: a fork of a process whose torch threads run can hang.
    pools = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else nullcontext()
    with only_one(folder) as check, pools as pool:
        clear_partial(folder)
        for index in range(count):
            if not shard_path(folder, index).exists():
                edits = list(_shard_edits(index, encoder, settings, batch, pool))
                check()
                drop_card(folder)
                write_shard(folder, index, edits, split=settings.split)
            if on_shard:
                on_shard(index + 1, count)
    write_card(folder, source={"name": "world", "seeds": [settings.first_seed, settings.sources]})
    return folder


def _shard_edits(
    index: int, encoder: Encoder, settings: WorldData, batch: int, pool: Executor | None
) -> Iterator[Edit]:
    first = settings.first_seed + index * settings.shard_sources
    last = min(first + settings.shard_sources, settings.first_seed + settings.sources)
    families = settings.families or None
    tasks: list[WorldTask] = []
    for seed in range(first, last):
        tasks += sample_group(seed, settings.split, families, settings.kinds, settings.group_size)
    scenes = list(dict.fromkeys(scene for task in tasks for scene in (task.source, task.target)))
    pixels = dict(zip(scenes, _render_all(scenes, settings.resolution, pool), strict=True))
    codes = dict(zip(scenes, _encode_all([pixels[s] for s in scenes], encoder, batch), strict=True))
    for number, task in enumerate(tasks):
        rng = np.random.default_rng([_CAPTIONS, first, number])
        asked = ask(task, first, number, settings)
        yield Edit(
            id=task.id,
            source=task.source_key,
            source_codes=codes[task.source],
            target_codes=codes[task.target],
            changed=changed_cells(pixels[task.source], pixels[task.target], dilate=settings.margin),
            instruction=task.instruction,
            reasoning=task.reasoning if settings.reasoning == "steps" else plan(task.source, task.target),
            family=task.family,
            group=task.group,
            source_caption=caption(task.source, rng),
            target_caption=caption(task.target, rng),
            questions=tuple(question for question, _ in asked),
            answers=tuple(answer for _, answer in asked),
            request=to_json(name_solids(task.request, task.source, task.target)),
        )


def ask(task: WorldTask, first: int, number: int, settings: WorldData) -> list[tuple[str, str]]:
    """The questions of one edit: number `number` of the shard that begins with seed `first`."""
    rng = np.random.default_rng([_QUESTIONS, first, number])
    return questions(task.source, rng, settings.questions, first=number % 4, resolution=settings.resolution)


def _render_all(scenes: Sequence[Scene], resolution: int, pool: Executor | None) -> list[NDArray[np.uint8]]:
    sizes = [resolution] * len(scenes)
    if pool is None:
        return list(map(render, scenes, sizes))
    try:
        return list(pool.map(render, scenes, sizes, chunksize=32))
    except BrokenProcessPool as error:
        raise OutputError(
            "a process that draws images was killed, as where memory is short; run the same command again to "
            "go on, with fewer --workers"
        ) from error


def _encode_all(
    drawn: Sequence[NDArray[np.uint8]], encoder: Encoder, batch: int
) -> Iterator[NDArray[np.int32]]:
    for start in range(0, len(drawn), batch):
        images = [Image.fromarray(pixels) for pixels in drawn[start : start + batch]]
        yield from encoder.encode(images, resize=False)
