"""From pixels to a scene: analysis by synthesis.

Background and style come first, then solids: rough candidates at every place, the best of them
looked at closely with everything else in the picture drawn around them, until nothing changes.
What was understood is drawn again, and what the pixels hold beyond it is the residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.errors import ImageError
from earl.verifier.backdrop import KINDS, PLACES, read_look, rough, window
from earl.verifier.sprites import CARRIERS, FORM_INDEX, FORMS
from earl.verifier.stage import HUELESS, Patch, Solid, Stage, energies, foot_of, soften, stage
from earl.world.scene import BACKGROUNDS, COLORS, MAX_JITTER, STYLES, Scene, SceneObject

Array = NDArray[np.float32]

PRICE = 5.0  # energy that a solid must explain to be believed
KEEP = 8  # rough candidates looked at closely
STACK_CUE = 7.0  # unexplained energy above a solid that makes a stack worth a try
COLOR_SLACK = 0.10  # of a solid's contrast: colours this close are equal where hue is lost
_STEPS = (-1.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Perception:
    """What was seen.

    Attributes:
        scene: the scene, positions included.
        residual: float32 (S, S, 3), pixels minus the scene drawn again, at the working side.
        confidence: by place (row, column, level), 0-1: how much worse the next kind would be.
        look_margin: how much worse the next background or style would be, full scale 1.
    """

    scene: Scene
    residual: Array
    confidence: dict[tuple[int, int, int], float] = field(default_factory=dict)
    look_margin: float = 0.0


def working_side(side: int) -> int:
    """The side at which a picture of this side is looked at: 64, or 96 for larger pictures."""
    return 64 if side <= 80 else 96


def to_working(pixels: NDArray[np.uint8]) -> Array:
    """Pixels in [0, 1] at the working side, float32 (S, S, 3).

    Raises:
        ImageError: not uint8 (R, R, 3) with R at least 16.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"expected uint8 pixels (R, R, 3), got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    if height != width or height < 16:
        raise ImageError(f"the world's pictures are square, at least 16 pixels a side, got {width}x{height}")
    side = working_side(height)
    if height != side:
        filtering = Image.Resampling.BOX if height % side == 0 else Image.Resampling.LANCZOS
        pixels = np.asarray(Image.fromarray(pixels).resize((side, side), filtering))
    return pixels.astype(np.float32) / 255


def perceive(pixels: NDArray[np.uint8], *, prior: Scene | None = None) -> Perception:
    """Read the scene off a picture.

    Args:
        pixels: uint8 (R, R, 3), R a multiple of 8; other sides than 64 and 96 are resized.
        prior: a scene that helps only where colour cannot be seen (sepia, pencil): among the
            colours that fit equally well, the one that the prior has is taken.

    Raises:
        ImageError: pixels of another form.
    """
    picture = to_working(pixels)
    background, style, margin = read_look(picture)
    search = _Search(picture, stage(picture.shape[0], background, style))
    search.run()
    if prior is not None and style in HUELESS:
        search.borrow_colors(prior)
    solids = search.solids
    residual = picture - search.stage.compose(solids)
    scene = Scene(background, style, tuple(s.to_object() for s in solids))
    return Perception(scene, residual, dict(search.confidence), margin)


class _Search:
    """The solids of one picture, found by drawing them."""

    def __init__(self, picture: Array, scene_stage: Stage) -> None:
        self.stage = scene_stage
        self.seen = soften(scene_stage.view(picture))
        self.side = scene_stage.side
        self.solids: list[Solid] = []
        self.confidence: dict[tuple[int, int, int], float] = {}
        self.shortlist: dict[tuple[int, int], list[tuple[int, int]]] = {}

    # -- the order of things -----------------------------------------------------------------

    def run(self) -> None:
        self._first_look()
        for row, column in PLACES:
            if self.at(row, column, 0) is not None:
                self._settle(self.at(row, column, 0), self.shortlist[row, column])
        for row, column in PLACES:
            self._try_stack(row, column)
        for _ in range(2):
            before = list(self.solids)
            for solid in list(self.solids):
                self._settle(solid, self._neighbours(solid))
            self._drop_needless()
            if [s[:5] for s in before] == [s[:5] for s in self.solids]:
                break

    def at(self, row: int, column: int, level: int) -> Solid | None:
        return next((s for s in self.solids if s.place == (row, column, level)), None)

    def _set(self, solid: Solid | None, place: tuple[int, int, int]) -> None:
        self.solids = sorted([s for s in self.solids if s.place != place], key=lambda s: s.place)
        if solid is not None:
            self.solids.append(solid)
            self.solids.sort(key=lambda s: s.place)

    def _first_look(self) -> None:
        for row, column in PLACES:
            apart, empty = rough(self.seen, self.stage.background, self.stage.style, row, column)
            order = np.argsort(apart)[:KEEP]
            self.shortlist[row, column] = [KINDS[i] for i in order]
            if apart[order[0]] < empty - 0.15:
                form, color = KINDS[order[0]]
                self._set(Solid(form, color, row, column, 0), (row, column, 0))

    # -- energies ------------------------------------------------------------------------------

    def _patch(self, place: tuple[int, int, int]) -> Patch:
        patch = window(self.side, place[0], place[1])
        if place[2] or self.at(place[0], place[1], 1) is not None:
            return replace(patch, top=max(0, patch.top - 2 * round(0.085 * self.side)))
        return patch

    def _energies(self, candidates: Sequence[Solid], patch: Patch) -> Array:
        """Energy of each candidate (all for one place) in a patch, the rest of the scene drawn around."""
        place = candidates[0].place
        around = self.stage.surroundings(self.solids, place, patch)
        below = self.at(place[0], place[1], 0) if place[2] else None
        feet = [(s.form, *foot_of(s, below)) for s in candidates]
        seen = self.seen[patch.top : patch.bottom, patch.left : patch.right]
        drawn = self.stage.draw(around, patch, feet, [s.color for s in candidates], place[2])
        return energies(drawn, seen, self.stage.weight)

    def _energy_without(self, place: tuple[int, int, int], patch: Patch) -> float:
        around = self.stage.surroundings(self.solids, place, patch)
        seen = self.seen[patch.top : patch.bottom, patch.left : patch.right]
        return float(energies(self.stage.empty(around, patch), seen, self.stage.weight)[0])

    # -- one place -------------------------------------------------------------------------------

    def _neighbours(self, solid: Solid) -> list[tuple[int, int]]:
        """Kinds that differ from a solid in one respect, and the place's rough candidates."""
        f = FORMS[solid.form]
        kinds = [(solid.form, c) for c in range(len(COLORS))]
        for i, g in enumerate(FORMS):
            same = (g.size == f.size) + (g.texture == f.texture) + (g.shape == f.shape and g.pose == f.pose)
            if same == 2:
                kinds.append((i, solid.color))
        if solid.level == 0:
            kinds += self.shortlist[solid.row, solid.column]
        return list(dict.fromkeys(kinds))

    def _settle(self, solid: Solid, kinds: Sequence[tuple[int, int]]) -> None:
        """Find the best kind, then the best position, for the solid of a place."""
        kinds = list(dict.fromkeys([(solid.form, solid.color), *kinds]))
        if self.at(solid.row, solid.column, 1) is not None and solid.level == 0:
            kinds = [k for k in kinds if FORMS[k[0]].carries]
        patch = self._patch(solid.place)
        best = solid
        if solid.level == 0:
            coarse = 0.6 * MAX_JITTER
            shifts = [(a * coarse, b * coarse) for a in _STEPS for b in _STEPS]
            trial = self._energies([solid._replace(form=f, color=c) for f, c in kinds], patch)
            first = [kinds[i] for i in np.argsort(trial)[:4]]
            options = [
                solid._replace(form=f, color=c, dx=_clip(solid.dx + dx), dy=_clip(solid.dy + dy))
                for f, c in first
                for dx, dy in shifts
            ]
            options = list(dict.fromkeys(options))
            energy = self._energies(options, patch)
            best = options[int(energy.argmin())]
            fine = 0.3 * MAX_JITTER
            options = [
                best._replace(dx=_clip(best.dx + a * fine), dy=_clip(best.dy + b * fine)) for a in _STEPS for b in _STEPS
            ]
            energy = self._energies(options, patch)
            best = options[int(energy.argmin())]
        options = [best._replace(form=f, color=c) for f, c in kinds]
        energy = self._energies(options, patch)
        order = np.argsort(energy)
        best = options[int(order[0])]
        if self._energy_without(best.place, patch) < energy[order[0]] + PRICE and not (
            best.level == 0 and self.at(best.row, best.column, 1)
        ):
            self._set(None, best.place)
            return
        self._set(best, best.place)
        margin = float(energy[order[1]] - energy[order[0]]) if len(order) > 1 else PRICE
        self.confidence[best.place] = 1 - float(np.exp(-margin / PRICE))

    def _try_stack(self, row: int, column: int) -> None:
        """See whether one solid on another explains a place better than what was found."""
        solid = self.at(row, column, 0)
        if solid is None:
            return
        patch = self._patch((row, column, 1))
        alone = float(self._energies([solid], patch)[0])
        apart, _ = rough(self.seen, self.stage.background, self.stage.style, row, column, low=True)
        order = [i for i in np.argsort(apart) if KINDS[i][0] in CARRIERS][:6]
        bases = [solid._replace(form=KINDS[i][0], color=KINDS[i][1]) for i in order]
        if FORMS[solid.form].carries:
            bases.insert(0, solid)
        elif alone < STACK_CUE:
            return
        kept = list(self.solids)
        best, best_energy = kept, alone
        for base in dict.fromkeys(bases):
            self._set(base, base.place)
            above = self._above(base)
            tops = [Solid(f, c, row, column, 1) for f, c in KINDS]
            energy = self._energies(tops, above)
            top = tops[int(energy.argmin())]
            self._set(top, top.place)
            total = float(self._energies([top], patch)[0]) + PRICE
            if total < best_energy:
                best, best_energy = list(self.solids), total
            self.solids = list(kept)
        self.solids = best

    def _above(self, base: Solid) -> Patch:
        patch = self._patch((base.row, base.column, 1))
        bottom = int((0.53 + 0.375 * base.row - 0.04) * self.side)
        return replace(patch, bottom=bottom + bottom % 2)

    def _drop_needless(self) -> None:
        places = {s.place for s in self.solids}
        self.confidence = {p: c for p, c in self.confidence.items() if p in places}

    # -- where hue is lost ---------------------------------------------------------------------

    def borrow_colors(self, prior: Scene) -> None:
        """Among colours that fit equally well take the prior's: of the place, or else of the same shape."""
        for solid in list(self.solids):
            patch = self._patch(solid.place)
            energy = self._energies([solid._replace(color=c) for c in range(len(COLORS))], patch)
            scale = max(self._energy_without(solid.place, patch) - float(energy.min()), PRICE)
            likely = {c for c in range(len(COLORS)) if energy[c] <= energy.min() + COLOR_SLACK * scale}
            wanted = _prior_colors(prior, solid)
            color = next((c for c in wanted if c in likely), solid.color)
            self._set(solid._replace(color=color), solid.place)


def _prior_colors(prior: Scene, solid: Solid) -> list[int]:
    here = prior.at(*solid.place)
    shape = FORMS[solid.form].shape
    alike = [o for o in prior.objects if o.shape == shape]
    found: list[SceneObject] = ([here] if here is not None else []) + alike
    return [COLORS.index(o.color) for o in found]


def _clip(v: float) -> float:
    return float(np.clip(v, -MAX_JITTER, MAX_JITTER))


__all__ = ["Perception", "perceive", "to_working", "working_side"]
assert FORM_INDEX and BACKGROUNDS and STYLES
