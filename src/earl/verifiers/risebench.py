"""RISEBench's own protocol (arXiv 2504.02826), as the publisher's `gpt_eval.py` asks and counts.

Up to three questions about an edit, worded for its category: is it what the reference says, in words or as an
image; is the rest kept; is it plausible. 1 to 5 each; logical edits get 0 or 1 for the first two.

One thing is read otherwise. The publisher's code asks about every logical edit with a reference image in the
words for `reasoning_wo_ins` as soon as the table has such a column; here only about rows that have it set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from earl.errors import ConfigError
from earl.records import Attempt, ScorePart, Verdict
from earl.verifiers.question_sets import INSTRUCTION, Form, QuestionSet

_DONE: tuple[ScorePart, ...] = ("edit_success",)
_KEPT: tuple[ScorePart, ...] = ("over_editing",)
_REAL: tuple[ScorePart, ...] = ("naturalness", "artifacts")
_KEPT_TARGET = "prompt_spatial_cons against the reference"


def _form(parts: tuple[ScorePart, ...], *images: str, low: int = 1, high: int = 5) -> Form:
    return Form((*images, "edited"), parts, count=1, low=low, high=high, style="final")


def _logical(parts: tuple[ScorePart, ...], *images: str) -> Form:
    return _form(parts, *images, low=0, high=1)


_FORMS: Mapping[str, Form] = {
    "prompt_consist": _form(_KEPT, "source"),
    "prompt_reasoning": _form(_DONE),
    "prompt_reasoning_w_input": _form(_DONE, "source"),
    "prompt_generation": _form(_REAL),
    "prompt_spatial_cons": _form(_KEPT, "source"),
    _KEPT_TARGET: _form(_KEPT, "target"),
    "prompt_spatial_ref": _form(_DONE),
    "prompt_spatial_ref_w_input": _form(_DONE, "source"),
    "prompt_spatial_ref_img": _form(_DONE, "target"),
    "prompt_spatial_qual": _form(_REAL),
    "prompt_logical_cons_ans": _logical(_KEPT, "source"),
    "prompt_logical_txt": _logical(_DONE),
    "prompt_logical_cons": _logical(_KEPT, "target"),
    "prompt_logical_img": _logical(_DONE, "target"),
    "prompt_logical_img_wo_q": _logical(_DONE, "target"),
}


def _words(literals: Mapping[str, str]) -> dict[str, str]:
    """The texts are meant for `str.format`."""
    words = {}
    for name in _NAMES:
        reference = "<reference_txt>" if name.startswith("prompt_logical") else "<reference>"
        words[name] = literals[name].replace("{instruct}", INSTRUCTION).replace("{reference}", reference)
    return words | {_KEPT_TARGET: words["prompt_spatial_cons"]}


_NAMES = tuple(name for name in _FORMS if name != _KEPT_TARGET)


def _asked(attempt: Attempt) -> list[str]:
    """The names of an edit's questions. Raises ConfigError: it is no edit of RISEBench."""
    row, drawn = attempt.details, attempt.target is not None
    category = attempt.family.removesuffix("_reasoning")
    if category in ("temporal", "causal"):
        asked = ["prompt_consist", "prompt_reasoning", "prompt_generation"]
        asked[1] += "_w_input" if row.get("reasoning_img") else ""
    elif category == "spatial":
        asked = ["prompt_spatial_cons", "prompt_spatial_ref", "prompt_spatial_qual"]
        if drawn:
            asked[:2] = [_KEPT_TARGET, "prompt_spatial_ref_img"]
        else:
            asked[1] += "_w_input" if row.get("reasoning_img") else ""
    elif category == "logical" and row.get("reference_txt"):
        asked = ["prompt_logical_cons_ans", "prompt_logical_txt"]
    elif category == "logical" and drawn:
        asked = ["prompt_logical_cons", "prompt_logical_img"]
        asked[1] += "_wo_q" if row.get("reasoning_wo_ins") else ""
    else:
        raise ConfigError(
            f"the questions risebench are about rows of RISEBench with their references, this edit is of "
            f"{attempt.family!r}; evaluate the benchmark risebench with them"
        )
    return asked[1:] if row.get("consistency_free") else asked


def _conclude(attempt: Attempt, verdict: Verdict) -> Verdict:
    """Overall is the publisher's score, exact whether the edit is solved: the best answer to all questions,
    consistency among them."""
    assert verdict.edit_success is not None and verdict.over_editing is not None
    assert verdict.naturalness is not None
    done, kept, real = (
        1 + part / 2.5 for part in (verdict.edit_success, verdict.over_editing, verdict.naturalness)
    )
    free = bool(attempt.details.get("consistency_free"))
    if attempt.family.startswith("logical"):
        score = 0.3 * kept + 0.7 * done
    else:
        score = 0.8 * done + 0.2 * real if free else 0.5 * done + 0.3 * kept + 0.2 * real
    if done == 1:
        score = max(1.0, score / 2)
    solved = not free and done == kept == real == 5
    return replace(verdict, mean_overall=(score - 1) * 2.5, exact=solved)


RISEBENCH = QuestionSet(
    _FORMS,
    file="utils.py",
    words=_words,
    names=_NAMES,
    pick=_asked,
    conclude=_conclude,
    settings={
        "temperature": 0.0,
        "max_tokens": 4096,
        "max_tokens_name": "max_tokens",
        "text_first": True,
        "jpeg": 75,
    },
)
