"""One background in one style, on which many candidate solids are drawn and compared at once.

Leaves the sprites to `sprites` and the search to `perception`. Axis letters: N candidates,
H W pixels of a patch, C channels (1 in the styles without hue, whose pictures are compared as
gray, else 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earl.verifier.sprites import FORMS, PALETTE_KC, Sheet, form_of, lift, sheet, stack_sprites
from earl.world.render import apply_style, ground
from earl.world.scene import COLORS, Scene, SceneObject

Array = NDArray[np.float32]

HUELESS = frozenset({"sepia", "pencil"})
_GRAY = np.array([0.30, 0.59, 0.11], np.float32)
_PAPER = float(np.mean([1.0, 0.99, 0.96]))
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
        return SceneObject(
            f.shape,
            COLORS[self.color],
            self.column,
            self.row,
            f.size,
            f.texture,
            f.pose,
            self.level,
            self.dx,
            self.dy,
        )

    @classmethod
    def of(cls, obj: SceneObject) -> Solid:
        return cls(form_of(obj), COLORS.index(obj.color), obj.row, obj.column, obj.level, obj.dx, obj.dy)


def foot_of(solid: Solid, below: Solid | None = None) -> tuple[float, float]:
    """Where a solid's foot is drawn, unit coordinates; `below` is what it stands on (level 1)."""
    base = below if solid.level and below is not None else solid
    x, y = 0.125 + 0.25 * solid.column + base.dx, 0.53 + 0.375 * solid.row + base.dy
    return (x, y - lift(below.form)) if solid.level and below is not None else (x, y)


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle of picture pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        return slice(self.top * scale, self.bottom * scale), slice(self.left * scale, self.right * scale)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything in a patch but the solid in question, split by what is under and over it (H W C)."""

    ground: Array  # shone through by what stands between
    under: Array
    over_gap: Array | None  # how much of what is below shows through (H W 1)
    over: Array | None


class Stage:
    """A background in a style at one picture side, by day before the style is laid on."""

    def __init__(self, side: int, background: str, style: str) -> None:
        self.side, self.background, self.style = side, background, style
        self.pencil = style == "pencil"
        self.mono = style in HUELESS
        self.page: Sheet = sheet(side, pencil=self.pencil)
        self.scale = self.page.side // side
        fine = ground(background, 2 * side)
        self.ground_HWC = fine if self.scale == 2 else _halve(fine)
        if not self.pencil:
            self._gain_HC, self._mix, self._lift_HC = _affine(style, side)
        self.full = Patch(0, side, 0, side)

    # -- whole pictures ------------------------------------------------------------------------

    def compose(self, solids: Sequence[Solid]) -> Array:
        """The picture of some solids, float32 (side, side, 3) in [0, 1]."""
        around = self.surroundings(solids, None, self.full)
        day = (around.ground + around.under)[None]
        return self.finish(day, self.full, mono=False)[0]

    # -- patches --------------------------------------------------------------------------------

    def surroundings(self, solids: Sequence[Solid], place: tuple[int, int, int] | None, patch: Patch) -> Surroundings:
        """Draw all solids but the one at `place` in a patch. With `place` None all are under."""
        rows, columns = patch.slices(self.scale)
        by_place = {s.place: s for s in solids}
        others = sorted((s for s in solids if s.place != place), key=lambda s: s.place)
        feet = [(s.form, *foot_of(s, by_place.get((s.row, s.column, 0)))) for s in others]
        sprites = stack_sprites(self.page, feet, rows, columns)
        floor = self.ground_HWC[rows, columns].copy()
        for solid, sprite in zip(others, sprites, strict=True):
            if solid.level == 0:
                floor *= sprite[..., 1:2]
        under = np.zeros_like(floor)
        over = gap = None
        for solid, sprite in zip(others, sprites, strict=True):
            cover = sprite[..., :1]
            if not cover.any():
                continue
            paint = sprite[..., 2:3] * PALETTE_KC[solid.color] + sprite[..., 3:]
            if place is None or solid.place < place:
                floor *= 1 - cover
                under = under * (1 - cover) + paint
            else:
                if over is None:
                    over, gap = np.zeros_like(floor), np.ones_like(cover)
                over = over * (1 - cover) + paint
                gap = gap * (1 - cover)
        return Surroundings(floor, under, gap, over)

    def draw(
        self, around: Surroundings, patch: Patch, feet: list[tuple[int, float, float]], colors: Sequence[int], level: int
    ) -> Array:
        """Candidates for one place in their surroundings, styled: (N, H, W, C)."""
        rows, columns = patch.slices(self.scale)
        sprites = stack_sprites(self.page, feet, rows, columns, shadows=level == 0)
        day = around.ground * sprites[..., 1:2]
        day += around.under
        day *= 1 - sprites[..., :1]
        day += sprites[..., 2:3] * PALETTE_KC[list(colors)][:, None, None, :]
        day += sprites[..., 3:]
        if around.over is not None:
            day *= around.over_gap
            day += around.over
        return self.finish(day, patch)

    def empty(self, around: Surroundings, patch: Patch) -> Array:
        """The patch with nothing at the place: (1, H, W, C)."""
        day = around.ground + around.under
        if around.over is not None:
            day = day * around.over_gap + around.over
        return self.finish(day[None], patch)

    def finish(self, day: Array, patch: Patch, mono: bool | None = None) -> Array:
        """Lay the style on pictures by day (N, H, W, 3), bring them to picture pixels."""
        mono = self.mono if mono is None else mono
        if self.pencil:
            gray = _halve(pencil_gray(day, patch, self.page.side))
            if mono:
                return np.clip(gray[..., None] * np.float32(_PAPER), 0, 1)
            return np.clip(gray[..., None] * np.array([1.0, 0.99, 0.96], np.float32), 0, 1)
        gain, offset = self._gain_HC[patch.top : patch.bottom, None], self._lift_HC[patch.top : patch.bottom, None]
        if self._mix is not None:
            gray = (day @ self._mix)[..., None]
            if mono:
                return np.clip(gray * gain.mean(-1, keepdims=True) + offset.mean(-1, keepdims=True), 0, 1)
            return np.clip(gray * gain + offset, 0, 1)
        return np.clip(day * gain + offset, 0, 1)

    def view(self, pixels_HWC: Array) -> Array:
        """Pixels as this stage compares them: gray where the style has no hue."""
        return pixels_HWC.mean(-1, keepdims=True) if self.mono else pixels_HWC

    @property
    def weight(self) -> float:
        """What makes energies comparable between one and three channels."""
        return 3.0 if self.mono else 1.0


@lru_cache(maxsize=64)
def stage(side: int, background: str, style: str) -> Stage:
    """The shared stage of a background and style."""
    return Stage(side, background, style)


def compose_scene(scene: Scene, side: int) -> Array:
    """A scene as perception would draw it, float32 (side, side, 3); close to `earl.world.render`."""
    return stage(side, scene.background, scene.style).compose([Solid.of(o) for o in scene.objects])


def soften(x: Array) -> Array:
    """A slight blur (binomial, 3 x 3) over the axes H W of (..., H, W, C), edges repeated."""
    y = x.copy()
    y[..., 1:, :, :] += x[..., :-1, :, :]
    y[..., 0, :, :] += x[..., 0, :, :]
    y[..., :-1, :, :] += x[..., 1:, :, :]
    y[..., -1, :, :] += x[..., -1, :, :]
    y[..., 1:-1, :, :] += x[..., 1:-1, :, :]
    y[..., 0, :, :] += x[..., 0, :, :]
    y[..., -1, :, :] += x[..., -1, :, :]
    z = y.copy()
    z[..., 1:, :] += y[..., :-1, :]
    z[..., 0, :] += y[..., 0, :]
    z[..., :-1, :] += y[..., 1:, :]
    z[..., -1, :] += y[..., -1, :]
    z += y
    z *= np.float32(1 / 16)
    return z


def energies(candidates_NHWC: Array, seen_HWC: Array, weight: float = 1.0) -> Array:
    """Robust distance of each candidate from the (softened) pixels: sum of capped differences, (N,)."""
    apart = np.abs(soften(candidates_NHWC)[:, 1:-1, 1:-1] - seen_HWC[1:-1, 1:-1])
    np.minimum(apart, CAP, out=apart)
    return apart.reshape(len(apart), -1).sum(1) * weight


def pencil_gray(day_NHWC: Array, patch: Patch, side: int) -> Array:
    """The renderer's pencil on patches at the fine side: (N, H, W) before the paper's tint."""
    gray = day_NHWC @ _GRAY
    step = max(1, side // 96)
    across = np.zeros_like(day_NHWC)
    down = np.zeros_like(day_NHWC)
    across[..., :, step:-step, :] = day_NHWC[..., :, 2 * step :, :] - day_NHWC[..., :, : -2 * step, :]
    down[..., step:-step, :, :] = day_NHWC[..., 2 * step :, :, :] - day_NHWC[..., : -2 * step, :, :]
    across *= across
    down *= down
    across += down
    edge = np.sqrt(across.max(-1))
    line = np.clip(edge * 1.5 - 0.12, 0, 1)
    v = np.arange(2 * patch.top, 2 * patch.bottom, dtype=np.float32)[:, None] / side
    u = np.arange(2 * patch.left, 2 * patch.right, dtype=np.float32)[None, :] / side
    hatch = 0.05 * np.sin((u + v) * np.float32(2 * np.pi * 24))
    tone = 0.66 + 0.32 * np.clip(gray, 0, 1) + hatch * (gray < 0.45)
    return tone * (1 - 0.85 * line)


def _halve(x: Array) -> Array:
    """Mean of 2 x 2 pixels: (N, H, W) or (H, W, 3)."""
    if x.ndim == 3 and x.shape[-1] == 3:
        return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, 3).mean((1, 3))
    return 0.25 * (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2])


def _affine(style: str, side: int) -> tuple[Array, Array | None, Array]:
    """A style as gain and offset by row, read off the renderer: gain (H, C), gray mix (3,) or None, offset."""

    def styled(color: tuple[float, float, float]) -> Array:
        column = np.broadcast_to(np.asarray(color, np.float32), (2 * side, 1, 3)).copy()
        return apply_style(column, style)[:, 0].reshape(side, 2, 3).mean(1)

    offset = styled((0, 0, 0))
    if style == "sepia":
        gain = styled((1, 1, 1)) - offset
        mix = np.array([(styled(c) - offset)[0, 0] / gain[0, 0] for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))], np.float32)
        return gain, mix, offset
    return styled((1, 1, 1)) - offset, None, offset
