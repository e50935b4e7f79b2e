"""The questions that a judge is asked: versioned template files, or a folder of one's own.

A template is text with places: `<instruction>`, and at most one each for the images `<source>`, `<edited>`,
`<target>`. A template without image places (the original VIEScore wording, say) gets its images in front,
in the order source (or target), edited. In the swapped order the two lines with images change places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

from earl.endpoints.message import Slot, fill, read_templates
from earl.errors import ConfigError

Question = Literal["semantic", "perceptual", "reference"]
VERSION = "v1"  # the folder under templates/; a change of wording is a new folder
IMAGES: dict[Question, tuple[str, ...]] = {
    "semantic": ("source", "edited"),
    "perceptual": ("edited",),
    "reference": ("target", "edited"),
}
INSTRUCTION = "<instruction>"
_PLACE = re.compile(r"<(source|edited|target)>")


@dataclass(frozen=True)
class Prompts:
    """One set of question templates, by name, and what identifies it in results."""

    version: str
    templates: dict[Question, str]

    @property
    def hash(self) -> str:
        """12 hex digits over all templates."""
        digest = sha256()
        for name in sorted(self.templates):
            digest.update(f"{name}\0{self.templates[name]}\0".encode())
        return digest.hexdigest()[:12]

    def parts(self, question: Question, instruction: str, *, swapped: bool = False) -> list[str | Slot]:
        """The question's words and images in order.

        Raises:
            ConfigError: `swapped`, and the template has not two image lines to exchange.
        """
        template, slots = self.templates[question], IMAGES[question]
        if swapped:
            template = _swap(template, slots, question)
        if not _PLACE.search(template):
            template = "".join(f"<{slot}>" for slot in slots) + template
        return fill(template, {"instruction": instruction}, ("source", "edited", "target"))

    def check(self, question: Question, *, swapped: bool = False) -> None:
        """Raises ConfigError where a template's places do not fit its question."""
        template, slots = self.templates[question], IMAGES[question]
        places = _PLACE.findall(template)
        if places and sorted(places) != sorted(slots):
            name = f"{question}.txt ({self.version})"
            raise ConfigError(f"{name} has the images {places}; expected each of {list(slots)} once")
        if question != "perceptual" and INSTRUCTION not in template:
            raise ConfigError(f"{question}.txt ({self.version}) lacks {INSTRUCTION}")
        if swapped and len(slots) == 2:
            _swap(template, slots, question)


def load_prompts(folder: str | Path | None = None, *, questions: Sequence[Question] = ()) -> Prompts:
    """The package's questions, or those of a folder with `semantic.txt`, `perceptual.txt`, `reference.txt`.

    Args:
        folder: other wordings; a file that it lacks is an error only if `questions` names it.
        questions: which are needed.

    Raises:
        ConfigError: no such folder, a missing or empty file, places that do not fit.
    """
    own = Path(str(files("earl.verifiers"))) / "templates" / VERSION
    found = read_templates(own, folder, list(IMAGES))
    missing = [f"{name}.txt" for name in questions if name not in found]
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(missing)}")
    version = VERSION if folder is None else Path(folder).resolve().name
    return Prompts(version, {name: found[name] for name in IMAGES if name in found})


def _swap(template: str, slots: Sequence[str], question: Question) -> str:
    lines = template.split("\n")
    at = [i for i, line in enumerate(lines) if _PLACE.search(line)]
    if len(at) != len(slots) or len(slots) != 2:
        raise ConfigError(
            f"the swapped order needs {question}.txt to hold <{'> and <'.join(slots)}>, each on its own line"
        )
    lines[at[0]], lines[at[1]] = lines[at[1]], lines[at[0]]
    return "\n".join(lines)
