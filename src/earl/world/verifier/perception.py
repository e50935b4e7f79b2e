"""Perception: from pixels to a scene, by analysis through synthesis.

Background and style come first, then solids: rough candidates at every place, the best of them
looked at closely with everything else in the image drawn around them, until nothing changes.
What was understood is drawn again, and what the pixels hold beyond it is the residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.errors import ImageError
from earl.world.scene import COLORS, MAX_JITTER, Scene, ground_point
from earl.world.verifier.backdrop import KINDS, PLACES, read_backdrop, rough, window
from earl.world.verifier.canvas import (
    CAP,
    HUELESS,
    Canvas,
    Patch,
    Solid,
    energies,
    foot_of,
    halved,
    shared_canvas,
    soften,
)
from earl.world.verifier.sprites import CARRIERS, FORMS

Array = NDArray[np.float32]

PRICE = 5.0  # energy that a solid must explain to be believed
KEEP = 8  # rough candidates looked at closely
CLOSE = 3  # of them, those tried in all positions
STACK_CUE = 2.0  # energy beyond the ordinary above a solid that makes a stack worth a try
ORDINARY = 0.06  # a softened pixel's difference that blur and noise explain
TIE = 0.10  # of a solid's contrast: kinds this close fit equally well
_STEPS = (-1.0, 0.0, 1.0)
_NINE = tuple((a, b) for a in _STEPS for b in _STEPS)

Place = tuple[int, int, int]
Kind = tuple[int, int]  # form, colour


@dataclass(frozen=True, slots=True)
class Perception:
    """A scene as read from an image.

    Attributes:
        scene: the scene, positions included.
        residual: float32 (S, S, 3), pixels minus the scene drawn again, at the working side.
        wear: by place (row, column, level), how much of a solid is missing, 0 (whole) to 1 (gone), in its
            worst half.
    """

    scene: Scene
    residual: Array
    wear: dict[Place, float] = field(default_factory=dict)


def working_side(side: int) -> int:
    """The side at which an image of this side is looked at: 64, or 96 for larger images."""
    return 64 if side <= 80 else 96


def to_working(pixels: NDArray[np.uint8]) -> Array:
    """Pixels in [0, 1] at the working side, float32 (3, S, S).

    Raises:
        ImageError: not uint8 (R, R, 3) with R at least 16.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"expected uint8 pixels (R, R, 3), got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    if height != width or height < 16:
        raise ImageError(
            f"not a scene of the world, which are square with sides of 16 px or more: {width}x{height} px; "
            "take a judge, or `target`"
        )
    side = working_side(height)
    if height != side:
        filtering = Image.Resampling.BOX if height % side == 0 else Image.Resampling.LANCZOS
        pixels = np.asarray(Image.fromarray(pixels).resize((side, side), filtering))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def perceive(pixels: NDArray[np.uint8], *, prior: Scene | None = None) -> Perception:
    """Read the scene off an image.

    Args:
        pixels: uint8 (R, R, 3), R a multiple of 8; other sides than 64 and 96 are resized.
        prior: a scene that decides between kinds that fit about equally well, as after a vision
            tokenizer: the one that it has at the place is taken. Where colour cannot be seen (sepia,
            pencil) it also says what the colours of solids elsewhere may be.

    Raises:
        ImageError: pixels of another form.
    """
    pixels_CHW = to_working(pixels)
    background, style = read_backdrop(pixels_CHW)
    search = _Search(pixels_CHW, shared_canvas(pixels_CHW.shape[1], background, style))
    search.run()
    if prior is not None:
        search.borrow(prior)
    residual = (pixels_CHW - search.canvas.compose(search.solids)).transpose(1, 2, 0)
    scene = Scene(background, style, tuple(s.to_object() for s in search.solids))
    return Perception(scene, residual, search.wear())


class _Search:
    """The solids of one image, found by drawing them."""

    def __init__(self, image_CHW: Array, canvas: Canvas) -> None:
        self.canvas = canvas
        self.side = canvas.side
        self.view = canvas.view(image_CHW)
        self.seen = soften(self.view)
        self.solids: list[Solid] = []
        self.shortlist: dict[tuple[int, int], list[Kind]] = {}
        self._settled: dict[Place, tuple[Solid, ...]] = {}

    # -- the order of things -----------------------------------------------------------------

    def run(self) -> None:
        """Find the solids."""
        self._first_look()
        for row, column in PLACES:
            solid = self.at(row, column, 0)
            if solid is not None:
                self._settle(solid, self.shortlist[row, column])
        for row, column in PLACES:
            self._try_stack(row, column)
        for _ in range(3):
            changed = False
            for solid in list(self.solids):
                if self.at(*solid.place) is solid and self._settled.get(solid.place) != self._around(
                    solid.place
                ):
                    changed = True
                    self._settle(solid, self._neighbours(solid))
            if not changed:
                break

    def at(self, row: int, column: int, level: int) -> Solid | None:
        """The solid found at a place."""
        return next((s for s in self.solids if s.place == (row, column, level)), None)

    def _set(self, solid: Solid | None, place: Place) -> None:
        kept = [s for s in self.solids if s.place != place]
        self.solids = sorted([*kept, solid] if solid else kept, key=lambda s: s.place)

    def _first_look(self) -> None:
        backdrop = self.canvas.background, self.canvas.style
        for row, column in PLACES:
            apart, empty = rough(self.seen, self.side, *backdrop, row, column)
            order = np.argpartition(apart, KEEP)[:KEEP]
            order = order[np.argsort(apart[order])]
            self.shortlist[row, column] = [KINDS[i] for i in order]
            if apart[order[0]] < empty - 0.15:
                form, color = KINDS[order[0]]
                self._set(Solid(form, color, row, column, 0), (row, column, 0))

    def _around(self, place: Place) -> tuple[Solid, ...]:
        """The solids whose image may reach into that of a place."""
        row, column, level = place
        near = []
        for s in self.solids:
            if s.place == place:
                continue
            beside = s.row == row and abs(s.column - column) <= 1
            above = s.row != row and abs(s.column - column) <= 1 and (s.level or level)
            if beside or above:
                near.append(s)
        return tuple(near)

    # -- energies ------------------------------------------------------------------------------

    def _patch(self, place: Place) -> Patch:
        patch = window(self.side, place[0], place[1])
        if place[2] or self.at(place[0], place[1], 1) is not None:
            return replace(patch, top=max(0, patch.top - 2 * round(0.085 * self.side)))
        return patch

    def _seen(self, patch: Patch) -> Array:
        return self.seen[:, patch.top : patch.bottom - 2, patch.left : patch.right - 2]

    def _energies(self, candidates: Sequence[Solid], patch: Patch) -> Array:
        """Energy of each candidate (all for one place) in a patch, the rest of the scene drawn around."""
        drawn = self._drawn(self.canvas, candidates, patch)
        return energies(drawn, self._seen(patch), self.canvas.weight)

    def _drawn(self, canvas: Canvas, candidates: Sequence[Solid], patch: Patch) -> Array:
        place = candidates[0].place
        around = canvas.surroundings(self.solids, place, patch)
        below = self.at(place[0], place[1], 0) if place[2] else None
        feet = [(s.form, *foot_of(s, below)) for s in candidates]
        return canvas.draw(around, patch, feet, [s.color for s in candidates], place[2])

    def _energy_without(self, place: Place, patch: Patch) -> float:
        around = self.canvas.surroundings(self.solids, place, patch)
        return float(energies(self.canvas.empty(around, patch), self._seen(patch), self.canvas.weight)[0])

    # -- one place -------------------------------------------------------------------------------

    def _neighbours(self, solid: Solid) -> list[Kind]:
        """Kinds that differ from a solid in one respect, and the place's best rough candidates."""
        f = FORMS[solid.form]
        kinds = [(solid.form, c) for c in range(len(COLORS))]
        for i, g in enumerate(FORMS):
            same = (g.size == f.size) + (g.texture == f.texture) + (g.shape == f.shape and g.pose == f.pose)
            if same == 2:
                kinds.append((i, solid.color))
        if solid.level == 0:
            kinds += self.shortlist[solid.row, solid.column][:CLOSE]
        return kinds

    def _settle(self, solid: Solid, kinds: Sequence[Kind]) -> None:
        """Find the best kind and position for the solid of a place, or that there is none."""
        loaded = solid.level == 0 and self.at(solid.row, solid.column, 1) is not None
        patch = self._patch(solid.place)
        kinds = [k for k in dict.fromkeys([solid[:2], *kinds]) if not loaded or FORMS[k[0]].carries]
        best = self._position(solid, kinds, patch) if solid.level == 0 else solid
        kinds = list(dict.fromkeys([*kinds, *self._neighbours(best)]))
        kinds = [k for k in kinds if not loaded or FORMS[k[0]].carries]
        energy = self._energies([best._replace(form=f, color=c) for f, c in kinds], patch)
        form, color = kinds[int(energy.argmin())]
        best = best._replace(form=form, color=color)
        if not loaded and self._energy_without(best.place, patch) < energy.min() + PRICE:
            self._set(None, best.place)
            return
        self._set(best, best.place)
        self._settled[best.place] = self._around(best.place)

    def _position(self, solid: Solid, kinds: Sequence[Kind], patch: Patch) -> Solid:
        """The best of a few kinds in the best position, coarse to fine."""
        if len(kinds) > CLOSE:
            trial = self._energies([solid._replace(form=f, color=c) for f, c in kinds], patch)
            kinds = [kinds[i] for i in np.argsort(trial)[:CLOSE]]
        for step in (0.6 * MAX_JITTER, 0.3 * MAX_JITTER):
            options = [
                solid._replace(form=f, color=c, dx=_clip(solid.dx + a * step), dy=_clip(solid.dy + b * step))
                for f, c in kinds
                for a, b in _NINE
            ]
            options = list(dict.fromkeys(options))
            solid = options[int(self._energies(options, patch).argmin())]
            kinds = [solid[:2]]
        return solid

    # -- stacks ------------------------------------------------------------------------------------

    def _unexplained(self, patch: Patch) -> float:
        """Energy in a patch beyond what blur and noise explain."""
        around = self.canvas.surroundings(self.solids, None, patch)
        drawn = soften(self.canvas.empty(around, patch))[0]
        apart = np.abs(drawn - self._seen(patch)) * np.float32(1 / 16)
        return float(np.clip(apart - ORDINARY, 0, CAP).sum()) * self.canvas.weight

    def _try_stack(self, row: int, column: int) -> None:
        """See whether one solid on another explains a place better than what was found."""
        place = (row, column, 0)
        patch = self._patch((row, column, 1))
        if self._unexplained(patch) < STACK_CUE:
            return
        solid = self.at(*place)
        kept = list(self.solids)
        if solid is None:
            best, best_energy = kept, self._energy_without(place, patch)
            solid = Solid(CARRIERS[0], 0, *place)
        else:
            best, best_energy = kept, float(self._energies([solid], patch)[0])
        for base in self._bases(solid):
            self._set(base, place)
            tops = self._tops(base, patch)
            energy = self._energies(tops, patch)
            if energy.min() + PRICE < best_energy:
                top = tops[int(energy.argmin())]
                self._set(top, top.place)
                best, best_energy = self.solids, float(energy.min()) + PRICE
            self.solids = list(kept)
        self.solids = best

    def _bases(self, solid: Solid) -> list[Solid]:
        """Candidates for the lower solid at a place: the one found, if it can carry, and what fits there."""
        backdrop = self.canvas.background, self.canvas.style
        apart, _ = rough(self.seen, self.side, *backdrop, solid.row, solid.column, low=True)
        by_form = apart.reshape(len(FORMS), len(COLORS))
        forms = sorted(CARRIERS, key=lambda f: by_form[f].min())[:4]
        fitting = [(f, int(by_form[f].argmin())) for f in forms]
        if FORMS[solid.form].carries:
            fitting.insert(0, solid[:2])
        wide = window(self.side, solid.row, solid.column)
        foot = replace(wide, top=wide.bottom - 2 * round(0.085 * self.side))  # free of what stands on top
        here = solid._replace(dx=0.0, dy=0.0)
        return [self._position(here, [kind], foot) for kind in dict.fromkeys(fitting)]

    def _tops(self, base: Solid, patch: Patch) -> list[Solid]:
        """Candidates for a solid on a base: the best few, by half the side or, for the pencil, by form."""
        bottom = int((ground_point(base.row, base.column)[1] - 0.04) * self.side)
        above = replace(patch, bottom=bottom + bottom % 2)
        place = (base.row, base.column, 1)
        if self.canvas.pencil:
            forms = [Solid(f, 3, *place) for f in range(len(FORMS))]
            order = np.argsort(self._energies(forms, above))[:4]
            return [forms[i]._replace(color=c) for i in order for c in range(len(COLORS))]
        tops = [Solid(f, c, *place) for f, c in KINDS]
        half = Patch(above.top // 2, above.bottom // 2, above.left // 2, above.right // 2)
        small = shared_canvas(self.side // 2, self.canvas.background, self.canvas.style)
        drawn = self._drawn(small, tops, half)
        apart = np.abs(drawn - halved(self.view)[:, half.top : half.bottom, half.left : half.right])
        score = np.minimum(apart, CAP).reshape(len(tops), -1).sum(1)
        return [tops[i] for i in np.argsort(score)[:6]]

    # -- how whole the solids are ------------------------------------------------------------------

    def wear(self) -> dict[Place, float]:
        """By place, how much of a solid is missing in the worst of its four halves.

        What the pixels have of a solid is their projection on what it adds to the image, so
        that grain, which has no direction, does not count.
        """
        found = {}
        for solid in self.solids:
            patch = self._patch(solid.place)
            around = self.canvas.surroundings(self.solids, solid.place, patch)
            without = soften(self.canvas.empty(around, patch))[0]
            adds = soften(self._drawn(self.canvas, [solid], patch))[0] - without
            agree = ((self._seen(patch) - without) * adds).sum(0)
            power = (adds * adds).sum(0)
            halves = _halves(power)
            whole = float(power.sum()) + 1e-6
            shares = [float(agree[h].sum()) / max(float(power[h].sum()), 0.1 * whole) for h in halves]
            found[solid.place] = min(1.0, max(0.0, 1 - min(shares)))
        return found

    # -- where two kinds fit equally well ------------------------------------------------------

    def borrow(self, prior: Scene) -> None:
        """Among kinds that fit equally well take the prior's: that of the place, or, where hue is lost, of
        the same shape."""
        hueless = self.canvas.style in HUELESS
        for solid in list(self.solids):
            here = prior.at(*solid.place)
            kinds = [solid[:2], *([Solid.of(here)[:2]] if here is not None else [])]
            if hueless:
                f = FORMS[solid.form]
                twin = FORMS.index(replace(f, texture="plain" if f.texture == "striped" else "striped"))
                kinds += [(g, c) for g in (solid.form, twin) for c in range(len(COLORS))]
            elif len(set(kinds)) == 1:
                continue
            patch = self._patch(solid.place)
            energy = self._energies([solid._replace(form=g, color=c) for g, c in kinds], patch)
            scale = max(self._energy_without(solid.place, patch) - float(energy.min()), PRICE)
            likely = [k for k, e in zip(kinds, energy, strict=True) if e <= energy.min() + TIE * scale]
            wanted = self._prior_kinds(prior, solid) if hueless else kinds[1:]
            choice = next((k for k in wanted if k in likely), solid[:2])
            self._set(solid._replace(form=choice[0], color=choice[1]), solid.place)

    def _prior_kinds(self, prior: Scene, solid: Solid) -> list[Kind]:
        here = prior.at(*solid.place)
        alike = [o for o in prior.objects if o.shape == FORMS[solid.form].shape]
        f = FORMS[solid.form]
        plain, striped = (FORMS.index(replace(f, texture=t)) for t in ("plain", "striped"))
        known = [Solid.of(o) for o in alike]
        kinds = [(striped if FORMS[k.form].texture == "striped" else plain, k.color) for k in known]
        return ([Solid.of(here)[:2]] if here is not None else []) + kinds


def _halves(power_HW: Array) -> list[tuple[slice, slice]]:
    """Top, bottom, left and right of a solid, cut where half of its contrast lies."""
    rows, columns = np.cumsum(power_HW.sum(1)), np.cumsum(power_HW.sum(0))
    r, c = int(np.searchsorted(rows, rows[-1] / 2)) + 1, int(np.searchsorted(columns, columns[-1] / 2)) + 1
    every = slice(None)
    return [(slice(0, r), every), (slice(r, None), every), (every, slice(0, c)), (every, slice(c, None))]


def _clip(v: float) -> float:
    return min(MAX_JITTER, max(-MAX_JITTER, v))
