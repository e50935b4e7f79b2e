"""Exercises for `teach_words.py`: scenes drawn anew, where every solid and every place is asked for.

An instruction names one solid or two, so an image teaches little about where its other solids are.
Exercises ask for all of them: plans of several requests about one image, its solids listed with their
places, and steps of longer edits, to be drawn. Nothing is stored; no combination of the
held-out split occurs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.data.changes import changed_cells
from earl.data.shards import Edit
from earl.data.tokenise import Encoder
from earl.world.families import PROPOSERS, REFUSED, uses_held_out
from earl.world.language.drawing import draw_wording
from earl.world.language.naming import name_solids, to_json
from earl.world.language.plain import plain_phrase
from earl.world.language.request import Ref, Request
from earl.world.plans import list_solids, plan, requested
from earl.world.proposals import Proposal, build, covered, new_kind, put, swapped, taken
from earl.world.rendering import render
from earl.world.sampling import can_carry, choose, sample_scene
from earl.world.scene import Scene, SceneObject
from earl.world.tasks import sample_group

LIST = "list what is where"
COMPOSED = "composed"
"""Family of edits whose plan is given; the image is taught."""
HARD = ("double", "gather", "move", "relation", "replace", "size", "stack", "swap")
"""Families that are asked about twice as often."""
STEPS = {"put": 0.45, "take": 0.15, "turn": 0.2, "family": 0.2}
"""What a step is, and how often."""
ONE_PLACE = ("color", "size", "texture", "background", "style", "topple", "open")
SEEDS = (10**7, 2**31)


class Exercises:
    """Draws exercises; each call gives edits of one source image, 64 pixels wide."""

    def __init__(self, encoder: Encoder, rng: np.random.Generator) -> None:
        self.encoder = encoder
        self.rng = rng

    def texts(self, scenes: int) -> list[list[Edit]]:
        """Of three scenes in four: plans of up to five requests in people's words, and the solids listed; of
        the fourth, a crowded one: three lists. The target is the source: no image is taught."""
        made = [self._listed() if number % 4 == 0 else self._asked() for number in range(scenes)]
        codes = self._codes([render(scene, 64) for scene, _ in made])
        bundles = []
        for (_, said), source in zip(made, codes, strict=True):
            blank = np.zeros(source.shape, bool)
            bundles.append([_edit(source, source, blank, words, text) for words, text in said])
        return bundles

    def _asked(self) -> tuple[Scene, list[tuple[str, str]]]:
        odds = np.array([2.0 if name in HARD else 1.0 for name in PROPOSERS])
        names = [str(n) for n in self.rng.choice(list(PROPOSERS), size=9, replace=False, p=odds / odds.sum())]
        # of three scenes the one with most solids: there they are mixed up most
        seeds = self.rng.integers(*SEEDS, size=3)
        groups = [sample_group(int(seed), "train", names, size=5) for seed in seeds]
        tasks = max(groups, key=lambda group: len(group[0].source.objects))
        scene = tasks[0].source
        said = [(self._worded(task.request, scene, task.target), plan(scene, task.target)) for task in tasks]
        said.append((LIST, list_solids(scene, self.rng)))
        if self.rng.random() < 0.3:
            other = REFUSED["other"](scene, self.rng, "full")
            assert other is not None, "every scene can be asked for what there is not"
            said.append((self._worded(other.request, scene, scene), plan(scene, scene)))
        return scene, said

    def _listed(self) -> tuple[Scene, list[tuple[str, str]]]:
        scene = self._crowded(4, 7)
        return scene, [(LIST, list_solids(scene, self.rng)) for _ in range(3)]

    def _crowded(self, least: int, most: int) -> Scene:
        count = int(self.rng.integers(least, most + 1))
        return sample_scene(self.rng, count=count, stacks=0.15, posed=0.2)

    def _worded(self, request: Request, scene: Scene, target: Scene) -> str:
        return draw_wording(to_json(name_solids(request, scene, target)), self.rng)

    def drawings(self, scenes: int, targets: int = 4) -> list[list[Edit]]:
        """Of each of several scenes: edits of one change, asked for and planned as a step of a longer edit is
        (`earl.world.plans.steps`). Their plans are given."""
        chosen = [self._stepped(targets) for _ in range(scenes)]
        drawn = [[render(scene, 64) for scene in (first, *becomes)] for first, becomes in chosen]
        codes = iter(self._codes([pixels for one in drawn for pixels in one]))
        bundles = []
        for (scene, becomes), pixels in zip(chosen, drawn, strict=True):
            source = next(codes)
            bundles.append([])
            for target, after in zip(becomes, pixels[1:], strict=True):
                said = plan(scene, target)
                words = plain_phrase(requested(said), self.rng)
                bundles[-1].append(_edit(source, next(codes), changed_cells(pixels[0], after), words, said))
        return bundles

    def _stepped(self, targets: int) -> tuple[Scene, list[Scene]]:
        """A scene, and what it becomes by one change, several times."""
        scene = self._crowded(1, 5)
        if self.rng.random() < 0.5:
            scene = self._step(scene)  # in the midst of an edit two solids may look the same
        becomes: list[Scene] = []
        while len(becomes) < targets:
            target = self._step(scene)
            if target.content != scene.content:
                becomes.append(target)
        return scene, becomes

    def _step(self, scene: Scene) -> Scene:
        """The scene after one place, the ground or the style has changed, or the scene itself. Solids come to
        any place, so that where they go can be known from the plan alone."""
        rng = self.rng
        kind = str(rng.choice(list(STEPS), p=list(STEPS.values())))
        loose = [solid for solid in scene.objects if not covered(scene, solid)]
        change: Proposal | None = None
        if kind == "family":
            change = PROPOSERS[choose(rng, ONE_PLACE)](scene, rng, "full")
        elif kind == "put" and len(scene.objects) < 6 and (place := self._place(scene)):
            new = self._kind(scene, *place)
            change = put("add", scene, new, Ref.of(new))
        elif kind == "take" and loose:
            change = taken(Request("remove"), scene, choose(rng, loose))
        elif kind == "turn" and loose and (old := choose(rng, loose)).level == 0:
            new = self._kind(scene, *old.place)
            change = swapped(Request("replace"), scene, old, new, "replace")
            said = requested(plan(scene, change.target))
            if said is None or said.op != "replace":  # another colour or size alone has its own held-out ones
                return scene
        return scene if change is None or uses_held_out(change) else change.target

    def _kind(self, scene: Scene, row: int, column: int, level: int) -> SceneObject:
        """A solid for a place, half the time one like another of the scene's."""
        if scene.objects and self.rng.random() < 0.5:
            like = choose(self.rng, scene.objects)
            if level == 0 or like.pose == "upright":
                return like.moved(column, row, level)
        return build(new_kind(scene, self.rng, "full"), row, column, level)

    def _place(self, scene: Scene) -> tuple[int, int, int] | None:
        """A free place on the ground or, one time in five, on a solid that can carry one."""
        carriers = [solid for solid in scene.objects if can_carry(scene, solid) and solid.size == "large"]
        if carriers and self.rng.random() < 0.2:
            below = choose(self.rng, carriers)
            return below.row, below.column, 1
        free = list(scene.free_places())
        return (*choose(self.rng, free), 0) if free else None

    def _codes(self, pixels: list[NDArray[np.uint8]]) -> list[NDArray[np.int32]]:
        return self.encoder.encode([Image.fromarray(one) for one in pixels], resize=False)


def _edit(
    source: NDArray[np.int32], target: NDArray[np.int32], changed: NDArray[np.bool_], words: str, text: str
) -> Edit:
    return Edit(
        id="exercise",
        source="exercise",
        source_codes=source,
        target_codes=target,
        changed=changed,
        instruction=words,
        reasoning=text,
        family=COMPOSED,
        group=COMPOSED,
    )
