"""Edit requests and descriptions of solids as records."""

from __future__ import annotations

from dataclasses import dataclass

from earl.world.language.tables import WORDS, usual
from earl.world.scene import Scene, SceneObject

SIDES: tuple[str, ...] = tuple(WORDS["side"])
RELATIONS: tuple[str, ...] = tuple(WORDS["relation"])
PLACES: tuple[str, ...] = tuple(WORDS["place"])
"""Where a described solid stands among those that fit the rest of the description."""
OTHER = "other"
"""The operation of a sentence that asks for nothing of this world; its outcome is the source."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A description of a solid; a field is None where the words say nothing.

    `place` is one of `PLACES` and narrows a description that fits several solids of the scene.
    """

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    texture: str | None = None
    place: str | None = None

    def matches(self, obj: SceneObject) -> bool:
        """Whether a solid fits the words, its place among others left aside."""
        return (
            self.shape in (None, obj.shape)
            and self.color in (None, obj.color)
            and self.size in (None, obj.size)
            and self.texture in (None, obj.texture)
        )

    def find(self, scene: Scene) -> list[SceneObject]:
        """The solids of a scene that the description fits."""
        fitting = [o for o in scene.objects if self.matches(o)]
        if self.place is None or len(fitting) < 2:
            return fitting
        if self.place in SIDES:
            columns = [o.column for o in fitting]
            end = min(columns) if self.place == "left" else max(columns)
            return [o for o in fitting if o.column == end]
        return [o for o in fitting if o.row == (1 if self.place == "front" else 0)]

    @classmethod
    def of(cls, obj: SceneObject) -> Ref:
        """Colour and shape, the usual way to name a solid."""
        return cls(shape=obj.shape, color=obj.color)

    def words(self, plural: bool = False) -> str:
        """The plain words without an article."""
        noun = (self.shape or "object") + ("s" if plural else "")
        words = " ".join(w for w in (self.size, self.texture, self.color, noun) if w)
        return f"{words} {usual('place', self.place)}" if self.place else words


@dataclass(frozen=True, slots=True)
class Request:
    """One edit as the instruction states it. `then` holds the second request of a double one."""

    op: str
    ref: Ref | None = None
    ref2: Ref | None = None
    ref3: Ref | None = None
    kind: Ref | None = None
    value: str | None = None
    number: int | None = None
    side: str | None = None
    relation: str | None = None
    then: Request | None = None


def place_words(obj: SceneObject) -> str:
    """Where a solid stands, in words."""
    row = "front" if obj.row == 1 else "back"
    column = ("far left", "left", "right", "far right")[obj.column]
    return f"on top at the {row} {column}" if obj.level else f"at the {row} {column}"
