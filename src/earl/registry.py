"""Names to factories, imported when asked for.

A name is one of the core's own, an entry point of any installed package, or `package.module:attribute`.
The procedural world registers itself the same way as other packages do: by entry points in `pyproject.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from earl.errors import ConfigError

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Registry:
    """The factories of one kind.

    Attributes:
        kind: what is registered, for messages: "verifier".
        group: entry-point group that packages use: "earl.verifiers".
        own: the core's own names, each with its `module:attribute`.
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
        """`module:attribute` of a registered or dotted name; None where there is no such name."""
        return name if _DOTTED.fullmatch(name) else self.own.get(name) or self._homes.get(name)

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
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.names()) or 'none'}"
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
        return factory


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
    },
)
BENCHMARKS = Registry(
    "benchmark",
    "earl.benchmarks",
    {
        "omniedit-dev": "earl.evaluation.benchmarks.omniedit:BENCHMARK",
        "emuedit": "earl.evaluation.benchmarks.emuedit:BENCHMARK",
        "magicbrush": "earl.evaluation.benchmarks.magicbrush:BENCHMARK",
        "aurora-bench": "earl.evaluation.benchmarks.aurora:BENCHMARK",
        "vismin": "earl.evaluation.benchmarks.vismin:BENCHMARK",
        "i2ebench": "earl.evaluation.benchmarks.i2ebench:BENCHMARK",
        "gedit-en": "earl.evaluation.benchmarks.gedit:ENGLISH",
        "gedit-cn": "earl.evaluation.benchmarks.gedit:CHINESE",
        "imgedit": "earl.evaluation.benchmarks.imgedit:BENCHMARK",
        "pie-bench": "earl.evaluation.benchmarks.pie:BENCHMARK",
        "risebench": "earl.evaluation.benchmarks.risebench:BENCHMARK",
    },
)
SOURCES = Registry(
    "data source",
    "earl.sources",
    {
        "omniedit": "earl.data.sources.builtin:OMNIEDIT",
        "humanedit": "earl.data.sources.builtin:HUMANEDIT",
        "magicbrush": "earl.data.sources.builtin:MAGICBRUSH",
        "vismin": "earl.data.sources.builtin:VISMIN",
        "aurora-kubric": "earl.data.sources.builtin:AURORA_KUBRIC",
        "aurora-ag": "earl.data.sources.builtin:AURORA_AG",
        "something-something-v2": "earl.data.sources.builtin:SOMETHING_SOMETHING_V2",
        "omniedit-dev": "earl.data.sources.builtin:OMNIEDIT_DEV",
        "emu-edit": "earl.data.sources.builtin:EMU_EDIT",
        "magicbrush-test": "earl.data.sources.builtin:MAGICBRUSH_TEST",
        "aurora-bench": "earl.data.sources.builtin:AURORA_BENCH",
        "vismin-dev": "earl.data.sources.builtin:VISMIN_DEV",
        "i2ebench": "earl.data.sources.builtin:I2EBENCH",
        "gedit-bench-en": "earl.data.sources.recent:GEDIT_BENCH_EN",
        "gedit-bench-cn": "earl.data.sources.recent:GEDIT_BENCH_CN",
        "imgedit-bench": "earl.data.sources.recent:IMGEDIT_BENCH",
        "rise-bench": "earl.data.sources.recent:RISE_BENCH",
        "pie-bench": "earl.data.sources.recent:PIE_BENCH",
    },
)
PROMPTS = Registry("prompt source", "earl.prompts")
MODELS = Registry("model", "earl.models")
WORDINGS = Registry("wording function", "earl.wordings")
DOMAINS = Registry("domain", "earl.domains")
