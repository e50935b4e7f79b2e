"""The words of editing: synonyms of shapes, colours, sizes, textures, places, relations, settings and styles.

Each table goes from what is meant to the words that say it, the usual one first. A word stands for one
meaning only. None of the words of `heldout` is among them.
"""

from __future__ import annotations

SHAPES: dict[str, tuple[str, ...]] = {
    "sphere": ("sphere", "ball", "orb", "globe"),
    "cube": ("cube", "box", "block"),
    "cylinder": ("cylinder", "tube", "can", "drum", "pillar"),
    "cone": ("cone", "pointy cone", "cone shape"),
    "chest": ("chest", "treasure chest", "trunk", "treasure box"),
}
OBJECTS = ("one", "object", "thing", "item", "shape")
"""Nouns that say nothing of the shape."""
IRREGULAR = {"box": "boxes", "treasure box": "treasure boxes"}

COLORS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet", "ruby", "cherry red"),
    "orange": ("orange", "tangerine", "pumpkin colored"),
    "yellow": ("yellow", "golden", "lemon yellow", "canary yellow"),
    "green": ("green", "emerald", "lime green", "leaf green"),
    "blue": ("blue", "azure", "navy", "navy blue", "cobalt blue", "sky blue"),
    "purple": ("purple", "violet", "lilac", "lavender"),
}
SHADES = ("bright", "dark", "light", "deep", "vivid")
"""Words before a colour that do not change which of the six it is."""

SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny", "mini", "miniature"),
    "large": ("large", "big", "huge", "giant", "enormous"),
}
TEXTURES: dict[str, tuple[str, ...]] = {
    "striped": ("striped", "stripy", "stripey", "banded"),
    "plain": ("plain", "unstriped", "solid colored", "unpatterned"),
}
TEXTURE_TAILS = {
    "striped": ("with stripes", "with the stripes"),
    "plain": ("without stripes", "with no stripes"),
}
"""The same after the noun."""

PLACE_TAILS: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "on the far left", "on the left hand side"),
    "right": ("on the right", "on the right side", "on the far right", "on the right hand side"),
    "front": ("at the front", "in the front", "in the front row", "in the foreground"),
    "back": ("at the back", "in the back", "in the back row", "at the rear"),
}
PLACE_HEADS: dict[str, tuple[str, ...]] = {
    "left": ("leftmost", "left", "left hand"),
    "right": ("rightmost", "right", "right hand"),
    "front": ("front", "nearest", "closest"),
    "back": ("back", "rear", "farthest", "furthest"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "behind": ("behind", "in back of", "right behind"),
    "in front of": ("in front of", "right in front of", "standing in front of"),
    "to the left of": ("to the left of", "left of", "on the left of", "on the left side of"),
    "to the right of": ("to the right of", "right of", "on the right of", "on the right side of"),
    "on top of": ("on top of", "on", "atop", "onto", "standing on"),
}
NUMBERS: dict[str, tuple[str, ...]] = {
    "1": ("one", "1"),
    "2": ("two", "2"),
    "3": ("three", "3"),
    "4": ("four", "4"),
    "5": ("five", "5"),
}
NTHS: dict[str, tuple[str, ...]] = {
    "1": ("first", "1st"),
    "2": ("second", "2nd"),
    "3": ("third", "3rd"),
    "4": ("fourth", "4th"),
}
SIDES: dict[str, tuple[str, ...]] = {
    "left": ("left", "left side", "left hand side"),
    "right": ("right", "right side", "right hand side"),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "meadow": (
        "a meadow",
        "meadow",
        "grass",
        "a grassy field",
        "a green field",
        "a lawn",
        "grassland",
        "the grass",
    ),
    "desert": (
        "a desert",
        "the desert",
        "desert",
        "sand",
        "a sandy desert",
        "sand dunes",
        "dunes",
        "a sandy place",
    ),
    "snow": ("a snowy field", "snow", "a snowy landscape", "a winter landscape", "a snow field", "the snow"),
    "studio": ("a studio", "the studio", "studio", "a photo studio", "an indoor studio", "a studio backdrop"),
}
STYLES: dict[str, tuple[str, ...]] = {
    "day": ("daytime", "day", "daylight", "midday", "noon", "a day scene"),
    "night": ("night", "nighttime", "night time", "midnight", "a night scene"),
    "sunset": ("sunset", "a sunset", "dusk", "sundown", "evening", "a sunset scene"),
    "sepia": ("a sepia photo", "sepia", "a sepia picture", "an old photo", "a vintage photo", "sepia toned"),
    "pencil": ("a pencil drawing", "a pencil sketch", "a sketch", "a drawing", "a pencil picture", "pencil"),
}
WHEN: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in daylight", "in the daytime", "during the day", "at noon", "on a sunny day"),
    "night": ("at night", "by night", "at nighttime", "in the night", "at midnight", "in the dark"),
    "sunset": ("at sunset", "at dusk", "in the evening", "at sundown", "during sunset"),
    "sepia": ("in sepia", "in sepia tones", "as a sepia photo", "as an old photo", "like an old photo"),
    "pencil": (
        "in pencil",
        "as a pencil drawing",
        "as a pencil sketch",
        "as a sketch",
        "like a pencil drawing",
    ),
}
"""Styles as adverbs."""
IMAGES = ("picture", "image", "scene", "photo", "pic", "photograph")
EVERYTHING = (
    "all objects",
    "everything",
    "all the objects",
    "all things",
    "all of them",
    "all the things",
    "every object",
    "the objects",
)
MORE = ("one more", "another", "an extra", "an additional", "one extra")
"""What asks for one more of a kind."""
