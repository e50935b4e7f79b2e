"""The judge: a multimodal model that is asked two questions about an edit (VIEScore protocol).

Semantic consistency from source and edited image: edit success and over-editing. Perceptual quality from
the edited image alone: naturalness and artifacts. Answers may be averaged, over several of them and over
both orders of the images. A question without a usable answer makes the whole verdict a status, never a
number.
"""

from __future__ import annotations

import asyncio
import re
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
from earl.verifiers.answers import Reading, read_scores
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
GROUND_TOKENS, GROUND_TEMPERATURE = 1300, 0.3  # the release's reference question alone
_GROUND = re.compile(r"<score>\s*([+-]?\d{1,4})\s*</score>")
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
        images = {"edited": data_url(image, self.settings.jpeg)}
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
        images = self._images(attempt)
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
        content, more = self._question(question, swapped, instruction, images)
        ground = self._ground(question)
        for _ in range(self.settings.rounds):
            try:
                answers = await self.client.ask(content, name=name, count=self.settings.samples, more=more)
            except EndpointError as error:
                return _Result(question, "unreachable", str(error))
            except InvalidAnswerError as error:
                return _Result(question, "unusable", str(error), refused=error.refused)
            result = await asyncio.to_thread(_read, question, answers, self.settings.expected, ground)
            if result.status == "ok" or result.refused:
                break
        return result

    def requests(self, attempt: Attempt) -> dict[str, dict[str, Any]]:
        """What would be sent about an edit, by question: the fields of each request."""
        images = self._images(attempt)
        bodies: dict[str, dict[str, Any]] = {}
        asked: tuple[Question, ...] = (self.pair, "perceptual")
        for question in asked:
            content, more = self._question(question, False, attempt.instruction, images)
            bodies[question] = self.client.body(content, self.settings.samples, more)
        return bodies

    def _images(self, attempt: Attempt) -> dict[str, str]:
        shown = {"source": attempt.source, "edited": attempt.edited, "target": attempt.target}
        jpeg = self.settings.jpeg
        return {s: data_url(image, jpeg) for s in IMAGES[self.pair] if (image := shown[s]) is not None}

    def _ground(self, question: Question) -> bool:
        return question == "reference" and self.settings.protocol == "viescore"

    def _question(
        self, question: Question, swapped: bool, instruction: str, images: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A question's parts, and fields of its request that differ from the settings."""
        parts = self.prompts.parts(
            question, instruction, swapped=swapped, text_first=self.settings.text_first
        )
        content, more = content_of(parts, images), dict(self._more)
        if self._ground(question):
            more |= {self.settings.max_tokens_name: GROUND_TOKENS, "temperature": GROUND_TEMPERATURE}
            if self.prompts.system:
                system = {"role": "system", "content": self.prompts.system}
                more["messages"] = [system, {"role": "user", "content": content}]
        return content, more

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
    "unusable"); naturalness and artifacts from the edited image alone, as the judge does. Under the
    protocol viescore the question has one score, so that overall is the release's sqrt(PQ x ground).
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


def _read_ground(answer: Answer) -> Reading:
    """One whole number between score tags; it stands for both scores of its pair."""
    found = set(_GROUND.findall(answer.text))
    if len(found) != 1 or not 0 <= (score := int(found.pop())) <= 10:
        return Reading(None, "expected one whole number from 0 to 10 between <score> and </score>")
    return Reading((float(score), float(score)))


def _read(question: Question, answers: Sequence[Answer], expected: bool, ground: bool = False) -> _Result:
    """The mean of the usable answers, of which more than half must be."""
    usable: list[Scores] = []
    problem = ""
    for answer in answers:
        reading = _read_ground(answer) if ground else read_scores(answer.text, cut_off=answer.cut_off)
        scores, why = reading.scores, answer.problem or reading.problem
        if scores is not None and expected and not ground and not why:
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
