"""The questions that a judge is asked: versioned template files, or a folder of one's own.

A template is text with places: `<instruction>`, and at most one each for the images `<source>`, `<edited>`,
`<target>`. A template without image places (the original VIEScore wording, say) gets its images in front,
in the order source (or target), edited, or behind it (`text_first`). VIEScore's own questions are read from
its `vie_prompts.py` as string literals; the file is never run. In the swapped order the two lines with images
change places.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from earl.endpoints.message import Slot, fill, read_templates
from earl.errors import ConfigError
from earl.files import read_text

Question = Literal["semantic", "perceptual", "reference"]
VERSION = "v1"  # the folder under templates/; a change of wording is a new folder
IMAGES: dict[Question, tuple[str, ...]] = {
    "semantic": ("source", "edited"),
    "perceptual": ("edited",),
    "reference": ("target", "edited"),
}
INSTRUCTION = "<instruction>"
VIE_FILE = "vie_prompts.py"
VIE_PARTS: dict[Question, tuple[str, ...]] = {
    "semantic": (
        "_context_no_delimit",
        "_prompts_0shot_two_image_edit_rule",
        "_prompts_0shot_tie_rule_SC",
    ),
    "perceptual": ("_context_no_delimit", "_prompts_0shot_rule_PQ"),
}
"""The literals that VIEScore joins by line breaks into a question about an edit."""
_PLACE = re.compile(r"<(source|edited|target)>")


@dataclass(frozen=True)
class Prompts:
    """One set of question templates, by name, and what identifies it in results."""

    version: str
    templates: dict[Question, str]
    system: str = ""  # message that goes before the reference question

    @property
    def hash(self) -> str:
        """12 hex digits over all templates."""
        digest = sha256()
        for name in sorted(self.templates):
            digest.update(f"{name}\0{self.templates[name]}\0".encode())
        if self.system:
            digest.update(self.system.encode())
        return digest.hexdigest()[:12]

    def parts(
        self, question: Question, instruction: str, *, swapped: bool = False, text_first: bool = False
    ) -> list[str | Slot]:
        """The question's words and images in order.

        Args:
            text_first: a template without image places stays as it is, with the images behind it.

        Raises:
            ConfigError: `swapped`, and the template has not two image lines to exchange.
        """
        template, slots = self.templates[question], IMAGES[question]
        if swapped:
            template = _swap(template, slots, question)
        if not _PLACE.search(template):
            if text_first:
                return [template.replace(INSTRUCTION, instruction), *map(Slot, slots)]
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
        folder: other wordings; a file that it lacks is an error only if `questions` names it. It may hold
            `system.txt`, and VIEScore's `vie_prompts.py` in place of the first two; that file itself, and
            the name of an installed package that has it, do too.
        questions: which are needed.

    Raises:
        ConfigError: no such folder, a missing or empty file, places that do not fit.
    """
    own = Path(str(files("earl.verifiers"))) / "templates" / VERSION
    literals = _vie_file(folder)
    is_folder = folder is None or literals is None or Path(folder).expanduser().is_dir()
    found = read_templates(own, folder, [*IMAGES, "system"]) if is_folder else {}
    if literals is not None:
        found = _vie_questions(literals) | found
    missing = [f"{name}.txt" for name in questions if name not in found]
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(missing)}")
    version = VERSION if folder is None else Path(folder).resolve().name
    return Prompts(
        version, {name: found[name] for name in IMAGES if name in found}, found.get("system", "").strip()
    )


def _vie_file(given: str | Path | None) -> Path | None:
    """VIEScore's file of questions: as named, in a folder, or in an installed package; None without one."""
    if given is None:
        return None
    path = Path(given).expanduser()
    if path.is_dir():
        return path / VIE_FILE if (path / VIE_FILE).is_file() else None
    if path.suffix in (".py", ".txt"):
        return path
    if not str(given).isidentifier() or (spec := find_spec(str(given))) is None:
        return None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files_there = sorted(file for folder in folders for file in folder.rglob(VIE_FILE))
    if not files_there:
        raise ConfigError(f"the package {given} holds no {VIE_FILE}; name the file itself")
    return files_there[0]


def _vie_questions(path: Path) -> dict[str, str]:
    """The two questions, of the file's string literals; nothing of it is run."""
    try:
        tree = ast.parse(read_text(path, error=ConfigError))
    except SyntaxError as error:
        raise ConfigError(f"{path} cannot be read as Python, line {error.lineno}: {error.msg}") from error
    literals = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    if missing := sorted({name for names in VIE_PARTS.values() for name in names} - set(literals)):
        raise ConfigError(f"{path} lacks {', '.join(missing)}: expected VIEScore's string literals")
    return {question: "\n".join(literals[name] for name in names) for question, names in VIE_PARTS.items()}


def _swap(template: str, slots: Sequence[str], question: Question) -> str:
    lines = template.split("\n")
    at = [i for i, line in enumerate(lines) if _PLACE.search(line)]
    if len(at) != len(slots) or len(slots) != 2:
        raise ConfigError(
            f"the swapped order needs {question}.txt to hold <{'> and <'.join(slots)}>, each on its own line"
        )
    lines[at[0]], lines[at[1]] = lines[at[1]], lines[at[0]]
    return "\n".join(lines)
