"""Visual questions about a scene, answered cell by cell: a perception task for policies.

An answer has one word for each latent cell, row by row: the colour, shape, size or texture of the
solid that covers most of it, or "background". A question that names a solid ("find the red cube")
is answered with "object" in its cells. Such an answer lies at a fixed distance from the image, as
the copy of an edit does, so that reading needs little beyond copying; and finding what words name is
what an edit of it begins with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earl.records import FIND, FOUND
from earl.vision.images import CELL
from earl.world.language.request import RELATIONS, SIDES, Ref
from earl.world.language.tables import usual
from earl.world.proposals import unique
from earl.world.rendering import object_map
from earl.world.sampling import choose
from earl.world.scene import Scene, SceneObject

READINGS = ("color", "shape", "size", "texture")
NOTHING = "background"
_LEAST = 0.25  # of a cell that a solid covers, to be what the cell shows


def questions(
    scene: Scene, rng: np.random.Generator, count: int, *, first: int = 0, resolution: int = 64
) -> list[tuple[str, str]]:
    """Questions about a scene in turn: one to read, one to find, and so on.

    Args:
        count: how many.
        first: which reading comes first; successive edits of an image turn on. Read are attributes in
            which the solids differ, the colour where they differ in none.
        resolution: side of the image in pixels, a multiple of 8.

    Returns:
        (question, answer); an answer has (resolution / 8)² words.
    """
    cells_HW = cell_objects(scene, resolution)
    telling = [a for a in READINGS if len({getattr(obj, a) for obj in scene.objects}) > 1] or READINGS[:1]
    found = []
    for number in range(count):
        if number % 2 == 0:
            attribute = telling[(first + number // 2) % len(telling)]
            words = [getattr(obj, attribute) for obj in scene.objects]
            found.append((f"the {attribute} of all objects", _answer(cells_HW, words)))
        else:
            text, named = _named(scene, rng)
            words = [FOUND if any(obj is one for one in named) else NOTHING for obj in scene.objects]
            found.append((f"{FIND}{text}", _answer(cells_HW, words)))
    return found


def cell_objects(scene: Scene, resolution: int = 64) -> NDArray[np.int8]:
    """The number of the solid that covers most of each cell, -1 where none covers a quarter: (H, W)."""
    side = resolution // CELL
    pixels = object_map(scene, resolution).reshape(side, CELL, side, CELL)
    if not scene.objects:
        return np.full((side, side), -1, np.int8)
    shares_HWN = np.stack([(pixels == n).mean((1, 3)) for n in range(len(scene.objects))], -1)
    return np.where(shares_HWN.max(-1) >= _LEAST, shares_HWN.argmax(-1), -1).astype(np.int8)


def _answer(cells_HW: NDArray[np.int8], words: list[str]) -> str:
    return " ".join(words[n] if n >= 0 else NOTHING for n in cells_HW.ravel())


def _named(scene: Scene, rng: np.random.Generator) -> tuple[str, list[SceneObject]]:
    """Words for some of a scene's solids, and those solids."""
    if rng.random() < 0.3:
        by_place = _by_place(scene, rng)
        if by_place is not None:
            return by_place
    if not scene.objects:
        return "all objects", []
    obj = choose(rng, scene.objects)
    ref = (
        Ref.of(obj)
        if rng.random() < 0.5
        else Ref(
            shape=obj.shape if rng.random() < 0.5 else None,
            color=obj.color if rng.random() < 0.5 else None,
            size=obj.size if rng.random() < 0.3 else None,
            texture=obj.texture if rng.random() < 0.3 else None,
        )
    )
    named = [o for o in scene.objects if ref.matches(o)]
    return f"the {ref.words(plural=len(named) > 1)}", named


def _by_place(scene: Scene, rng: np.random.Generator) -> tuple[str, list[SceneObject]] | None:
    """A solid named by where it stands; None where the words would fit none."""
    if rng.random() < 0.5:
        number, side = int(rng.integers(1, 4)), choose(rng, SIDES)
        obj = scene.nth_from(number, side)
        return (f"the {usual('nth', number)} object from the {side}", [obj]) if obj else None
    options = [
        (f"the one {relation} the {Ref.of(other).words()}", [obj])
        for other in unique(scene)
        for relation in RELATIONS
        if (obj := scene.related(relation, other)) is not None
    ]
    return choose(rng, options) if options else None
