"""The judge: a multimodal model that is asked the questions of a set about an edit.

The package's own set is VIEScore's protocol. Semantic consistency from source and edited image: edit success
and over-editing. Perceptual quality from the edited image alone: naturalness and artifacts. Answers may be
averaged, over several of them and over both orders of the images. A question without a usable answer makes
the whole verdict a status, never a number.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from PIL.Image import Image

from earl.config.endpoint import JudgeSettings
from earl.endpoints.client import Answer, ChatClient
from earl.endpoints.message import content_of, data_url
from earl.endpoints.reading import LONGEST
from earl.errors import ConfigError, EndpointError, InvalidAnswerError, VerifierError
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.registry import QUESTIONS
from earl.verifiers.expected import expected_scores
from earl.verifiers.protocol import without_image
from earl.verifiers.question_sets import Form, QuestionSet
from earl.verifiers.questions import Prompts, load_prompts

Scores = tuple[float, ...]
NOT_ASKED = 10.0  # a part that no question of the set is about
LOGPROBS = {"logprobs": True, "top_logprobs": 20}


class JudgeVerifier:
    """Asks a model behind an OpenAI-compatible endpoint. Works from any event loop.

    Raises (on making one):
        ConfigError: settings or templates that do not fit, or the key's environment variable is empty.
        MissingExtraError: the httpx2 package is not installed.
    """

    pair = "semantic"  # which question about two images it answers when it is served
    own: QuestionSet | None = None  # questions that take the place of a protocol's

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        if self.own is not None and settings.protocol != "earl":
            raise ConfigError(f"protocol = {settings.protocol!r} is for judges that score edits one by one")
        questions: QuestionSet = self.own or QUESTIONS.load(settings.protocol)
        self.forms = self._asked(questions)
        if not self.forms:
            kind = "the target image" if questions.asked else "source and edited image: name kind reference"
            raise ConfigError(f"the questions {settings.protocol!r} have none about {kind}")
        if settings.expected and any(
            form.style in ("tag", "lines", "final") or form.high > 10 for form in self.forms.values()
        ):
            raise ConfigError(
                f"expected = true reads scores of at most 10 from JSON; the questions {settings.protocol!r} "
                "ask for others"
            )
        self.prompts: Prompts = load_prompts(settings.prompts, needed=list(self.forms), questions=questions)
        for question in self.forms.keys() & self.prompts.templates.keys():
            self.prompts.check(question, swapped=settings.swap)
        self.client = ChatClient(settings)

    def _asked(self, questions: QuestionSet) -> Mapping[str, Form]:
        return questions.asked

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
        if "perceptual" not in self.forms:
            why = f"the questions {self.settings.protocol} are about source and edited image"
            return Verdict("unusable", why=why, refused=True)
        images = {"edited": data_url(image, self.settings.jpeg)}
        name = sha256(images["edited"].encode()).hexdigest()[:32]
        result = await self._ask(Question("perceptual"), Attempt(image, "", image), images, f"{name}-alone")
        if result.status != "ok":
            return self._failed([result])
        naturalness, artifacts = _mean(result.answers)
        return Verdict(
            "ok", naturalness=naturalness, artifacts=artifacts, raw=result.text, notes=self._notes([result])
        )

    async def _judge_one(self, attempt: Attempt) -> Verdict:
        failed = without_image(attempt)
        if failed is not None:
            return failed
        try:
            forms = self._forms(attempt)
        except ConfigError as error:
            return Verdict("unusable", why=str(error), refused=True)
        images = self._images(attempt)
        if not {slot for form in forms.values() for slot in form.images} <= images.keys():
            return Verdict("unusable", why="the attempt has no target image to compare with")
        # The questions about one edit share what stands before the first hyphen of their names.
        edit = sha256("\0".join([attempt.instruction, *images.values()]).encode()).hexdigest()[:32]
        questions = [
            Question(name, swapped)
            for name, form in forms.items()
            for swapped in ((False, True) if self.settings.swap and len(form.images) == 2 else (False,))
        ]
        results = await asyncio.gather(
            *(self._ask(question, attempt, images, f"{edit}-{question}") for question in questions)
        )
        if any(result.status != "ok" for result in results):
            return self._failed(results)
        verdict = self._verdict(
            attempt, [(result.question.name, _mean(result.answers)) for result in results]
        )
        overall = verdict.mean_overall
        if self.prompts.questions.several == "overall" and self.settings.samples > 1:
            answers = zip(*(result.answers for result in results), strict=False)
            names = [result.question.name for result in results]
            each = [
                self._verdict(attempt, list(zip(names, one, strict=True))).overall or 0.0 for one in answers
            ]
            overall = sum(each) / len(each)
        raw = "\n".join(result.text for result in results)
        return replace(verdict, mean_overall=overall, raw=raw, notes=self._notes(results))

    def _forms(self, attempt: Attempt) -> Mapping[str, Form]:
        """The questions that are asked about an edit. Raises ConfigError: there are none about it."""
        pick = self.prompts.questions.pick
        return self.forms if pick is None else {name: self.forms[name] for name in pick(attempt)}

    def _verdict(self, attempt: Attempt, scores: Sequence[tuple[str, Scores]]) -> Verdict:
        """The parts from the scores of each question; of one asked twice the mean."""
        parts: dict[str, list[float]] = defaultdict(list)
        for question, values in scores:
            for part, value in zip(self.forms[question].parts, values, strict=True):
                parts[part].append(value)
        success, kept, natural, unharmed = (
            sum(found) / len(found) if (found := parts[name]) else NOT_ASKED for name in SCORE_PARTS
        )
        verdict, conclude = Verdict("ok", success, kept, natural, unharmed), self.prompts.questions.conclude
        return verdict if conclude is None else conclude(attempt, verdict)

    async def _ask(
        self, question: Question, attempt: Attempt, images: Mapping[str, str], name: str
    ) -> Result:
        try:
            content, more = self._request(question, attempt, images)
        except ConfigError as error:
            return Result(question, "unusable", str(error), refused=True)
        form, expected = self.forms[question.name], self.settings.expected
        for _ in range(self.settings.rounds):
            try:
                answers = await self.client.ask(content, name=name, count=self.settings.samples, more=more)
            except EndpointError as error:
                return Result(question, "unreachable", str(error))
            except InvalidAnswerError as error:
                return Result(question, "unusable", str(error), refused=error.refused)
            result = await asyncio.to_thread(_read, question, form, answers, expected)
            if result.status == "ok" or result.refused:
                break
        return result

    def requests(self, attempt: Attempt) -> dict[str, dict[str, Any]]:
        """The fields of each request about an edit, by question; nothing is sent."""
        images = self._images(attempt)
        bodies: dict[str, dict[str, Any]] = {}
        for question in self._forms(attempt):
            content, more = self._request(Question(question), attempt, images)
            bodies[question] = self.client.body(content, self.settings.samples, more)
        return bodies

    def _images(self, attempt: Attempt) -> dict[str, str]:
        shown = {"source": attempt.source, "edited": attempt.edited, "target": attempt.target}
        slots = {slot for form in self.forms.values() for slot in form.images}
        jpeg = self.settings.jpeg
        return {s: data_url(image, jpeg) for s in sorted(slots) if (image := shown[s]) is not None}

    def _request(
        self, question: Question, attempt: Attempt, images: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A question's parts, and fields of its request that differ from the settings."""
        settings, form = self.settings, self.forms[question.name]
        parts = self.prompts.parts(
            question.name,
            attempt.instruction,
            family=attempt.family,
            details=attempt.details,
            swapped=question.swapped,
            text_first=settings.text_first,
        )
        content, more = content_of(parts, images), dict[str, Any](LOGPROBS if settings.expected else {})
        if settings.structured and form.style == "json":
            schema = {"name": "scores", "strict": True, "schema": form.schema}
            more["response_format"] = {"type": "json_schema", "json_schema": schema}
        more |= {settings.max_tokens_name if k == "max_tokens" else k: v for k, v in form.request.items()}
        if form.request and self.prompts.system:
            system = {"role": "system", "content": self.prompts.system}
            more["messages"] = [system, {"role": "user", "content": content}]
        return content, more

    def _failed(self, results: Sequence[Result]) -> Verdict:
        """The failure to report of several: the endpoint's first, because asking again may help."""
        failed = [result for result in results if result.status != "ok"]
        first = min(failed, key=lambda result: result.status != "unreachable")
        return Verdict(
            "unreachable" if first.status == "unreachable" else "unusable",
            why=f"{first.question.name}: {first.why}",
            refused=any(result.refused for result in failed),
            raw="\n".join(result.text for result in results if result.text),
            notes=self._notes(results),
        )

    def _notes(self, results: Sequence[Result]) -> dict[str, float | str]:
        return {
            "model": self.client.model,
            "prompts": self.prompts.version,
            "prompts_hash": self.prompts.hash,
            "answers": float(sum(len(result.answers) for result in results)),
        }


class ReferenceVerifier(JudgeVerifier):
    """The judge with the target image to compare with, as the release's "ground score" does.

    Edit success and over-editing are read against the target (the verdict of an attempt without one is
    "unusable"); naturalness and artifacts from the edited image alone, as the judge does. Under the
    protocol viescore the question has one score, so that overall is the release's sqrt(PQ x ground).
    """

    pair = "reference"

    def _asked(self, questions: QuestionSet) -> Mapping[str, Form]:
        return questions.against_target


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the set, perhaps with its images in the other order."""

    name: str
    swapped: bool = False

    def __str__(self) -> str:
        return f"{self.name}-swapped" if self.swapped else self.name


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one question: the scores of each usable answer, 0-10, or why there are none."""

    question: Question
    status: str
    why: str = ""
    answers: tuple[Scores, ...] = ()
    text: str = ""
    refused: bool = False

    def averaged(self) -> Result:
        """The same with the mean of its answers in their place."""
        return replace(self, answers=(_mean(self.answers),)) if self.answers else self


def _read(question: Question, form: Form, answers: Sequence[Answer], expected: bool) -> Result:
    """The usable answers, of which there must be more than half."""
    usable: list[Scores] = []
    problem = ""
    for answer in answers:
        reading = form.read(answer.text, cut_off=answer.cut_off)
        scores, why = reading.scores, answer.problem or reading.problem
        if scores is not None and expected and not why:
            scores, why = expected_scores(
                answer.text, reading.spans, answer.tokens, low=form.low, high=form.high
            )
        if scores is None or why:
            problem = problem or why
        else:
            usable.append(form.stretched(scores))
    text = "\n".join(f"{question.name}: {answer.text[:LONGEST]}" for answer in answers)
    if 2 * len(usable) <= len(answers):
        refused = all(answer.problem.startswith("the model refused") for answer in answers)
        return Result(question, "unusable", problem, text=text, refused=refused)
    return Result(question, "ok", answers=tuple(usable), text=text)


def _mean(scores: Sequence[Scores]) -> Scores:
    return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True))
