"""Question texts for judges: versioned template files, a folder of one's own, or a set's file.

A template is text with places: `<instruction>`, and at most one each for the images `<source>`, `<edited>`,
`<target>` (`<first>`, `<second>` where two edits are compared). A template without image places (the original
VIEScore wording, say) gets its images in front, in the order source (or target), edited, or behind it
(`text_first`). In the swapped order the two lines with images change places.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from earl.endpoints.message import Slot, fill, read_templates
from earl.errors import ConfigError
from earl.files import read_object, read_text
from earl.verifiers.question_sets import EARL, INSTRUCTION, QuestionSet

VERSION = "v1"  # the folder under templates/; a change of wording is a new folder
_IMAGES = ("source", "edited", "target", "first", "second")
_PLACE = re.compile(f"<({'|'.join(_IMAGES)})>")


@dataclass(frozen=True)
class Prompts:
    """The templates of a question set, by question (or by family, where a set has words for each), and what
    identifies them in results."""

    version: str
    templates: Mapping[str, str]
    system: str = ""  # message that goes before the question about the target
    questions: QuestionSet = EARL

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
        self,
        question: str,
        instruction: str,
        *,
        family: str = "",
        details: Mapping[str, str] | None = None,
        swapped: bool = False,
        text_first: bool = False,
    ) -> list[str | Slot]:
        """The question's words and images in order.

        Args:
            family: of the edit, for a set with words of each.
            details: what more the words have places for, by name.
            text_first: a template without image places stays as it is, with the images behind it.

        Raises:
            ConfigError: `swapped`, and the template has not two image lines to exchange; no words for the
                family.
        """
        template, slots = self._template(question, family), self.questions.forms[question].images
        if swapped:
            template = _swap(template, slots, question)
        values = {**(details or {}), "instruction": instruction}
        if _PLACE.search(template):
            return fill(template, values, _IMAGES)
        places = "|".join(map(re.escape, values))
        words = re.sub(f"<({places})>", lambda place: values[place[1]], template)
        if text_first:
            return [words, *map(Slot, slots)]
        if not self.questions.labels:
            return [*map(Slot, slots), words if self.questions.file else words.strip()]
        numbered = [(f"<img{number}>: ", Slot(slot)) for number, slot in enumerate(slots, 1)]
        return [*(part for pair in numbered for part in pair), words]

    def _template(self, question: str, family: str) -> str:
        if question in self.templates:
            return self.templates[question]
        if family not in self.templates:
            raise ConfigError(
                f"{self.version} has no words for edits of the type {family!r}; it has "
                f"{', '.join(self.templates)}"
            )
        return self.templates[family]

    def check(self, question: str, *, swapped: bool = False) -> None:
        """Raises ConfigError where a template's places do not fit its question."""
        template, slots = self.templates[question], self.questions.forms[question].images
        places = _PLACE.findall(template)
        if places and sorted(places) != sorted(slots):
            name = f"{question}.txt ({self.version})"
            raise ConfigError(f"{name} has the images {places}; expected each of {list(slots)} once")
        if len(slots) > 1 and INSTRUCTION not in template and self.questions.pick is None:
            raise ConfigError(f"{question}.txt ({self.version}) lacks {INSTRUCTION}")
        if swapped and len(slots) == 2:
            _swap(template, slots, question)


def load_prompts(
    folder: str | Path | None = None, *, needed: Sequence[str] = (), questions: QuestionSet = EARL
) -> Prompts:
    """The package's templates, those of a folder, or the words of a set's file.

    Args:
        folder: other wordings, `QUESTION.txt` each; one that it lacks is an error only if `needed` names it.
            For a set with a file: that file, a folder with it, or the name of an installed package that has
            it; templates beside it win over it, and `system.txt` is the message before the question about
            the target.

    Raises:
        ConfigError: no such folder or package, a missing or empty file, places that do not fit.
    """
    own = Path(str(files("earl.verifiers"))) / "templates" / VERSION
    names = [*questions.forms, "system"]
    if questions.file:
        path = _file(folder, questions.file)
        beside = path.parent if Path(str(folder)).expanduser().is_dir() else None
        found = dict(questions.words(_texts(path, questions.names)))
        found |= read_templates(own, beside, names) if beside else {}
    else:
        found = read_templates(own, folder, names)
    missing = [f"{name}.txt" for name in needed if name not in found]
    if missing and (questions.names or not questions.file):
        raise ConfigError(f"{folder} lacks {', '.join(missing)}")
    version = VERSION if folder is None else Path(folder).resolve().name
    return Prompts(version, found, found.pop("system", "").strip(), questions)


def _file(given: str | Path | None, name: str) -> Path:
    """A set's file: as named, in a folder, or in an installed package. Raises ConfigError."""
    path = Path(str(given)).expanduser()
    if path.is_dir():
        path = path / name
    elif not path.is_file() and str(given).isidentifier():
        spec = find_spec(str(given))
        if spec is None:
            raise ConfigError(f"no file or folder {given}, and no package of that name: pip install {given}")
        folders = [Path(place) for place in spec.submodule_search_locations or ()]
        files_there = sorted(file for folder in folders for file in folder.rglob(name))
        if not files_there:
            raise ConfigError(f"the package {given} holds no {name}; name the file itself")
        path = files_there[0]
    if not path.is_file():
        raise ConfigError(f"there is no {path}; prompts names {name}, a folder with it, or its package")
    return path


def _texts(path: Path, names: Sequence[str]) -> dict[str, str]:
    """The texts of a JSON object, or the string literals of a Python file, of which nothing is run."""
    if path.suffix == ".json":
        texts = read_object(path)
    else:
        try:
            tree = ast.parse(read_text(path, error=ConfigError))
        except SyntaxError as error:
            raise ConfigError(f"{path} cannot be read as Python, line {error.lineno}: {error.msg}") from error
        texts = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
    literals = {name: text for name, text in texts.items() if isinstance(text, str)}
    if missing := sorted(set(names) - set(literals)) or ([] if literals else ["texts by name"]):
        raise ConfigError(f"{path} lacks {', '.join(missing)}: expected string literals of these names")
    return literals


def _swap(template: str, slots: Sequence[str], question: str) -> str:
    lines = template.split("\n")
    at = [i for i, line in enumerate(lines) if _PLACE.search(line)]
    if len(at) != len(slots) or len(slots) != 2:
        raise ConfigError(
            f"the swapped order needs {question}.txt to hold <{'> and <'.join(slots)}>, each on its own line"
        )
    lines[at[0]], lines[at[1]] = lines[at[1]], lines[at[0]]
    return "\n".join(lines)
