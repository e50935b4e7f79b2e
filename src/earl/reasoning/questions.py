"""The questions: versioned template files, or a folder of one's own.

`reasoning.txt` and `instruction.txt` are the questions, `reasoning-examples.txt` and
`instruction-examples.txt` the worked examples that go where a question says `<examples>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

from earl.errors import ConfigError

Kind = Literal["reasoning", "instruction"]
VERSION = "v1"  # the folder under templates/; a change of wording is a new folder
NEEDED: dict[Kind, tuple[str, ...]] = {
    "reasoning": ("source", "target", "instruction", "width", "height"),
    "instruction": ("before", "after"),
}
"""Markers without which a question cannot be asked."""
ALLOWED: dict[Kind, tuple[str, ...]] = {
    "reasoning": (*NEEDED["reasoning"], "facts", "characters", "examples"),
    "instruction": (*NEEDED["instruction"], "examples"),
}
_IMAGES = ("source", "target")
_MARKER = re.compile(r"<([a-z]+)>")


@dataclass(frozen=True, slots=True)
class Picture:
    """The place of an image in a question."""

    name: str


@dataclass(frozen=True)
class Template:
    """One question and its examples. `version` names the set of wordings, `hash` its very words."""

    kind: Kind
    version: str
    text: str
    examples: str

    @property
    def hash(self) -> str:
        """12 hex digits."""
        return sha256(f"{self.kind}\0{self.text}\0{self.examples}".encode()).hexdigest()[:12]

    def parts(self, values: Mapping[str, str]) -> list[str | Picture]:
        """The question's words and images in order; what a value says is never read as a marker."""
        filled = {**values, "examples": self.examples}
        parts: list[str | Picture] = [""]
        for place, piece in enumerate(_MARKER.split(self.text)):
            if place % 2 == 0:
                words = piece
            elif self.kind == "reasoning" and piece in _IMAGES:
                parts += [Picture(piece), ""]
                continue
            else:
                words = filled.get(piece, "")
            parts[-1] = f"{parts[-1]}{words}"
        return [part.strip() if isinstance(part, str) else part for part in parts if part]


def load_template(kind: Kind, folder: str | Path | None = None) -> Template:
    """The package's question, or `KIND.txt` of a folder, with its `KIND-examples.txt` where there is one.

    Raises:
        ConfigError: no such folder or file, an empty one, or markers that do not fit.
    """
    if folder is None:
        root = files("earl.reasoning") / "templates" / VERSION
        text = (root / f"{kind}.txt").read_text(encoding="utf-8")
        examples = (root / f"{kind}-examples.txt").read_text(encoding="utf-8")
        return _checked(Template(kind, VERSION, text, examples))
    path = Path(folder)
    if not (path / f"{kind}.txt").is_file():
        raise ConfigError(f"{path} has no {kind}.txt; --prompts takes a folder with the question in it")
    text, examples = _read(path / f"{kind}.txt"), ""
    if (path / f"{kind}-examples.txt").is_file():
        examples = _read(path / f"{kind}-examples.txt")
    if not text.strip():
        raise ConfigError(f"{path / f'{kind}.txt'} is empty; write the question there")
    return _checked(Template(kind, path.resolve().name, text, examples))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _checked(template: Template) -> Template:
    found: Sequence[str] = _MARKER.findall(template.text)
    missing = [name for name in NEEDED[template.kind] if name not in found]
    unknown = [name for name in found if name not in ALLOWED[template.kind]]
    if missing or unknown:
        wrong = f"lacks <{missing[0]}>" if missing else f"has <{unknown[0]}>"
        known = ", ".join(f"<{name}>" for name in ALLOWED[template.kind])
        raise ConfigError(f"{template.kind}.txt ({template.version}) {wrong}; its markers are {known}")
    return template
