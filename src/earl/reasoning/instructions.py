"""Instructions written by a model from pairs of captions, for sources without any (VisMin).

Raw answers are kept in a file beside the shards, by the pair and the wording of the question. The
same pairs are never asked about twice, whichever split or run needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from earl.data.sources.opening import CaptionPair
from earl.errors import DataError, InvalidAnswerError
from earl.reasoning.asking import Asker, Question, Tally, read_object
from earl.reasoning.questions import Template
from earl.store import RecordFile

MAX_CHARACTERS = 300
_LEAST_WORDS = 2


@dataclass(frozen=True)
class Instructions:
    """Instructions by sample id, and why there is none for others. `origin` says who wrote them."""

    origin: str
    texts: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


async def instructions_from_captions(
    pairs: Iterable[CaptionPair],
    path: str | Path,
    asker: Asker,
    template: Template,
    *,
    on_progress: Callable[[Tally], None] | None = None,
) -> Instructions:
    """Ask for an instruction for every pair that has none.

    Args:
        pairs: drawn as they are needed.
        path: file of the raw answers, read first and added to.

    Raises:
        EndpointError: the endpoint is not ready.
        DataError: questions were left without an answer; those that have one are kept.
    """
    model = await asker.check()
    made = Instructions(f"{model}, prompts {template.version} ({template.hash})")
    wanted: list[CaptionPair] = []

    def questions() -> Iterator[Question[str]]:
        for pair in pairs:
            if pair.instruction:
                continue
            if not (pair.source_caption and pair.target_caption):
                made.problems[pair.id] = "no instruction, and not two captions to make one from"
                continue
            wanted.append(pair)
            yield _question(len(wanted) - 1, pair, template, model)

    show = (lambda: on_progress(asker.tally)) if on_progress else None
    outcomes = await asker.settle(questions(), RecordFile(path), on_done=show)
    if asker.stopped or asker.tally.unanswered:
        raise DataError(
            f"{asker.tally.unanswered} captions got no answer ({asker.tally.last_error}); "
            f"{asker.tally.accepted} instructions are kept in {path}: run the same command again to go on"
        )
    for place, outcome in outcomes.items():
        name = wanted[place].id
        if outcome.value is None:
            made.problems[name] = f"no instruction could be made from its captions: {outcome.problem}"
        else:
            made.texts[name] = outcome.value
    return made


def read_instruction(answer: str) -> str:
    """The instruction in a model's answer. Raises InvalidAnswerError."""
    value = read_object(answer, ("instruction",))["instruction"]
    if not isinstance(value, str):
        raise InvalidAnswerError('"instruction" is no text')
    text = " ".join(value.split())
    if len(text.split()) < _LEAST_WORDS:
        raise InvalidAnswerError(f"the instruction is {text!r}; expected a sentence")
    if len(text) > MAX_CHARACTERS:
        raise InvalidAnswerError(
            f"the instruction has {len(text)} characters, at most {MAX_CHARACTERS} are taken"
        )
    return text


def _question(place: int, pair: CaptionPair, template: Template, model: str) -> Question[str]:
    parts = template.parts({"before": pair.source_caption, "after": pair.target_caption})
    words = "\n".join(part for part in parts if isinstance(part, str))
    key = sha256(f"{model}\0{pair.id}\0{words}".encode()).hexdigest()[:32]
    content = [{"type": "text", "text": words}]
    return Question(key, place, pair.id, lambda: content, read_instruction)
