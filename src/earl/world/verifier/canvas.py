"""Canvas of one background in one style: many candidate solids drawn and compared at once.

Leaves the sprites to `sprites` and the search to `perception`. Axis letters: N candidates,
C channels (1 in the styles without hue, whose images are compared as gray, else 3), H W pixels
of a patch. Planes come before pixels (C, H, W) because numpy is fastest so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earl.world.rendering import GRAY, apply_style, ground, lift
from earl.world.scene import COLORS, SceneObject, ground_point
from earl.world.verifier.sprites import FORMS, PALETTE_KC, SpriteSheet, form_of, sprite_sheet, stack_sprites

Array = NDArray[np.float32]

HUELESS = frozenset({"sepia", "pencil"})
_PAPER = np.array([1.0, 0.99, 0.96], np.float32)[:, None, None]
CAP = 0.40  # a pixel's difference counts no more than this


class Solid(NamedTuple):
    """A solid as perception handles it: indices into `FORMS` and `COLORS`, and a place."""

    form: int
    color: int
    row: int
    column: int
    level: int
    dx: float = 0.0
    dy: float = 0.0

    @property
    def place(self) -> tuple[int, int, int]:
        return (self.row, self.column, self.level)

    def to_object(self) -> SceneObject:
        f = FORMS[self.form]
        where = self.level, self.dx, self.dy
        return SceneObject(
            f.shape, COLORS[self.color], self.column, self.row, f.size, f.texture, f.pose, *where
        )

    @classmethod
    def of(cls, obj: SceneObject) -> Solid:
        return cls(form_of(obj), COLORS.index(obj.color), obj.row, obj.column, obj.level, obj.dx, obj.dy)


def foot_of(solid: Solid, below: Solid | None = None) -> tuple[float, float]:
    """Position at which a solid's foot is drawn, unit coordinates; `below` is what it stands on (level 1)."""
    base = below if solid.level and below is not None else solid
    x, y = ground_point(solid.row, solid.column, base.dx, base.dy)
    if solid.level and below is not None:
        form = FORMS[below.form]
        y -= lift(form.shape, form.size)
    return x, y


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle of image pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        return slice(self.top * scale, self.bottom * scale), slice(self.left * scale, self.right * scale)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything in a patch but the solid in question, split by what is under and over it (C, H, W)."""

    ground: Array  # the ground, dimmed where what lies under the solid covers it
    under: Array
    over_gap: Array | None  # how much of what is below shows through (H, W)
    over: Array | None


class Canvas:
    """A background in a style at one image side, by day before the style is laid on."""

    def __init__(self, side: int, background: str, style: str) -> None:
        self.side, self.background, self.style = side, background, style
        self.pencil = style == "pencil"
        self.mono = style in HUELESS
        self.sprites: SpriteSheet = sprite_sheet(side, pencil=self.pencil)
        self.scale = self.sprites.side // side
        fine = np.ascontiguousarray(ground(background, 2 * side).transpose(2, 0, 1))
        self.ground_CHW = fine if self.scale == 2 else halved(fine)
        if not self.pencil:
            self._gain_CHW, self._mix, self._lift_CHW = _affine(style, side)
        self.full = Patch(0, side, 0, side)

    # -- whole images ------------------------------------------------------------------------

    def compose(self, solids: Sequence[Solid]) -> Array:
        """The image of some solids, float32 (3, side, side) in [0, 1]."""
        around = self.surroundings(solids, None, self.full)
        return self.finish((around.ground + around.under)[None], self.full, mono=False)[0]

    # -- patches --------------------------------------------------------------------------------

    def surroundings(
        self, solids: Sequence[Solid], place: tuple[int, int, int] | None, patch: Patch
    ) -> Surroundings:
        """Draw all solids but the one at `place` in a patch. With `place` None all are under."""
        rows, columns = patch.slices(self.scale)
        by_place = {s.place: s for s in solids}
        others = sorted((s for s in solids if s.place != place), key=lambda s: s.place)
        feet = [(s.form, *foot_of(s, by_place.get((s.row, s.column, 0)))) for s in others]
        sprites = stack_sprites(self.sprites, feet, rows, columns)
        floor = self.ground_CHW[:, rows, columns].copy()
        for solid, sprite in zip(others, sprites, strict=True):
            if solid.level == 0:
                floor *= sprite[1]
        under = np.zeros_like(floor)
        over = gap = None
        for solid, sprite in zip(others, sprites, strict=True):
            cover = sprite[0]
            if not cover.any():
                continue
            shine = 1 - cover
            paint = sprite[2] * PALETTE_KC[solid.color][:, None, None] + sprite[3:]
            if place is None or solid.place < place:
                floor *= shine
                under *= shine
                under += paint
            else:
                over = paint if over is None else over * shine + paint
                gap = shine if gap is None else gap * shine
        return Surroundings(floor, under, gap, over)

    def draw(
        self,
        around: Surroundings,
        patch: Patch,
        feet: list[tuple[int, float, float]],
        colors: Sequence[int],
        level: int,
    ) -> Array:
        """Candidates for one place in their surroundings, styled: (N, C, H, W)."""
        rows, columns = patch.slices(self.scale)
        index = {foot: i for i, foot in enumerate(dict.fromkeys(feet))}
        sprites = stack_sprites(self.sprites, list(index), rows, columns)
        shine = 1 - sprites[:, :1]
        if level:
            day = (around.ground + around.under) * shine
        else:
            day = around.ground * sprites[:, 1:2]
            day += around.under
            day *= shine
        day += sprites[:, 3:]
        light = sprites[:, 2:3]
        if len(index) < len(feet):  # the same form in several colours
            order = [index[foot] for foot in feet]
            day, light = day[order], light[order]
        day += light * PALETTE_KC[list(colors)][:, :, None, None]
        if around.over is not None and around.over_gap is not None:
            day *= around.over_gap
            day += around.over
        return self.finish(day, patch)

    def empty(self, around: Surroundings, patch: Patch) -> Array:
        """The patch with nothing at the place: (1, C, H, W)."""
        day = around.ground + around.under
        if around.over is not None and around.over_gap is not None:
            day = day * around.over_gap + around.over
        return self.finish(day[None], patch)

    def finish(self, day: Array, patch: Patch, mono: bool | None = None) -> Array:
        """Lay the style on images by day (N, 3, H, W), bring them to image pixels. May reuse `day`."""
        mono = self.mono if mono is None else mono
        if self.pencil:
            gray = halved(pencil_gray(day, patch, self.sprites.side))[:, None]
            return np.asarray(np.clip(gray * (_PAPER.mean() if mono else _PAPER), 0, 1))
        rows, columns = patch.slices()
        gain, offset = self._gain_CHW[:, rows, columns], self._lift_CHW[:, rows, columns]
        if self._mix is not None:
            gray = np.einsum("c,nchw->nhw", self._mix, day)[:, None]
            if mono:
                gain, offset = gain.mean(0), offset.mean(0)
            return np.asarray(np.clip(gray * gain + offset, 0, 1))
        if self.style != "day":
            day *= gain
            day += offset
        return np.clip(day, 0, 1, out=day)

    def view(self, pixels_CHW: Array) -> Array:
        """Pixels as this canvas compares them: gray where the style has no hue."""
        return pixels_CHW.mean(0, keepdims=True) if self.mono else pixels_CHW

    @property
    def weight(self) -> float:
        """Factor that makes energies comparable between one and three channels."""
        return 3.0 if self.mono else 1.0


@lru_cache(maxsize=64)
def shared_canvas(side: int, background: str, style: str) -> Canvas:
    """The shared canvas of a background and style."""
    return Canvas(side, background, style)


def soften(x: Array) -> Array:
    """A slight blur, binomial 3 x 3, times 16, over the last two axes; they lose a pixel on each edge."""
    y = x[..., 1:, :] + x[..., :-1, :]
    y = y[..., 1:, :] + y[..., :-1, :]
    y = y[..., 1:] + y[..., :-1]
    return y[..., 1:] + y[..., :-1]


def energies(candidates_NCHW: Array, seen_CHW: Array, weight: float = 1.0) -> Array:
    """Robust distance of each candidate from the softened pixels: sum of capped differences, (N,)."""
    apart = soften(candidates_NCHW)
    apart -= seen_CHW
    np.abs(apart, out=apart)
    np.minimum(apart, 16 * CAP, out=apart)
    return apart.reshape(len(apart), -1).sum(1) * np.float32(weight / 16)


def pencil_gray(day_NCHW: Array, patch: Patch, side: int) -> Array:
    """The renderer's pencil on patches at the fine side: (N, H, W) before the paper's tint."""
    gray: Array = np.einsum("c,nchw->nhw", GRAY, day_NCHW)
    step = max(1, side // 96)
    edge = np.zeros_like(day_NCHW)
    across = day_NCHW[..., 2 * step :] - day_NCHW[..., : -2 * step]
    np.square(across, out=edge[..., step:-step])
    down = day_NCHW[..., 2 * step :, :] - day_NCHW[..., : -2 * step, :]
    down *= down
    edge[..., step:-step, :] += down
    line = np.sqrt(np.maximum(np.maximum(edge[:, 0], edge[:, 1]), edge[:, 2]))
    line *= 1.5
    line -= 0.12
    np.clip(line, 0, 1, out=line)
    v = np.arange(2 * patch.top, 2 * patch.bottom, dtype=np.float32)[:, None] / side
    u = np.arange(2 * patch.left, 2 * patch.right, dtype=np.float32)[None, :] / side
    hatch = np.float32(0.05) * np.sin((u + v) * np.float32(2 * np.pi * 24))
    tone: Array = hatch * (gray < 0.45)
    tone += 0.66
    np.clip(gray, 0, 1, out=gray)
    gray *= 0.32
    tone += gray
    line *= -0.85
    line += 1
    tone *= line
    return tone


def halved(x: Array) -> Array:
    """Mean of 2 x 2 pixels over the last two axes."""
    y = x[..., ::2, :] + x[..., 1::2, :]
    return (y[..., ::2] + y[..., 1::2]) * np.float32(0.25)


def _affine(style: str, side: int) -> tuple[Array, Array | None, Array]:
    """A style as gain and offset, read off the renderer: gain (3, S, S), gray mix (3,) or None, offset."""

    def styled(color: tuple[float, float, float]) -> Array:
        column = np.broadcast_to(np.asarray(color, np.float32), (2 * side, 1, 3)).copy()
        rows_HC = apply_style(column, style)[:, 0].reshape(side, 2, 3).mean(1)
        return np.ascontiguousarray(np.broadcast_to(rows_HC.T[:, :, None], (3, side, side)))

    offset = styled((0, 0, 0))
    gain = styled((1, 1, 1)) - offset
    if style != "sepia":
        return gain, None, offset
    primaries = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    mix = [float((styled(c) - offset)[0, 0, 0] / gain[0, 0, 0]) for c in primaries]
    return gain, np.array(mix, np.float32), offset
