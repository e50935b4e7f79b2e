"""Exercises for `teach_words.py`: scenes drawn anew, where every solid and every place is asked for.

An instruction names one solid or two, so an image teaches little about where its other solids are.
Exercises ask for all of them: plans of several requests about one image, its solids listed with their
places, and plans of up to four changes at once, to be drawn. Nothing is stored; no combination of the
held-out split occurs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.data.changes import changed_cells
from earl.data.shards import Edit
from earl.data.tokenise import Encoder
from earl.world.families import PROPOSERS, REFUSED, uses_held_out
from earl.world.language.drawing import draw_wording
from earl.world.language.naming import name_solids, to_json
from earl.world.language.request import Request
from earl.world.plans import list_solids, plan
from earl.world.proposals import Proposal
from earl.world.rendering import render
from earl.world.sampling import choose, sample_scene
from earl.world.scene import Scene
from earl.world.tasks import sample_group

LIST = "list what is where"
DRAW = "do what the plan says"
COMPOSED = "composed"
"""Family of plans of several changes: the image is taught, the plan is given."""
HARD = ("double", "gather", "move", "relation", "replace", "size", "stack", "swap")
"""Families that are asked about twice as often."""
WHOLE = ("style", "double", "gather", "count", "relation", "between")
PARTS = tuple(name for name in PROPOSERS if name not in WHOLE)
"""Families whose edits are composed; style less often, it changes every cell."""
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
            other = _proposed("other", scene, self.rng)
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
        """Of each of several scenes: edits of one to four changes, whose plans are given."""
        chosen = [list(self._composed(targets)) for _ in range(scenes)]
        drawn = [
            [render(scene, 64) for scene in [group[0][0], *(new for _, new in group)]] for group in chosen
        ]
        codes = iter(self._codes([pixels for one in drawn for pixels in one]))
        bundles = []
        for group, pixels in zip(chosen, drawn, strict=True):
            source = next(codes)
            bundles.append(
                [
                    _edit(source, next(codes), changed_cells(pixels[0], after), DRAW, plan(*pair))
                    for pair, after in zip(group, pixels[1:], strict=True)
                ]
            )
        return bundles

    def _composed(self, targets: int) -> Iterator[tuple[Scene, Scene]]:
        """A scene, and what it becomes, several times."""
        scene = self._crowded(2, 5)
        made = 0
        while made < targets:
            target, touched = scene, set[tuple[int, int, int]]()
            for _ in range(int(self.rng.integers(1, 5))):
                family = "style" if self.rng.random() < 0.1 else choose(self.rng, PARTS)
                proposal = _proposed(family, target, self.rng)
                if proposal is None or uses_held_out(proposal):
                    continue
                places = {solid.place for solid in (*proposal.before, *proposal.after)}
                if not places & touched:  # two changes of one place would be a third, perhaps a held-out one
                    target = proposal.target
                    touched |= places
            if target.content != scene.content:
                made += 1
                yield scene, target

    def _codes(self, pixels: list[NDArray[np.uint8]]) -> list[NDArray[np.int32]]:
        return self.encoder.encode([Image.fromarray(one) for one in pixels], resize=False)


def _proposed(family: str, scene: Scene, rng: np.random.Generator) -> Proposal | None:
    return (PROPOSERS | REFUSED)[family](scene, rng, "full")


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
