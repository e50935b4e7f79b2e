"""Editing tasks: a source scene, an instruction, a target scene, boxes and reasoning, by seed.

Splits never share a task: each draws from random streams of its own. "heldout" holds only the
shape-colour-edit combinations that the other splits leave out (`families.held_out`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from earl.data.tasks import Split
from earl.errors import DataError
from earl.records import Box
from earl.world.families import FAMILIES, PROPOSERS, REFUSED, uses_held_out
from earl.world.language.plain import plain_phrase
from earl.world.language.request import Request, place_words
from earl.world.language.tables import usual
from earl.world.proposals import Proposal, covered
from earl.world.rendering import foot
from earl.world.sampling import Kinds, choose, sample_scene
from earl.world.scene import RADIUS, Scene, SceneObject

SPLITS: tuple[Split, ...] = ("train", "validation", "test", "heldout")
REASONING_SIDE = 64  # px
_SPLIT_STREAM = {"train": 11, "validation": 23, "test": 37, "heldout": 53}


@dataclass(frozen=True, slots=True)
class WorldTask:
    """One editing task. `boxes` bound what changes, in unit coordinates of the image;
    `source_key` is equal for tasks that share their source image."""

    id: str
    source: Scene
    target: Scene
    request: Request
    instruction: str
    family: str
    group: str
    boxes: tuple[Box, ...]
    reasoning: str
    source_key: str


def task_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the tasks of a benchmark; a smaller count gives the first of them."""
    states = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    return [int(state >> np.uint64(1)) for state in states]


def sample_task(
    seed: int, split: Split = "train", families: Sequence[str] | None = None, kinds: Kinds = "full"
) -> WorldTask:
    """The task of one seed. Raises DataError for an unknown split or family."""
    return sample_group(seed, split, families, kinds, size=1)[0]


def sample_group(
    seed: int,
    split: Split = "train",
    families: Sequence[str] | None = None,
    kinds: Kinds = "full",
    size: int = 4,
) -> list[WorldTask]:
    """Up to `size` tasks (at least one) that share one source scene, each of another family.

    Args:
        seed: non-negative; the same seed, split, families, kinds and size give the same tasks.
        split: "train", "validation", "test" or "heldout".
        families: names of `FAMILIES`; all when None.
        kinds: "full", or "few" for an easier curriculum.
        size: most tasks to draw.
    """
    if split not in _SPLIT_STREAM:
        raise DataError(f"unknown split {split!r}; expected one of {', '.join(_SPLIT_STREAM)}")
    names = list(families if families is not None else PROPOSERS)
    proposers = PROPOSERS | REFUSED
    unknown = [n for n in names if n not in proposers]
    if unknown or not names:
        raise DataError(f"unknown edit family {unknown!r}; expected some of {', '.join(PROPOSERS)}")
    rng = np.random.default_rng([_SPLIT_STREAM[split], seed])
    if split == "heldout":
        keyed = [n for n in names if n in ("add", "remove", "replace", "color", "size", "texture")]
        names = keyed or ["add", "remove", "replace", "color", "size", "texture"]
    lead = choose(rng, names)
    tasks: list[WorldTask] = []
    for _ in range(2000):
        scene = _scene_for(lead, rng, kinds)
        order = [lead, *(names[int(i)] for i in rng.permutation(len(names)) if names[int(i)] != lead)]
        for family in order:
            proposal = proposers[family](scene, rng, kinds)
            if proposal is None or uses_held_out(proposal) != (split == "heldout"):
                if family == lead:
                    break
                continue
            index = f"{split}-{seed}"
            tasks.append(_task(f"{index}-{len(tasks)}", index, scene, family, proposal, rng))
            if len(tasks) == size:
                return tasks
        if tasks:
            return tasks
    raise DataError(f"no scene allows the edit family {lead!r} with kinds={kinds!r}; choose other families")


def _scene_for(family: str, rng: np.random.Generator, kinds: Kinds) -> Scene:
    stacks = 0.5 if family == "relation" and kinds == "full" else 0.05 if kinds == "full" else 0.0
    count = int(rng.integers(3, 5)) if family in ("between", "move", "gather", "swap") else None
    scene = sample_scene(rng, kinds=kinds, stacks=stacks, posed=0.06 if kinds == "full" else 0.0, count=count)
    if family == "count" and rng.random() < 0.6:
        scene = _with_copies(scene, rng)
    return scene


def _with_copies(scene: Scene, rng: np.random.Generator) -> Scene:
    model = choose(rng, scene.objects)
    if model.level or covered(scene, model) or len(scene.objects) > 3:
        return scene
    for _ in range(int(rng.integers(1, 3))):
        free = list(scene.free_places())
        row, column = choose(rng, free)
        if len(scene.objects) < 5:
            scene = scene.with_object(model.moved(column, row))
    return scene


def _task(
    task_id: str, source_key: str, scene: Scene, family: str, proposal: Proposal, rng: np.random.Generator
) -> WorldTask:
    instruction = plain_phrase(proposal.request, rng)
    boxes = changed_boxes(scene, proposal)
    text = reasoning(scene, proposal, boxes)
    return WorldTask(
        task_id,
        scene,
        proposal.target,
        proposal.request,
        instruction,
        family,
        FAMILIES.get(family, family),
        boxes,
        text,
        source_key,
    )


def object_box(obj: SceneObject, scene: Scene) -> Box:
    """A box that holds a solid and its shadow, unit coordinates, clipped to the image."""
    radius = RADIUS[obj.size]
    x, y = foot(obj, scene)
    wide = 1.6 if obj.pose == "toppled" else 1.2
    tall = 2.5 if obj.pose != "open" else 2.9
    left, right = max(0.0, x - wide * radius), min(1.0, x + (wide + 0.35) * radius)
    return Box(
        round(left, 4),
        round(max(0.0, y - tall * radius), 4),
        round(right, 4),
        round(min(1.0, y + 0.6 * radius), 4),
    )


def changed_boxes(scene: Scene, proposal: Proposal) -> tuple[Box, ...]:
    """Where the image changes: each solid touched, before and after; the whole for global edits."""
    if scene.background != proposal.target.background or scene.style != proposal.target.style:
        return (Box(0.0, 0.0, 1.0, 1.0),)
    boxes = [object_box(o, scene) for o in proposal.before]
    boxes += [object_box(o, proposal.target) for o in proposal.after]
    return tuple(dict.fromkeys(boxes))


def describe(scene: Scene) -> str:
    """A scene in one sentence: solids from back to front, left to right, and the background."""
    solids = [f"a {o.size} {o.texture} {o.color} {o.shape} {place_words(o)}" for o in scene.objects]
    listed = ", ".join(solids) if solids else "nothing"
    when = {"day": "by day", "night": "at night", "sunset": "at sunset"}.get(scene.style, f"in {scene.style}")
    return f"{usual('background', scene.background)} {when} with {listed}"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption: complete, with short forms for what is usual (large, plain, day)."""
    solids = []
    for o in scene.objects:
        extra = [o.size if o.size == "small" else "", o.texture if o.texture == "striped" else ""]
        pose = o.pose if o.pose != "upright" else ""
        words = " ".join(w for w in (*extra, pose, o.color, o.shape) if w)
        solids.append(f"a {words} {place_words(o)}")
    when = {"day": "", "night": " at night", "sunset": " at sunset"}.get(scene.style, f" in {scene.style}")
    start = f"{usual('background', scene.background)}{when}"
    if rng.random() < 0.5:
        return f"{start} with {', '.join(solids)}"
    return f"{', '.join(solids)} in {start}"


def reasoning(scene: Scene, proposal: Proposal, boxes: Sequence[Box]) -> str:
    """The five steps of the paper: source described, object named, region, exact change, result.

    Box coordinates are whole pixels of an image of `REASONING_SIDE` pixels a side.
    """
    target = proposal.target
    named = ", ".join(f"the {o.color} {o.shape} {place_words(o)}" for o in proposal.before)
    if not named:
        named = "a new object" if proposal.after else "the whole image"
    sides = [[round(s * REASONING_SIDE) for s in (b.left, b.top, b.right, b.bottom)] for b in boxes]
    regions = ", ".join(map(str, sides))
    return (
        f"1. The image shows {describe(scene)}. 2. The edit is about {named}. 3. The region is {regions}. "
        f"4. {_change(scene, proposal)} 5. The result shows {describe(target)}."
    )


def _change(scene: Scene, proposal: Proposal) -> str:
    target = proposal.target
    parts = []
    if scene.background != target.background:
        parts.append(f"the background becomes {usual('background', target.background)}")
    if scene.style != target.style:
        parts.append(f"the style becomes {target.style}")
    moved = {}
    if len(proposal.before) == len(proposal.after):
        pairs = zip(proposal.before, proposal.after, strict=True)
        moved = {o.place: n for o, n in pairs if o.kind == n.kind and o.place != n.place}
    for obj in scene.objects:
        now = target.at(*obj.place)
        if obj.place in moved:
            parts.append(f"the {obj.color} {obj.shape} goes to the place {place_words(moved[obj.place])}")
        elif now is None:
            parts.append(f"the {obj.color} {obj.shape} {place_words(obj)} disappears")
        elif now.kind != obj.kind and now not in moved.values():
            was, is_now = " ".join(obj.kind[::-1]), " ".join(now.kind[::-1])
            parts.append(f"what stands {place_words(obj)} turns from {was} to {is_now}")
    arrived = {n.place for n in moved.values()}
    for obj in target.objects:
        if scene.at(*obj.place) is None and obj.place not in arrived:
            parts.append(f"a {obj.size} {obj.texture} {obj.color} {obj.shape} appears {place_words(obj)}")
    sentence = "; ".join(parts) or "nothing changes"
    return sentence[0].upper() + sentence[1:] + "."


def all_texts(rng: np.random.Generator, count: int) -> Iterator[str]:
    """Sentences of every kind the world can say, to train a text tokenizer on."""
    for index in range(count):
        task = sample_task(int(rng.integers(2**31)), "train")
        turn = index % 6
        yield task.reasoning if turn == 0 else caption(task.source, rng) if turn == 1 else task.instruction
