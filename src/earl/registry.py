"""Names to factories, imported when asked for.

A name is one of the core's own, an entry point of any installed package, or `package.module:attribute`.
The procedural world registers itself the same way as other packages do: by entry points in `pyproject.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from earl.errors import ConfigError

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def is_path(text: str) -> bool:
    """Whether a text that may be a name or a path is a path by its spelling; the file need not exist."""
    return "/" in text or text.startswith(("~", ".")) or ("." in text and ":" not in text)


@dataclass(frozen=True)
class Registry:
    """The factories of one kind.

    Attributes:
        kind: what is registered, for messages: "verifier".
        group: entry-point group that packages use: "earl.verifiers".
        own: the core's own names, each with its `module:attribute`; of a table, the entry of that name.
    """

    kind: str
    group: str
    own: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _homes(self) -> dict[str, str]:
        return {**{entry.name: entry.value for entry in entry_points(group=self.group)}, **self.own}

    def names(self) -> list[str]:
        """All registered names, sorted; none is imported."""
        return sorted(self._homes)

    def home(self, name: str) -> str | None:
        """`module:attribute` of a registered or dotted name; None where there is no such name.

        Raises:
            ConfigError: this package has the name, and was installed before it had it.
        """
        home = name if _DOTTED.fullmatch(name) else self.own.get(name) or self._homes.get(name)
        if home is None and name in _names_in_checkout(self.group):
            raise ConfigError(
                f"the {self.kind} {name!r} was added after this package was installed; install it again: "
                "pip install --no-deps -e ."
            )
        return home

    def __contains__(self, name: str) -> bool:
        return self.home(name) is not None

    def load(self, name: str) -> Any:
        """The factory of a name, imported now.

        Args:
            name: a registered name, or `package.module:attribute`.

        Raises:
            ConfigError: no such name (the nearest is named), or what it names cannot be imported.
        """
        home = self.home(name)
        if home is None:
            near = get_close_matches(name, self.names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.names()) or 'none'}."
            raise ConfigError(
                f"no {self.kind} {name!r}; {hint} One of another package is named 'package.module:attribute'"
            )
        module, _, attribute = home.partition(":")
        try:
            factory: Any = import_module(module)
            for part in attribute.split("."):
                factory = getattr(factory, part)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the {self.kind} {name!r} cannot be loaded from {home}: {error}") from error
        return factory[name] if isinstance(factory, Mapping) else factory


@cache
def _names_in_checkout(group: str) -> list[str]:
    """Names of a group in the `pyproject.toml` of an editable installation."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    section = text.partition(f'[project.entry-points."{group}"]\n')[2].partition("\n[")[0]
    return re.findall(r"^([\w-]+) *=", section, re.MULTILINE)


def _of_table(home: str, names: str) -> dict[str, str]:
    """The homes of names, blanks between them, whose factories are entries of one table."""
    return dict.fromkeys(names.split(), home)


VERIFIERS = Registry(
    "verifier",
    "earl.verifiers",
    {
        "judge": "earl.verifiers.judge:JudgeVerifier",
        "reference": "earl.verifiers.judge:ReferenceVerifier",
        "pairwise": "earl.verifiers.pairwise:PairwiseVerifier",
        "rubric": "earl.verifiers.rubrics:RubricVerifier",
        "target": "earl.verifiers.target:TargetVerifier",
    },
)
QUESTIONS = Registry(
    "question set",
    "earl.questions",
    {
        "earl": "earl.verifiers.question_sets:EARL",
        "viescore": "earl.verifiers.question_sets:VIESCORE",
        "ground": "earl.verifiers.question_sets:GROUND",
        "editscore": "earl.verifiers.question_sets:EDITSCORE",
        "firm": "earl.verifiers.question_sets:FIRM",
        "imgedit": "earl.verifiers.question_sets:IMGEDIT",
        "risebench": "earl.verifiers.risebench:RISEBENCH",
    },
)
BENCHMARKS = Registry(
    "benchmark",
    "earl.benchmarks",
    _of_table(
        "earl.evaluation.benchmarks:BENCHMARKS",
        "omniedit-dev emuedit magicbrush aurora-bench vismin i2ebench gedit-en gedit-cn imgedit pie-bench "
        "risebench",
    ),
)
SOURCES = Registry(
    "data source",
    "earl.sources",
    _of_table(
        "earl.data.sources.builtin:SCHEMAS",
        "omniedit humanedit magicbrush vismin aurora-kubric aurora-ag something-something-v2 omniedit-dev "
        "emu-edit magicbrush-test aurora-bench vismin-dev i2ebench gedit-bench-en gedit-bench-cn "
        "imgedit-bench rise-bench pie-bench",
    ),
)
PROMPTS = Registry("prompt source", "earl.prompts")
MODELS = Registry("model", "earl.models")
WORDINGS = Registry("wording function", "earl.wordings")
DOMAINS = Registry("domain", "earl.domains")
