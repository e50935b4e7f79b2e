"""The questions that a judge is asked: versioned template files, or a folder of one's own.

A template is text with markers: `<instruction>`, and at most one line each for the images
`<source>`, `<edited>`, `<target>`; an image goes where its marker stands. A template without
image markers (the original VIEScore wording, say) gets its images in front, in the order source
(or target), edited. In the swapped order the two image lines change places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

from earl.errors import ConfigError

Question = Literal["semantic", "perceptual", "ground"]
Slot = Literal["source", "edited", "target"]
VERSION = "v1"  # the folder under templates/; a change of wording is a new folder
IMAGES: dict[Question, tuple[Slot, ...]] = {
    "semantic": ("source", "edited"),
    "perceptual": ("edited",),
    "ground": ("target", "edited"),
}
MARKER = re.compile(r"<(source|edited|target)>")
INSTRUCTION = "<instruction>"


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of words in a question."""

    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The place of an image in a question."""

    slot: Slot


Part = Text | Picture


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

    def parts(self, question: Question, instruction: str, *, swapped: bool = False) -> list[Part]:
        """The question's words and images in order.

        Raises:
            ConfigError: `swapped`, and the template has not two image lines to exchange.
        """
        template = self.templates[question]
        slots = IMAGES[question]
        if swapped:
            template = _swap(template, slots, question)
        if not MARKER.search(template):
            template = "".join(f"<{slot}>" for slot in slots) + template
        # Split first, fill in afterwards: an instruction may say "<edited>" and means the words.
        words = MARKER.split(template)
        parts: list[Part] = []
        for i, piece in enumerate(words):
            if i % 2:
                parts.append(Picture(_slot(piece)))
            elif piece.strip():
                parts.append(Text(piece.replace(INSTRUCTION, instruction).strip()))
        return parts

    def check(self, question: Question, *, swapped: bool = False) -> None:
        """Raises ConfigError where a template's markers do not fit its question."""
        template, slots = self.templates[question], IMAGES[question]
        markers = MARKER.findall(template)
        if markers and sorted(markers) != sorted(slots):
            raise ConfigError(
                f"{question}.txt ({self.version}) has the images {markers}; "
                f"expected each of {list(slots)} once"
            )
        if question != "perceptual" and INSTRUCTION not in template:
            raise ConfigError(f"{question}.txt ({self.version}) lacks {INSTRUCTION}")
        if swapped and len(slots) == 2:
            _swap(template, slots, question)


def load_prompts(folder: str | Path | None = None, *, questions: Sequence[Question] = ()) -> Prompts:
    """The package's questions, or those of a folder with `semantic.txt`, `perceptual.txt`, `ground.txt`.

    Args:
        folder: other wordings; a file that it lacks is an error only if `questions` names it.
        questions: which are needed.

    Raises:
        ConfigError: no such folder, a missing or empty file, markers that do not fit.
    """
    if folder is None:
        root = files("earl.verifiers") / "templates" / VERSION
        packaged = {name: (root / f"{name}.txt").read_text(encoding="utf-8") for name in IMAGES}
        return Prompts(VERSION, packaged)
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(f"{path} is no folder; --prompts takes one with semantic.txt and perceptual.txt")
    templates: dict[Question, str] = {}
    for name in IMAGES:
        file = path / f"{name}.txt"
        if not file.is_file():
            continue
        try:
            templates[name] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read as UTF-8 text: {error}") from error
        if not templates[name].strip():
            raise ConfigError(f"{file} is empty; write the question there")
    missing = [f"{name}.txt" for name in questions if name not in templates]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    return Prompts(path.resolve().name, templates)


def _swap(template: str, slots: Sequence[Slot], question: Question) -> str:
    lines = template.split("\n")
    at = [i for i, line in enumerate(lines) if MARKER.search(line)]
    if len(at) != len(slots) or len(slots) != 2:
        raise ConfigError(
            f"the swapped order needs {question}.txt to hold <{'> and <'.join(slots)}>, each on its own line"
        )
    lines[at[0]], lines[at[1]] = lines[at[1]], lines[at[0]]
    return "\n".join(lines)


def _slot(name: str) -> Slot:
    for slot in ("source", "edited", "target"):
        if name == slot:
            return slot
    raise AssertionError(name)
