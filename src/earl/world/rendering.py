"""Scenes to pixels: solids with light, shadow and horizon, on a few backgrounds, in a few styles.

Deterministic: the same scene at the same resolution gives the same bytes. Colours are linear
blends in [0, 1] until the last step.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earl.world.scene import RADIUS, Scene, SceneObject, anchor
from earl.world.solids import BODY, DARK, SCREEN_UP, TOP_HEIGHT, Hits, cast

Array = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.11),
    "orange": (0.97, 0.47, 0.04),
    "yellow": (0.98, 0.85, 0.10),
    "green": (0.05, 0.52, 0.20),
    "blue": (0.10, 0.25, 0.86),
    "purple": (0.56, 0.16, 0.72),
}
STRIPE = (0.96, 0.95, 0.92)
STRIPE_PERIOD = 0.84  # radii
HORIZON = 0.30

# sky at the top, sky at the horizon, ground at the horizon, ground in front, ripple strength
GROUNDS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "meadow": ((0.36, 0.62, 0.93), (0.80, 0.91, 0.98), (0.66, 0.82, 0.52), (0.47, 0.68, 0.33)),
    "desert": ((0.47, 0.72, 0.90), (0.95, 0.90, 0.80), (0.93, 0.83, 0.64), (0.82, 0.67, 0.44)),
    "snow": ((0.62, 0.76, 0.92), (0.90, 0.94, 0.98), (0.95, 0.97, 1.00), (0.83, 0.88, 0.95)),
    "studio": ((0.52, 0.50, 0.54), (0.74, 0.71, 0.72), (0.70, 0.62, 0.56), (0.55, 0.46, 0.40)),
}
GRAY = np.array([0.30, 0.59, 0.11], np.float32)
_LIGHT = np.array([-0.50, 0.72, 0.48], np.float32)
_LIGHT /= np.linalg.norm(_LIGHT)
_HALF = _LIGHT + np.array([0.0, 0.41, 0.91], np.float32)
_HALF /= np.linalg.norm(_HALF)


def render(scene: Scene, resolution: int = 64) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: what to draw.
        resolution: side of the square image in pixels, at least 8.

    Returns:
        uint8 (resolution, resolution, 3), RGB.

    Raises:
        ValueError: resolution below 8.
    """
    if resolution < 8:
        raise ValueError(f"a scene needs at least 8 pixels a side, got {resolution}")
    oversampling = 2 if resolution <= 256 else 1
    side = resolution * oversampling
    canvas = ground(scene.background, side).copy()
    for obj in scene.objects:
        if obj.level == 0:
            draw_shadow(canvas, obj)
    for obj in scene.objects:
        _draw_solid(canvas, obj, scene)
    drawn = apply_style(canvas, scene.style)
    if oversampling > 1:
        drawn = drawn.reshape(resolution, oversampling, resolution, oversampling, 3).mean((1, 3))
    return (np.clip(drawn, 0, 1) * 255 + 0.5).astype(np.uint8)


def foot(obj: SceneObject, scene: Scene) -> tuple[float, float]:
    """Position at which a solid's foot is drawn, unit coordinates, counting what it stands on."""
    x, y = anchor(obj)
    if obj.level == 1:
        below = scene.at(obj.row, obj.column, 0)
        if below is not None:
            x, y = anchor(below)
            y -= lift(below.shape, below.size)
    return x, y


def lift(shape: str, size: str) -> float:
    """Height above its own foot at which a solid on top of this one stands, unit coordinates."""
    return TOP_HEIGHT.get(shape, 1.6) * RADIUS[size] * float(SCREEN_UP[1])


@lru_cache(maxsize=64)
def ground(background: str, side: int) -> Array:
    """An empty background by day, float32 (side, side, 3)."""
    top, far_sky, far, near = (np.asarray(c, np.float32) for c in GROUNDS[background])
    v = (np.arange(side, dtype=np.float32) + 0.5) / side
    u = v[None, :]
    v = v[:, None]
    sky_t = np.clip(v / HORIZON, 0, 1)[..., None] ** 1.5
    ground_t = np.clip((v - HORIZON) / (1 - HORIZON), 0, 1)[..., None]
    sky = top + (far_sky - top) * sky_t
    depth = 1.0 / (0.12 + ground_t[..., 0])
    ripple = np.sin(depth * 4.0 + 5.0 * u + 1.2 * np.sin(9.0 * u + depth)) * np.clip(
        ground_t[..., 0] * 2.2, 0, 1
    )
    strength = {"meadow": 0.030, "desert": 0.045, "snow": 0.022, "studio": 0.0}[background]
    floor_color = far + (near - far) * ground_t**0.7 + strength * ripple[..., None]
    edge = np.clip((v - HORIZON) * 28 + 0.5, 0, 1)[..., None]
    pixels = sky * (1 - edge) + floor_color * edge
    return np.ascontiguousarray(np.broadcast_to(pixels, (side, side, 3)), dtype=np.float32)


Reach = tuple[float, float, float, float]


def _window(x: float, y: float, reach: Reach, side: int) -> tuple[slice, slice, Floats, Floats]:
    """Pixel slices around a point and the grids of offsets (x right, y up) in unit coordinates.

    `reach` is how far the window goes left, up, right and down.
    """
    left, up, right, down = reach
    c0, c1 = max(0, floor((x - left) * side)), min(side, ceil((x + right) * side))
    r0, r1 = max(0, floor((y - up) * side)), min(side, ceil((y + down) * side))
    xs = (np.arange(c0, c1, dtype=np.float32) + 0.5) / side - x
    ys = y - (np.arange(r0, r1, dtype=np.float32) + 0.5) / side
    return slice(r0, r1), slice(c0, c1), xs[None, :], ys[:, None]


def draw_shadow(canvas: Array, obj: SceneObject) -> None:
    """Darken the ground under a solid, in place."""
    radius = RADIUS[obj.size]
    x, y = anchor(obj)
    reach = (1.3 * radius, 0.9 * radius, 1.9 * radius, 0.7 * radius)
    rows, columns, dx, dy = _window(x, y, reach, canvas.shape[0])
    near = ((dx - 0.28 * radius) / (1.35 * radius)) ** 2 + ((dy - 0.02 * radius) / (0.52 * radius)) ** 2
    dark = 0.52 * np.clip(1.15 - near, 0, 1) ** 0.9
    canvas[rows, columns] *= 1 - np.clip(dark, 0, 0.52)[..., None]


def object_map(scene: Scene, resolution: int = 64) -> NDArray[np.int8]:
    """Number of the solid that each pixel shows in `scene.objects`, -1 for the background: int8 (R, R).

    Shadows are background. A pixel shows what its centre hits; no oversampling.
    """
    numbers = np.full((resolution, resolution), -1, np.int8)
    for number, obj in enumerate(scene.objects):
        seen = _cast_solid(obj, scene, resolution)
        if seen is not None:
            (rows, columns), shape, (hit, *_) = seen
            numbers[rows, columns][hit.reshape(shape)] = number
    return numbers


def _cast_solid(
    obj: SceneObject, scene: Scene, side: int
) -> tuple[tuple[slice, slice], tuple[int, ...], Hits] | None:
    """The pixels around a solid, their shape, and what `cast` says of them; None outside the image."""
    radius = RADIUS[obj.size]
    x, y = foot(obj, scene)
    reach = (1.35 * radius, 2.7 * radius, 1.35 * radius, 0.75 * radius)
    rows, columns, dx, dy = _window(x, y, reach, side)
    shape = np.broadcast_shapes(dx.shape, dy.shape)
    if 0 in shape:
        return None
    px = np.broadcast_to(dx, shape).reshape(-1) / radius
    py = np.broadcast_to(dy, shape).reshape(-1) / radius
    return (rows, columns), shape, cast(obj.shape, obj.pose, px.astype(np.float32), py.astype(np.float32))


def _draw_solid(canvas: Array, obj: SceneObject, scene: Scene) -> None:
    seen = _cast_solid(obj, scene, canvas.shape[0])
    if seen is None:
        return
    (rows, columns), shape, (hit, normal, stripe, material) = seen
    if not hit.any():
        return
    patch = canvas[rows, columns].reshape(-1, 3)
    patch[hit] = shade(obj, normal[hit], stripe[hit], material[hit])
    canvas[rows, columns] = patch.reshape(*shape, 3)


def shade(obj: SceneObject, normal: Array, stripe: Array, material: NDArray[np.int8]) -> Array:
    """Light on a surface: ambient from the sky, one lamp from the upper left, a highlight. (N, 3)."""
    albedo = np.broadcast_to(np.asarray(PALETTE[obj.color], np.float32), (len(stripe), 3)).copy()
    if obj.texture == "striped":
        band = np.mod(stripe / STRIPE_PERIOD + 0.25, 1.0) < 0.42
        albedo[band & (material == BODY)] = STRIPE
    albedo[material == DARK] = albedo[material == DARK] * 0.28
    albedo[material > DARK] = (0.92, 0.78, 0.35)
    diffuse = np.clip(normal @ _LIGHT, 0, 1)
    ambient = 0.40 + 0.16 * normal[:, 1]
    gloss = np.clip(normal @ _HALF, 0, 1) ** (36 if obj.shape == "sphere" else 60)
    lit = albedo * (ambient + 0.72 * diffuse)[:, None]
    return lit + (0.55 if obj.shape == "sphere" else 0.22) * gloss[:, None]


def apply_style(pixels: Array, style: str) -> Floats:
    """Turn an image by day, float (H, W, 3) in [0, 1], into one of the styles."""
    styled: Floats = pixels
    v = ((np.arange(len(pixels), dtype=np.float32) + 0.5) / len(pixels))[:, None, None]
    if style == "sepia":
        gray = (pixels @ GRAY)[..., None]
        styled = gray * np.array([0.98, 0.80, 0.56], np.float32) + np.array([0.05, 0.02, 0], np.float32)
    elif style == "pencil":
        styled = _pencil(pixels)
    elif style == "sunset":
        glow = np.clip(1 - np.abs(v - HORIZON) / 0.34, 0, 1) ** 1.5
        warm = pixels * np.array([1.10, 0.86, 0.70], np.float32)
        styled = warm + glow * np.array([0.34, 0.10, -0.06], np.float32) * np.where(v < HORIZON, 1, 0.35)
    elif style == "night":
        dim = pixels * np.array([0.54, 0.57, 0.78], np.float32)
        sky = np.clip((HORIZON - v) / HORIZON, 0, 1)
        styled = dim * (1 - 0.55 * sky) + np.array([0.0, 0.0, 0.05], np.float32)
    elif style != "day":
        raise ValueError(f"unknown style {style!r}")
    return styled


def _pencil(pixels: Array) -> Array:
    """Dark contour lines and soft hatching on paper; line width follows the resolution."""
    gray = pixels @ GRAY
    side = gray.shape[0]
    step = max(1, side // 96)
    gx, gy = np.zeros_like(pixels), np.zeros_like(pixels)
    gx[:, step:-step] = pixels[:, 2 * step :] - pixels[:, : -2 * step]
    gy[step:-step] = pixels[2 * step :] - pixels[: -2 * step]
    edge = np.sqrt((gx**2 + gy**2).max(-1))
    line = np.clip(edge * 1.5 - 0.12, 0, 1)
    v, u = np.mgrid[0:side, 0:side].astype(np.float32) / side
    hatch = 0.05 * np.sin((u + v) * 2 * np.pi * 24) * (gray < 0.45)
    tone = 0.66 + 0.32 * np.clip(gray, 0, 1) + hatch
    drawn: Array = (tone * (1 - 0.85 * line))[..., None] * np.array([1.0, 0.99, 0.96], np.float32)
    return drawn.astype(np.float32)
