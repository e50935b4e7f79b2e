"""Ray casting of a few solids, seen by one fixed orthographic camera that looks down a little.

Axis letters: N rays. Object space: X right, Y up, Z toward the viewer, the foot at the origin,
lengths in units of the solid's radius. `cast` finds, for screen points, whether a ray hits,
the surface normal, a coordinate along which stripes run, and which part was hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import atan2, cos, radians, sin

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PITCH = radians(24.0)
TO_CAMERA = np.array([0.0, sin(PITCH), cos(PITCH)], np.float32)
SCREEN_UP = np.array([0.0, cos(PITCH), -sin(PITCH)], np.float32)

BODY, DARK, METAL = 0, 1, 2  # parts: takes the solid's colour, an inside, a fitting


@dataclass(frozen=True, slots=True)
class Part:
    """A convex primitive: `kind` with `size`, turned by `turn` (rows = local axes), centred at `center`."""

    kind: str
    size: tuple[float, ...]
    center: tuple[float, float, float]
    turn: tuple[tuple[float, ...], ...]
    material: int = BODY


def _turn_y(angle: float) -> np.ndarray:
    return np.array([[cos(angle), 0, -sin(angle)], [0, 1, 0], [sin(angle), 0, cos(angle)]])


def _turn_x(angle: float) -> np.ndarray:
    return np.array([[1, 0, 0], [0, cos(angle), sin(angle)], [0, -sin(angle), cos(angle)]])


def _turn_z(angle: float) -> np.ndarray:
    return np.array([[cos(angle), sin(angle), 0], [-sin(angle), cos(angle), 0], [0, 0, 1]])


def _part(
    kind: str,
    size: tuple[float, ...],
    center: Sequence[float] | np.ndarray,
    turn: np.ndarray,
    material: int = BODY,
) -> Part:
    rows = tuple(tuple(float(v) for v in row) for row in turn)
    return Part(kind, size, tuple(float(v) for v in center), rows, material)  # type: ignore[arg-type]


CUBE_HALF, CYLINDER_RADIUS, CYLINDER_HEIGHT, CONE_RADIUS, CONE_HEIGHT = 0.78, 0.74, 1.62, 0.95, 2.05
CHEST_HALF_X, CHEST_HALF_Z, CHEST_BODY, CHEST_LID = 0.98, 0.62, 0.8, 0.42

TOP_HEIGHT = {"cube": 2 * CUBE_HALF, "cylinder": CYLINDER_HEIGHT, "chest": CHEST_BODY + CHEST_LID}


@cache
def parts(shape: str, pose: str) -> tuple[Part, ...]:
    """The primitives of a solid in a pose, in units of its radius."""
    if shape == "sphere":
        return (_part("sphere", (1.0,), (0, 1, 0), np.eye(3)),)
    if shape == "cube":
        h = CUBE_HALF
        return (_part("box", (h, h, h), (0, h, 0), _turn_y(radians(32))),)
    if shape == "cylinder":
        r, h = CYLINDER_RADIUS, CYLINDER_HEIGHT / 2
        if pose == "toppled":
            return (
                _part("cylinder", (r, h * 1.15), (0, r, 0), _turn_z(radians(90)) @ _turn_y(radians(-28))),
            )
        return (_part("cylinder", (r, h), (0, h, 0), np.eye(3)),)
    if shape == "cone":
        r, h = CONE_RADIUS, CONE_HEIGHT
        if pose == "toppled":
            slope = atan2(r, h)
            turn = _turn_z(radians(90) + slope) @ _turn_y(radians(-22))
            return (_part("cone", (r, h), (0, r * cos(slope) - h / 2 * sin(slope) + 0.02, 0), turn),)
        return (_part("cone", (r, h), (0, h / 2, 0), np.eye(3)),)
    if shape == "chest":
        return _chest(pose)
    raise ValueError(f"unknown shape {shape!r}")


def _chest(pose: str) -> tuple[Part, ...]:
    yaw = _turn_y(radians(14))
    x, z, b, lid = CHEST_HALF_X, CHEST_HALF_Z, CHEST_BODY / 2, CHEST_LID / 2

    def put(px: float, py: float, pz: float) -> np.ndarray:
        return np.asarray(yaw.T @ np.array([px, py, pz]))

    body = _part("box", (x, b, z), put(0, b, 0), yaw)
    latch = _part("box", (0.16, 0.2, 0.06), put(0, 2 * b - 0.04, z + 0.04), yaw, METAL)
    if pose == "open":
        inside = _part("box", (x - 0.16, 0.03, z - 0.14), put(0, 2 * b + 0.01, 0), yaw, DARK)
        raised = _part(
            "box", (x, lid * 2.4, 0.1), put(0, 2 * b + lid * 2.4, -z - 0.02), _turn_x(radians(-10)) @ yaw
        )
        return (body, latch, inside, raised)
    band = _part("box", (x + 0.02, 0.05, z + 0.02), put(0, 2 * b + 0.03, 0), yaw, DARK)
    top = _part("box", (x, lid, z), put(0, 2 * b + lid + 0.04, 0), yaw)
    return (body, band, top, latch)


Hits = tuple[NDArray[np.bool_], Array, Array, NDArray[np.int8]]


def cast(shape: str, pose: str, x_N: Array, y_N: Array) -> Hits:
    """Rays through screen points (x right, y up, radii from the foot).

    Returns:
        hit (N,), normal (N, 3) in object space, stripe coordinate (N,) in radii, material (N,).
    """
    n = x_N.size
    origin = np.zeros((n, 3), np.float32)
    origin[:, 0] = x_N
    origin += y_N[:, None] * SCREEN_UP + 8.0 * TO_CAMERA
    best = np.full(n, np.inf, np.float32)
    normal = np.zeros((n, 3), np.float32)
    stripe = np.zeros(n, np.float32)
    material = np.zeros(n, np.int8)
    for part in parts(shape, pose):
        turn = np.asarray(part.turn, np.float32)
        o = (origin - np.asarray(part.center, np.float32)) @ turn.T
        d = turn @ -TO_CAMERA
        t, local = _PRIMITIVES[part.kind](o, d, part.size)
        nearer = t < best
        if not nearer.any():
            continue
        best = np.where(nearer, t, best)
        normal = np.where(nearer[:, None], local @ turn, normal)
        with np.errstate(invalid="ignore"):
            along = o[:, 1] + t * d[1]
        stripe = np.where(nearer, along, stripe)
        material = np.where(nearer, np.int8(part.material), material)
    return np.isfinite(best), normal, stripe, material


def _sphere(o: Array, d: Array, size: tuple[float, ...]) -> tuple[Array, Array]:
    b = o @ d
    disc = b * b - ((o * o).sum(1) - size[0] ** 2)
    t = np.where(disc > 0, -b - np.sqrt(np.maximum(disc, 0)), np.inf).astype(np.float32)
    return t, (_at(o, d, t) / size[0]).astype(np.float32)


def _at(o: Array, d: Array, t: Array) -> Array:
    return (o + np.where(np.isfinite(t), t, 0)[:, None] * d).astype(np.float32)


def _box(o: Array, d: Array, size: tuple[float, ...]) -> tuple[Array, Array]:
    half = np.asarray(size, np.float32)
    safe = np.where(np.abs(d) < 1e-6, 1e-6, d)
    enter = (-np.sign(safe) * half - o) / safe
    leave = (np.sign(safe) * half - o) / safe
    first = enter.max(1)
    t = np.where(first < leave.min(1), first, np.inf).astype(np.float32)
    normal = np.zeros_like(o)
    axis = enter.argmax(1)
    normal[np.arange(len(o)), axis] = -np.sign(safe)[axis]
    return t, normal


def _cylinder(o: Array, d: Array, size: tuple[float, ...]) -> tuple[Array, Array]:
    r, h = size
    a = d[0] ** 2 + d[2] ** 2 + 1e-9
    b = o[:, 0] * d[0] + o[:, 2] * d[2]
    disc = b * b - a * (o[:, 0] ** 2 + o[:, 2] ** 2 - r * r)
    side = (-b - np.sqrt(np.maximum(disc, 0))) / a
    y = o[:, 1] + side * d[1]
    side = np.where((disc > 0) & (np.abs(y) <= h), side, np.inf)
    cap_y = -np.sign(d[1]) * h
    cap = _disc(o, d, cap_y, r)
    t = np.minimum(side, cap).astype(np.float32)
    p = _at(o, d, t)
    normal = np.stack([p[:, 0] / r, np.zeros_like(t), p[:, 2] / r], 1)
    normal[cap < side] = (0, np.sign(cap_y), 0)
    return t, normal


def _disc(o: Array, d: Array, y: float, radius: float) -> Array:
    """Distance to a level disc about the axis, at height `y`; infinite for rays that miss it."""
    t = (y - o[:, 1]) / (d[1] if abs(d[1]) > 1e-6 else 1e-6)
    inside = (o[:, 0] + t * d[0]) ** 2 + (o[:, 2] + t * d[2]) ** 2 <= radius * radius
    return np.where(inside, t, np.inf)


def _cone(o: Array, d: Array, size: tuple[float, ...]) -> tuple[Array, Array]:
    r, height = size
    k = (r / height) ** 2
    oy = height / 2 - o[:, 1]  # distance below the apex
    a = d[0] ** 2 + d[2] ** 2 - k * d[1] ** 2
    b = o[:, 0] * d[0] + o[:, 2] * d[2] + k * oy * d[1]
    c = o[:, 0] ** 2 + o[:, 2] ** 2 - k * oy**2
    disc = b * b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    a = a if abs(a) > 1e-6 else 1e-6
    side = np.full(len(o), np.inf)
    for t in ((-b - root) / a, (-b + root) / a):
        below = oy - t * d[1]
        side = np.where((disc > 0) & (below >= 0) & (below <= height) & (t < side), t, side)
    base = np.where(d[1] > 0, _disc(o, d, -height / 2, r), np.inf)
    t = np.minimum(side, base).astype(np.float32)
    p = _at(o, d, t)
    slope = r / height
    radial = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2) + 1e-6
    normal = np.stack([p[:, 0] / radial, np.full_like(t, slope), p[:, 2] / radial], 1)
    normal /= np.sqrt(1 + slope**2)
    normal[base < side] = (0, -1, 0)
    return t, normal


_PRIMITIVES = {"sphere": _sphere, "box": _box, "cylinder": _cylinder, "cone": _cone}
