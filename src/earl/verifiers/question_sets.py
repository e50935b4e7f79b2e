"""Question sets: published ways to ask a judge about an edit, by name.

A set says what is asked, where the words are, how the images are shown, and how the answer is read. Words
of other people stay in files of theirs: string literals or JSON are read from them, nothing is run, and
nothing of them is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from earl.records import SCORE_PARTS, Attempt, ScorePart, Verdict
from earl.verifiers.answers import Reading, read_final, read_lines, read_scores, read_tagged

INSTRUCTION = "<instruction>"


@dataclass(frozen=True)
class Form:
    """A question's images, and what the numbers of its answer are.

    Attributes:
        images: "source", "edited", "target", in the order shown.
        parts: of the verdict, in the order of the numbers; a single number, or the mean of several where
            `style` is "lines", is all of them.
        low, high: the scale.
        worst: what becomes 0, where it is not `low`; `high` becomes 10.
        style: "json": a `score` list; "tag": one number between score tags; "lines": `Name: number` lines;
            "final": one number behind "Final Score:"; "words": the verifier reads it by itself.
        request: fields of the request that differ from the settings.
    """

    images: tuple[str, ...]
    parts: tuple[ScorePart, ...]
    count: int = 2
    low: int = 0
    high: int = 10
    worst: int | None = None
    style: Literal["json", "tag", "lines", "final", "words"] = "json"
    request: Mapping[str, Any] = field(default_factory=dict)

    def read(self, answer: str, *, cut_off: bool = False) -> Reading:
        """The numbers of an answer, on the question's own scale."""
        if self.style == "json":
            return read_scores(answer, count=self.count, low=self.low, high=self.high, cut_off=cut_off)
        if self.style == "tag":
            return read_tagged(answer, low=self.low, high=self.high, cut_off=cut_off)
        if self.style == "final":
            return read_final(answer, low=self.low, high=self.high, cut_off=cut_off)
        reading = read_lines(answer, self.count, low=self.low, high=self.high, cut_off=cut_off)
        return Reading((sum(reading.scores) / self.count,)) if reading.scores else reading

    def stretched(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        """The verdict's parts, 0-10, from numbers on the question's scale."""
        worst = self.low if self.worst is None else self.worst
        scores = tuple((number - worst) * 10 / (self.high - worst) for number in numbers)
        return scores if len(scores) == len(self.parts) else scores * len(self.parts)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer."""
        score = {"type": "integer", "minimum": self.low, "maximum": self.high}
        scores = {"type": "array", "items": score, "minItems": self.count, "maxItems": self.count}
        return {
            "type": "object",
            "properties": {"score": scores, "reasoning": {"type": "string"}},
            "required": ["score", "reasoning"],
            "additionalProperties": False,
        }


SEMANTIC = Form(("source", "edited"), ("edit_success", "over_editing"))
PERCEPTUAL = Form(("edited",), ("naturalness", "artifacts"))
AGAINST_TARGET = Form(("target", "edited"), ("edit_success", "over_editing"))


@dataclass(frozen=True)
class QuestionSet:
    """One way to ask.

    Attributes:
        asked: about each edit, by name, in the order of the verdict's raw answers.
        against_target: the same for a verifier that is shown the target too; {}: it has none.
        file: that holds the words; "": templates, the package's or a folder's.
        words: from the file's literals (of a JSON file, its texts) to templates by question. A JSON file's
            own names are families, and the only question of the set is asked in the words of an edit's own.
        names: literals that the file must have.
        labels: each image is announced by its number, as EditScore's models have learnt.
        pick: the names of those that are asked about an edit; None: all.
        conclude: gives a verdict the overall score and the `exact` of the protocol; None: it has none of its
            own.
        several: what is averaged over several answers, the four scores or the overall scores of each.
        settings: of the judge, under what is given.
    """

    asked: Mapping[str, Form]
    against_target: Mapping[str, Form] = field(default_factory=dict)
    file: str = ""
    words: Callable[[Mapping[str, str]], Mapping[str, str]] = dict
    names: tuple[str, ...] = ()
    labels: bool = False
    pick: Callable[[Attempt], Sequence[str]] | None = None
    conclude: Callable[[Attempt, Verdict], Verdict] | None = None
    several: Literal["parts", "overall"] = "parts"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def forms(self) -> dict[str, Form]:
        """All its questions by name."""
        return {**self.asked, **self.against_target}


EARL = QuestionSet(
    {"semantic": SEMANTIC, "perceptual": PERCEPTUAL}, {"reference": AGAINST_TARGET, "perceptual": PERCEPTUAL}
)
"""The package's own, and people's own templates."""

_RULES = ("_prompts_0shot_two_image_edit_rule", "_prompts_0shot_tie_rule_SC")
_QUALITY = "_prompts_0shot_rule_PQ"
_CONTEXT = "_context_no_delimit"


def _vie_words(literals: Mapping[str, str]) -> dict[str, str]:
    context = literals[_CONTEXT]
    return {
        "semantic": "\n".join([context, *(literals[name] for name in _RULES)]),
        "perceptual": f"{context}\n{literals[_QUALITY]}",
    }


_GROUND = {"max_tokens": 1300, "temperature": 0.3}
VIESCORE = QuestionSet(
    EARL.asked,
    {
        "reference": Form(AGAINST_TARGET.images, AGAINST_TARGET.parts, count=1, style="tag", request=_GROUND),
        "perceptual": PERCEPTUAL,
    },
    file="vie_prompts.py",
    words=_vie_words,
    names=(_CONTEXT, *_RULES, _QUALITY),
    settings={
        "temperature": "server",
        "max_tokens": 1400,
        "max_tokens_name": "max_tokens",
        "text_first": True,
        "jpeg": 75,
        "rounds": 5,
    },
)
"""As EARL's release asks (arXiv 2508.01119)."""

GROUND = QuestionSet(
    {},
    {"reference": Form(AGAINST_TARGET.images, SCORE_PARTS, count=1, style="tag", request=_GROUND)},
    settings=VIESCORE.settings,
)
"""The release's ground score by itself: one question about target and edited image, in words of the user's
own; its number stands for all four scores, so that overall is the number."""

_EDITSCORE_CONTEXT = "_context_no_delimit_reasoning_first"
_EDITSCORE_HIGH = 25


def _editscore_words(literals: Mapping[str, str]) -> dict[str, str]:
    """On the scale of 25 that the models have learnt; the file's own words say 10."""
    context, rule, scale = (literals[name] for name in (_EDITSCORE_CONTEXT, *_RULES))
    wide = [text.replace("10", str(_EDITSCORE_HIGH)) for text in (scale, literals[_QUALITY])]
    return {"semantic": "\n".join([context, rule, wide[0]]), "perceptual": f"{context}\n{wide[1]}"}


EDITSCORE = QuestionSet(
    {
        "semantic": Form(SEMANTIC.images, SEMANTIC.parts, high=_EDITSCORE_HIGH),
        "perceptual": Form(PERCEPTUAL.images, PERCEPTUAL.parts, high=_EDITSCORE_HIGH),
    },
    file="vie_prompts.py",
    words=_editscore_words,
    names=(_EDITSCORE_CONTEXT, *_RULES, _QUALITY),
    labels=True,
    several="overall",
    settings={
        "prompts": "editscore",
        "temperature": 0.7,
        "max_tokens": 512,
        "max_tokens_name": "max_tokens",
        "seed": 42,
        "rounds": 3,
        "extra": {"top_p": 0.9, "top_k": 20},
    },
)
"""EditScore's reward models, 7B to 72B (arXiv 2509.23909), as the package `editscore` 0.2 asks them."""

_FIRM = {"execution": "SCORE_EXECUTION", "consistency": "SCORE_CONSISTENCY"}


def _firm_words(literals: Mapping[str, str]) -> dict[str, str]:
    """The texts are meant for `str.format`: doubled braces are braces."""
    return {
        question: literals[name].replace("{prompt}", INSTRUCTION).replace("{{", "{").replace("}}", "}")
        for question, name in _FIRM.items()
    }


FIRM = QuestionSet(
    {
        "execution": Form(SEMANTIC.images, ("edit_success",), count=1, low=1, high=5),
        "consistency": Form(SEMANTIC.images, ("over_editing",), count=1, low=1, high=5),
    },
    file="prompt_template.py",
    words=_firm_words,
    names=tuple(_FIRM.values()),
    settings={"temperature": 0.0, "max_tokens": 256, "max_tokens_name": "max_tokens", "jpeg": 75},
)
"""FIRM-Edit-8B (arXiv 2603.12247), as its reward server asks: nothing about naturalness and artifacts."""

IMGEDIT = QuestionSet(
    {"edit": Form(SEMANTIC.images, SCORE_PARTS, count=3, low=1, high=5, worst=0, style="lines")},
    file="prompts.json",
    words=lambda texts: {name: text.replace("<edit_prompt>", INSTRUCTION) for name, text in texts.items()},
    settings={"temperature": "server", "max_tokens": 0, "text_first": True},
)
"""ImgEdit-Bench (arXiv 2505.20275): three scores of 1 to 5, in words of the edit's type; overall is their
mean, doubled."""
