"""The cores of every operation."""

from __future__ import annotations

from earl.world.language import cores_complex, cores_simple
from earl.world.language.form import Cores

CORES: dict[str, Cores] = {**cores_simple.CORES, **cores_complex.CORES}

"""Operations whose solid is named by its place in a row or by another solid use the cores of "remove" and
"color" with such a description in the place of {ref}."""
SAME_CORES = {"remove_nth": "remove", "remove_related": "remove", "color_related": "color"}
STYLE_SENTENCES: dict[str, tuple[str, ...]] = {
    "day": (
        "let the sun shine",
        "let the sun rise",
        "make the sun come up",
        "let it be bright day",
        "bring back the daylight",
    ),
    "night": (
        "let night fall",
        "let darkness fall",
        "make it dark",
        "it should be dark",
        "let it get dark",
        "turn off the sun",
    ),
    "sunset": (
        "let the sun set",
        "make the sun set",
        "make the sun go down",
        "let the sun go down",
        "the sun should set",
    ),
    "sepia": (
        "make it look old",
        "make it look vintage",
        "give it an old look",
        "give it a vintage look",
        "make it brown and old",
    ),
    "pencil": (
        "sketch it",
        "draw it with a pencil",
        "make it look drawn",
        "make it look like it was drawn with a pencil",
    ),
}
