"""The scene record: the exact content of an image.

A scene is a background, a style of the whole image, and a few solids on a grid of `ROWS` by
`COLUMNS` places, each of which may carry one more solid on top. Positions are in unit coordinates
of the square image (0 left/top, 1 right/bottom), so a scene can be drawn at any resolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

SHAPES = ("sphere", "cube", "cylinder", "cone", "chest")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZES = ("large", "small")
TEXTURES = ("plain", "striped")
BACKGROUNDS = ("meadow", "desert", "snow", "studio")
STYLES = ("day", "night", "sunset", "sepia", "pencil")

COLUMNS = 4
ROWS = 2  # 0 back, 1 front
MAX_JITTER = 0.012

FLAT_TOPPED = frozenset({"cube", "cylinder", "chest"})
TOPPLING = frozenset({"cylinder", "cone"})
OPENING = frozenset({"chest"})

RADIUS = {"large": 0.110, "small": 0.074}  # unit coordinates


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One solid. `level` 0 stands on the ground, 1 on top of the other solid of its place."""

    shape: str
    color: str
    column: int
    row: int
    size: str = "large"
    texture: str = "plain"
    pose: str = "upright"
    level: int = 0
    dx: float = 0.0
    dy: float = 0.0

    @property
    def place(self) -> tuple[int, int, int]:
        """(row, column, level), the key that no two solids of a scene share."""
        return (self.row, self.column, self.level)

    @property
    def kind(self) -> tuple[str, str, str, str, str]:
        """Everything but where it is: (shape, colour, size, texture, pose)."""
        return (self.shape, self.color, self.size, self.texture, self.pose)

    def moved(self, column: int, row: int, level: int = 0) -> SceneObject:
        """The same solid, exactly centred on another place."""
        return replace(self, column=column, row=row, level=level, dx=0.0, dy=0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """An image's exact content. Objects are kept sorted by place: back to front, left to right."""

    background: str
    style: str
    objects: tuple[SceneObject, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.objects, key=lambda o: o.place))
        object.__setattr__(self, "objects", ordered)
        places = [o.place for o in ordered]
        if len(set(places)) != len(places):
            raise ValueError("two solids of a scene share a place")

    @property
    def content(self) -> tuple[object, ...]:
        """Equal for scenes that differ in jitter only."""
        return (self.background, self.style, *((o.place, o.kind) for o in self.objects))

    def at(self, row: int, column: int, level: int = 0) -> SceneObject | None:
        """The solid at a place, or None."""
        return next((o for o in self.objects if o.place == (row, column, level)), None)

    def nth_from(self, number: int, side: str) -> SceneObject | None:
        """The n-th ground solid from one side; None where two share the deciding column."""
        ground = [o for o in self.objects if o.level == 0]
        if len({o.column for o in ground}) != len(ground) or number > len(ground):
            return None
        return sorted(ground, key=lambda o: o.column if side == "left" else -o.column)[number - 1]

    def related(self, relation: str, other: SceneObject) -> SceneObject | None:
        """The solid that stands in a relation to another one; None where there is none or no single one."""
        row, column, level = other.place
        places = {
            "on top of": (row, column, 1),
            "behind": (row - 1, column),
            "in front of": (row + 1, column),
            "to the left of": (row, column - 1),
            "to the right of": (row, column + 1),
        }
        return None if level else self.at(*places[relation])

    def free_places(self) -> Iterator[tuple[int, int]]:
        """Ground places (row, column) without a solid, that no stack would hide."""
        for row in range(ROWS):
            for column in range(COLUMNS):
                if self.at(row, column) is None and not (row == 0 and self.at(1, column, 1) is not None):
                    yield row, column

    def without(self, obj: SceneObject) -> Scene:
        """The scene after taking one solid away; what stood on top of it comes down."""
        rest = [o for o in self.objects if o.place != obj.place]
        if obj.level == 0:
            rest = [
                replace(o, level=0) if (o.row, o.column, o.level) == (obj.row, obj.column, 1) else o
                for o in rest
            ]
        return replace(self, objects=tuple(rest))

    def swapped_for(self, old: SceneObject, new: SceneObject) -> Scene:
        """The scene with one solid replaced by another."""
        return replace(self, objects=(*tuple(o for o in self.objects if o.place != old.place), new))

    def with_object(self, obj: SceneObject) -> Scene:
        """The scene with one more solid."""
        return replace(self, objects=(*self.objects, obj))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        """The inverse of `to_dict`."""
        return cls(data["background"], data["style"], tuple(SceneObject(**o) for o in data["objects"]))


def ground_point(row: int, column: int, dx: float = 0.0, dy: float = 0.0) -> tuple[float, float]:
    """The middle of a ground place, moved by (dx, dy): (x, y), unit coordinates."""
    return 0.125 + 0.25 * column + dx, 0.53 + 0.375 * row + dy


def anchor(obj: SceneObject) -> tuple[float, float]:
    """Position of a solid's foot on the ground, before any stacking: (x, y), unit coordinates."""
    return ground_point(obj.row, obj.column, obj.dx, obj.dy)
