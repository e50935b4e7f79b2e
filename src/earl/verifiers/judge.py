"""The judge: a multimodal model that is asked two questions about an edit (VIEScore protocol).

Semantic consistency from source and edited image: edit success and over-editing. Perceptual
quality from the edited image alone: naturalness and artifacts. Answers may be averaged, over
several of them and over both orders of the pictures. A question without a usable answer makes the
whole verdict a status, never a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from PIL.Image import Image

from earl.endpoints.client import Answer, ChatClient, JudgeSettings, Trouble, content_of, data_url
from earl.records import Attempt, Verdict
from earl.verifiers.answers import read_scores
from earl.verifiers.expected import expected_scores
from earl.verifiers.protocol import without_image
from earl.verifiers.questions import IMAGES, Prompts, Question, load_prompts

Scores = tuple[float, ...]


class JudgeVerifier:
    """Asks a model behind an OpenAI-compatible endpoint. Works from any event loop.

    Raises (on making one):
        ConfigError: settings or templates that do not fit.
        VerifierError: the environment variable of the key is empty.
        MissingExtraError: the openai package is not installed.
    """

    pair: Question = "semantic"  # the question that shows two images

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        self.prompts: Prompts = load_prompts(settings.prompts, questions=(self.pair, "perceptual"))
        self.prompts.check(self.pair, swapped=settings.swap)
        self.prompts.check("perceptual")
        self.client = ChatClient(settings)

    async def check(self) -> str:
        """The name of the model that will judge. Raises VerifierError where none will."""
        return await self.client.check()

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts; all are asked at once, within the concurrency."""
        return list(await asyncio.gather(*(self._judge_one(attempt) for attempt in attempts)))

    async def look(self, image: Image) -> Verdict:
        """The perceptual question alone: of the verdict only naturalness and artifacts are scored."""
        pictures = {"edited": data_url(image)}
        name = sha256(pictures["edited"].encode()).hexdigest()[:32]
        result = await self._ask("perceptual", False, "", pictures, f"{name}-alone")
        notes: dict[str, float | str] = {"model": self.client.model, "prompts_hash": self.prompts.hash}
        raw = "\n".join(result.texts)
        if result.failed is not None:
            return Verdict(result.failed.status, why=result.failed.why, raw=raw, notes=notes)
        naturalness, artifacts = result.scores
        return Verdict("ok", naturalness=naturalness, artifacts=artifacts, raw=raw, notes=notes)

    async def _judge_one(self, attempt: Attempt) -> Verdict:
        failed = without_image(attempt)
        if failed is not None:
            return failed
        shown = {"source": attempt.source, "edited": attempt.edited, "target": attempt.target}
        pictures = {
            str(slot): data_url(image) for slot in IMAGES[self.pair] if (image := shown[slot]) is not None
        }
        if len(pictures) < len(IMAGES[self.pair]):
            return Verdict("unusable", why="the attempt has no target image to compare with")
        edit = sha256("\0".join([attempt.instruction, *pictures.values()]).encode()).hexdigest()[:32]
        questions: list[tuple[Question, bool]] = [(self.pair, False)]
        if self.settings.swap:
            questions.append((self.pair, True))
        questions.append(("perceptual", False))
        asked = [
            self._ask(question, swapped, attempt.instruction, pictures, _name(edit, question, swapped))
            for question, swapped in questions
        ]
        results = await asyncio.gather(*asked)
        return self._verdict([question for question, _ in questions], results)

    async def _ask(
        self, question: Question, swapped: bool, instruction: str, pictures: dict[str, str], name: str
    ) -> _Result:
        content = content_of(self.prompts.parts(question, instruction, swapped=swapped), pictures)
        try:
            answers = await self.client.ask(content, name=name)
        except Trouble as trouble:
            return _Result(failed=trouble)
        return _read(answers, expected=self.settings.expected)

    def _verdict(self, questions: Sequence[Question], results: Sequence[_Result]) -> Verdict:
        raw = "\n".join(
            f"{question}: {text}"
            for question, result in zip(questions, results, strict=True)
            for text in result.texts
        )
        notes: dict[str, float | str] = {
            "model": self.client.model,
            "prompts": self.prompts.version,
            "prompts_hash": self.prompts.hash,
            "answers": float(sum(result.used for result in results)),
        }
        problems = [
            (f"{question}: {result.failed.why}", result.failed.status)
            for question, result in zip(questions, results, strict=True)
            if result.failed is not None
        ]
        if problems:
            # Of two troubles the endpoint's is told first: it is the one that asking again may cure.
            why, status = min(problems, key=lambda problem: problem[1] != "unreachable")
            refused = any(result.failed is not None and result.failed.refused for result in results)
            return Verdict(status, why=why, refused=refused, raw=raw, notes=notes)
        pair = _mean([result.scores for result in results[:-1]])
        alone = results[-1].scores
        return Verdict("ok", pair[0], pair[1], alone[0], alone[1], raw=raw, notes=notes)


class _Result:
    """What one question gave: scores, or the trouble that left none."""

    def __init__(
        self, scores: Scores = (), *, texts: Sequence[str] = (), used: int = 0, failed: Trouble | None = None
    ) -> None:
        assert bool(scores) != bool(failed)
        self.scores = scores
        self.texts = tuple(texts)
        self.used = used
        self.failed = failed


def _name(edit: str, question: Question, swapped: bool) -> str:
    """What a question is called: an edit's questions share what stands before the first hyphen."""
    return f"{edit}-{question}{'-swapped' if swapped else ''}"


def _read(answers: Sequence[Answer], *, expected: bool) -> _Result:
    """The mean of the usable answers, of which more than half must be."""
    usable: list[Scores] = []
    problem = ""
    for answer in answers:
        reading = read_scores(answer.text)
        scores, why = reading.scores, reading.problem
        if scores is not None and expected:
            scores, why = expected_scores(answer.text, reading.spans, answer.tokens)
        if scores is None:
            problem = problem or why
        else:
            usable.append(scores)
    texts = [answer.text for answer in answers]
    if 2 * len(usable) <= len(answers):
        return _Result(texts=texts, failed=Trouble("unusable", problem))
    return _Result(_mean(usable), texts=texts, used=len(usable))


def _mean(scores: Sequence[Scores]) -> Scores:
    return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True))
