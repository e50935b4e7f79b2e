"""The domain of the shipped model: a check of images and words."""

from __future__ import annotations

import re

import numpy as np
from PIL.Image import Image

from earl.world.language.grammar import vocabulary
from earl.world.language.lexer import tokens
from earl.world.plans import steps
from earl.world.verifier.backdrop import read_backdrop
from earl.world.verifier.canvas import shared_canvas
from earl.world.verifier.perception import to_working

FAR = 0.03  # median difference from the nearest backdrop, of full scale; images of the world: below 0.01
_SHOWN = 3  # unknown words that are named


class WorldDomain:
    """The domain of the model that ships with the package."""

    tasks = "world"
    verifier = "scene"
    about = (
        "This small model edits **drawn scenes only**, not photographs: spheres, cubes, cylinders, cones and "
        "chests in red, green, blue, yellow, purple or orange, on a meadow, in a desert, in snow or in a "
        "studio. Ask it to add, remove, replace, recolor, resize or stripe a solid, to open, topple or move "
        "one, to change the background, or to make it night, sunset, sepia or a pencil drawing."
    )

    def problems(self, image: Image, instruction: str) -> list[str]:
        """What of an edit lies outside the world; at most one clause each for image and words."""
        found = []
        if _distance(image) > FAR:
            found.append("the image is none of its drawn scenes")
        if unknown := unknown_words(instruction):
            shown = ", ".join(repr(_excerpt(word)) for word in unknown[:_SHOWN])
            found.append(f"its language lacks {shown}{' and more' if len(unknown) > _SHOWN else ''}")
        elif not tokens(instruction):
            found.append(f"{_excerpt(instruction)!r} has no word of its language")
        return found

    def split(self, reasoning: str) -> list[tuple[str, str]]:
        """The steps of a plan; see `earl.world.plans.steps`."""
        return steps(reasoning)


def _distance(image: Image) -> float:
    """Median difference of an image from the nearest empty backdrop; solids cover less than half."""
    pixels_CHW = to_working(np.asarray(image.convert("RGB").resize((64, 64))))
    empty_CHW = shared_canvas(64, *read_backdrop(pixels_CHW)).compose([])
    return float(np.median(np.abs(pixels_CHW - empty_CHW).mean(axis=0)))


def unknown_words(instruction: str) -> list[str]:
    """Words that are in none of the world's sentences, also after the correction of typos."""
    known = vocabulary()
    # the lexer knows ASCII letters only and would split "Würfel"
    foreign = [word for word in re.findall(r"[^\W\d_]+", instruction) if not word.isascii()]
    ascii_only = re.sub(r"[^\W\d_]+", lambda word: word[0] if word[0].isascii() else " ", instruction)
    words = [word for word, _ in tokens(ascii_only, known) if word[0] != "<" and word not in known]
    return list(dict.fromkeys([*words, *foreign]))


WORLD = WorldDomain()


def _excerpt(word: str) -> str:
    return word if len(word) <= 30 else word[:29] + "…"
