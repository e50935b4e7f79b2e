"""Question templates: versioned files, or a folder of one's own.

`reasoning.txt` and `instruction.txt` are the questions, `reasoning-examples.txt` and
`instruction-examples.txt` the worked examples that go where a question says `<examples>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

from earl.endpoints.message import Slot, fill, read_templates
from earl.errors import ConfigError

Kind = Literal["reasoning", "instruction"]
VERSION = "v1"  # the folder under templates/; a change of wording is a new folder
NEEDED: dict[Kind, tuple[str, ...]] = {
    "reasoning": ("source", "target", "instruction", "width", "height"),
    "instruction": ("before", "after"),
}
"""Places without which a question cannot be asked."""
ALLOWED: dict[Kind, tuple[str, ...]] = {
    "reasoning": (*NEEDED["reasoning"], "facts", "characters", "examples"),
    "instruction": (*NEEDED["instruction"], "examples"),
}
_IMAGES = {"reasoning": ("source", "target"), "instruction": ()}


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

    def parts(self, values: Mapping[str, str]) -> list[str | Slot]:
        """The question's words and images in order; what a value says is never read as a place."""
        unused = dict.fromkeys(set(ALLOWED[self.kind]) - set(_IMAGES[self.kind]), "")
        return fill(self.text, {**unused, **values, "examples": self.examples}, _IMAGES[self.kind])


def load_template(kind: Kind, folder: str | Path | None = None) -> Template:
    """The package's question, or `KIND.txt` of a folder, with its `KIND-examples.txt` where there is one.

    Raises:
        ConfigError: no such folder or file, an empty one, or places that do not fit.
    """
    own = Path(str(files("earl.reasoning"))) / "templates" / VERSION
    texts = read_templates(own, folder, (kind, f"{kind}-examples"))
    if kind not in texts:
        raise ConfigError(f"{folder} has no {kind}.txt; the prompts are a folder with the question in it")
    version = VERSION if folder is None else Path(folder).resolve().name
    template = Template(kind, version, texts[kind], texts.get(f"{kind}-examples", ""))
    places = re.findall(r"<([a-z]+)>", template.text)
    missing = [name for name in NEEDED[kind] if name not in places]
    unknown = [name for name in places if name not in ALLOWED[kind]]
    if missing or unknown:
        wrong = f"lacks <{missing[0]}>" if missing else f"has <{unknown[0]}>"
        known = ", ".join(f"<{name}>" for name in ALLOWED[kind])
        raise ConfigError(f"{kind}.txt ({version}) {wrong}; its places are {known}")
    return template
