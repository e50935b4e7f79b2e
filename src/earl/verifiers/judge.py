"""The judge: a multimodal model that is asked two questions about an edit (VIEScore protocol).

Semantic consistency from source and edited image: edit success and over-editing. Perceptual quality from
the edited image alone: naturalness and artifacts. Answers may be averaged, over several of them and over
both orders of the images. A question without a usable answer makes the whole verdict a status, never a
number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from PIL.Image import Image

from earl.config.endpoint import JudgeSettings
from earl.endpoints.client import Answer, ChatClient
from earl.endpoints.message import content_of, data_url
from earl.endpoints.reading import LONGEST
from earl.errors import EndpointError, InvalidAnswerError, VerifierError
from earl.records import Attempt, Verdict
from earl.verifiers.answers import read_scores
from earl.verifiers.expected import expected_scores
from earl.verifiers.protocol import without_image
from earl.verifiers.questions import IMAGES, Prompts, Question, load_prompts

Scores = tuple[float, ...]

_SCORE = {"type": "integer", "minimum": 0, "maximum": 10}
_SCHEMA = {
    "type": "object",
    "properties": {
        "score": {"type": "array", "items": _SCORE, "minItems": 2, "maxItems": 2},
        "reasoning": {"type": "string"},
    },
    "required": ["score", "reasoning"],
    "additionalProperties": False,
}
_STRUCTURED = {"type": "json_schema", "json_schema": {"name": "scores", "strict": True, "schema": _SCHEMA}}
_LOGPROBS = {"logprobs": True, "top_logprobs": 20}


class JudgeVerifier:
    """Asks a model behind an OpenAI-compatible endpoint. Works from any event loop.

    Raises (on making one):
        ConfigError: settings or templates that do not fit, or the key's environment variable is empty.
        MissingExtraError: the httpx2 package is not installed.
    """

    pair: Question = "semantic"  # the question that shows two images

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        self.prompts: Prompts = load_prompts(settings.prompts, questions=(self.pair, "perceptual"))
        self.prompts.check(self.pair, swapped=settings.swap)
        self.prompts.check("perceptual")
        self.client = ChatClient(settings)
        self._more: dict[str, Any] = {"response_format": _STRUCTURED} if settings.structured else {}
        self._more |= _LOGPROBS if settings.expected else {}

    async def check(self) -> str:
        """The name of the model that will judge. Raises VerifierError where none will."""
        try:
            return await self.client.check()
        except EndpointError as error:
            raise VerifierError(str(error)) from error

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts; all are asked at once, within the concurrency."""
        return list(await asyncio.gather(*(self._judge_one(attempt) for attempt in attempts)))

    async def look(self, image: Image) -> Verdict:
        """The perceptual question alone: of the verdict only naturalness and artifacts are scored."""
        images = {"edited": data_url(image)}
        name = sha256(images["edited"].encode()).hexdigest()[:32]
        result = await self._ask("perceptual", False, "", images, f"{name}-alone")
        if result.status != "ok":
            return self._failed([result])
        naturalness, artifacts = result.scores
        return Verdict(
            "ok", naturalness=naturalness, artifacts=artifacts, raw=result.text, notes=self._notes([result])
        )

    async def _judge_one(self, attempt: Attempt) -> Verdict:
        failed = without_image(attempt)
        if failed is not None:
            return failed
        shown = {"source": attempt.source, "edited": attempt.edited, "target": attempt.target}
        images = {slot: data_url(image) for slot in IMAGES[self.pair] if (image := shown[slot]) is not None}
        if len(images) < len(IMAGES[self.pair]):
            return Verdict("unusable", why="the attempt has no target image to compare with")
        # The questions about one edit share what stands before the first hyphen of their names.
        edit = sha256("\0".join([attempt.instruction, *images.values()]).encode()).hexdigest()[:32]
        questions: list[tuple[Question, bool]] = [(self.pair, False), ("perceptual", False)]
        if self.settings.swap:
            questions.insert(1, (self.pair, True))
        results = await asyncio.gather(
            *(
                self._ask(
                    question, swapped, attempt.instruction, images, f"{edit}-{question}{'-swapped' * swapped}"
                )
                for question, swapped in questions
            )
        )
        if any(result.status != "ok" for result in results):
            return self._failed(results)
        pair, alone = _mean([result.scores for result in results[:-1]]), results[-1].scores
        raw = "\n".join(result.text for result in results)
        return Verdict("ok", pair[0], pair[1], alone[0], alone[1], raw=raw, notes=self._notes(results))

    async def _ask(
        self, question: Question, swapped: bool, instruction: str, images: Mapping[str, str], name: str
    ) -> _Result:
        content = content_of(self.prompts.parts(question, instruction, swapped=swapped), images)
        try:
            answers = await self.client.ask(content, name=name, count=self.settings.samples, more=self._more)
        except EndpointError as error:
            return _Result(question, "unreachable", str(error))
        except InvalidAnswerError as error:
            return _Result(question, "unusable", str(error), refused=error.refused)
        return await asyncio.to_thread(_read, question, answers, self.settings.expected)

    def _failed(self, results: Sequence[_Result]) -> Verdict:
        """Of several failures the endpoint's is told first: asking again may cure it."""
        failed = [result for result in results if result.status != "ok"]
        first = min(failed, key=lambda result: result.status != "unreachable")
        return Verdict(
            "unreachable" if first.status == "unreachable" else "unusable",
            why=f"{first.question}: {first.why}",
            refused=any(result.refused for result in failed),
            raw="\n".join(result.text for result in results if result.text),
            notes=self._notes(results),
        )

    def _notes(self, results: Sequence[_Result]) -> dict[str, float | str]:
        return {
            "model": self.client.model,
            "prompts": self.prompts.version,
            "prompts_hash": self.prompts.hash,
            "answers": float(sum(result.used for result in results)),
        }


class ReferenceVerifier(JudgeVerifier):
    """The judge with the target image to compare with, as the release's "ground score" does.

    Edit success and over-editing are read against the target (the verdict of an attempt without one is
    "unusable"); naturalness and artifacts from the edited image alone, as the judge does.
    """

    pair: Question = "reference"


@dataclass(frozen=True, slots=True)
class _Result:
    """What one question gave: scores, or why there are none."""

    question: Question
    status: str
    why: str = ""
    scores: Scores = ()
    text: str = ""
    used: int = 0
    refused: bool = False


def _read(question: Question, answers: Sequence[Answer], expected: bool) -> _Result:
    """The mean of the usable answers, of which more than half must be."""
    usable: list[Scores] = []
    problem = ""
    for answer in answers:
        reading = read_scores(answer.text, cut_off=answer.cut_off)
        scores, why = reading.scores, answer.problem or reading.problem
        if scores is not None and expected and not why:
            scores, why = expected_scores(answer.text, reading.spans, answer.tokens)
        if scores is None or why:
            problem = problem or why
        else:
            usable.append(scores)
    text = "\n".join(f"{question}: {answer.text[:LONGEST]}" for answer in answers)
    if 2 * len(usable) <= len(answers):
        refused = all(answer.problem.startswith("the model refused") for answer in answers)
        return _Result(question, "unusable", problem, text=text, refused=refused)
    return _Result(question, "ok", scores=_mean(usable), text=text, used=len(usable))


def _mean(scores: Sequence[Scores]) -> Scores:
    return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True))
