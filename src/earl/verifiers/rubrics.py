"""Rubrics: yes-or-no checks that a model writes once for each instruction, and answers for each edit.

An instruction is broken into what can be checked by itself (Edit-R1, arXiv 2604.27505; Auto-Rubric as Reward,
arXiv 2605.08354). The score of an edit is the mean probability of yes over its checks. The checks are kept in
a file, so that a prompt that comes again, and the next run, ask for none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from earl.config.endpoint import JudgeSettings
from earl.endpoints.client import Answer, Token
from earl.endpoints.reading import objects, without_thinking
from earl.errors import EndpointError, InvalidAnswerError
from earl.records import Attempt, Verdict
from earl.store import RecordFile
from earl.verifiers.expected import LEAST_MASS
from earl.verifiers.judge import JudgeVerifier, Question
from earl.verifiers.protocol import without_image
from earl.verifiers.question_sets import Form, QuestionSet
from earl.verifiers.refusals import declines

FEWEST, MOST, LONGEST = 3, 6, 300  # checks of an edit, characters of one
_WORDS = {"yes": 1.0, "no": 0.0}


def read_rubric(answer: str) -> tuple[str, ...]:
    """The checks of a model's answer. Raises InvalidAnswerError: not 3 to 6 questions under "checks"."""
    found = [node for node in objects(without_thinking(answer)) if "checks" in node.keys and node.whole]
    checks = found[-1].value()["checks"] if found else None
    if not isinstance(checks, list) or not all(isinstance(check, str) for check in checks):
        raise InvalidAnswerError('there is no JSON object with "checks", a list of questions')
    checks = list(dict.fromkeys(" ".join(check.split()) for check in checks if check.strip()))
    if not FEWEST <= len(checks) <= MOST:
        raise InvalidAnswerError(f"{len(checks)} different checks; expected {FEWEST} to {MOST}")
    if any(len(check) > LONGEST for check in checks):
        raise InvalidAnswerError(f"a check of more than {LONGEST} characters")
    return tuple(checks)


def yes_probability(tokens: Sequence[Token]) -> float | None:
    """p(yes) / (p(yes) + p(no)) at the first token that says something; None where these have less than half
    of the probability there."""
    first = next((token for token in tokens if token.text.strip()), None)
    mass = {"yes": 0.0, "no": 0.0}
    for text, logprob in first.likeliest if first else ():
        word = text.strip().lower()
        if word in mass:
            mass[word] += math.exp(min(0.0, logprob))
    total = sum(mass.values())
    return mass["yes"] / total if total >= LEAST_MASS else None


def read_check(answer: Answer, expected: bool) -> tuple[float | None, str]:
    """(probability of yes, "") or (None, what is wrong). Without `expected` a word is 1 or 0."""
    if answer.problem:
        return None, answer.problem
    said = without_thinking(answer.text)
    if declines(said):
        return None, "the answer declines to judge"
    if expected:
        found = yes_probability(answer.tokens)
        return found, "" if found is not None else "no log-probabilities of yes and no"
    word = said.strip().strip(".!*\"'").lower()
    return _WORDS.get(word), "" if word in _WORDS else f"{word[:40]!r} is neither yes nor no"


class RubricVerifier(JudgeVerifier):
    """All four scores of an edit are 10 x the mean probability of yes over its checks."""

    own = QuestionSet(
        {
            "rubric": Form(("source",), ("edit_success",), style="words"),
            "check": Form(("source", "edited"), ("edit_success",), style="words"),
        }
    )

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__(settings)
        self._stored: RecordFile[dict[str, Any]] | None = None
        self._known: dict[str, tuple[str, ...]] = {}
        if settings.rubrics:
            self._stored = RecordFile(settings.rubrics, durable=False)
            self._known = {key: tuple(record["checks"]) for key, record in self._stored.items()}

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts; checks that are not known yet are written first."""
        keys = [self._key(attempt) for attempt in attempts]
        new = {key: attempt for key, attempt in zip(keys, attempts, strict=True) if key not in self._known}
        problems = dict(
            zip(new, await asyncio.gather(*(self._write(k, a) for k, a in new.items())), strict=True)
        )
        return list(
            await asyncio.gather(
                *(
                    self._check_one(attempt, key, problems.get(key))
                    for key, attempt in zip(keys, attempts, strict=True)
                )
            )
        )

    def _key(self, attempt: Attempt) -> str:
        digest = sha256(f"{self.prompts.hash}\0{attempt.instruction}\0{attempt.source.size}\0".encode())
        digest.update(attempt.source.tobytes())
        return digest.hexdigest()[:32]

    async def _write(self, key: str, attempt: Attempt) -> Verdict | None:
        """Ask for the checks of an instruction and keep them; the verdict where that failed."""
        content, _ = self._request(Question("rubric"), attempt, self._images(attempt))
        problem = ""
        for _ in range(self.settings.rounds):
            try:
                (answer,) = await self.client.ask(content, name=f"{key}-rubric")
                if answer.problem:
                    raise InvalidAnswerError(answer.problem)
                checks = read_rubric(answer.text)
            except EndpointError as error:
                return Verdict("unreachable", why=f"rubric: {error}")
            except InvalidAnswerError as error:
                problem = str(error)
                continue
            if key not in self._known:
                self._known[key] = checks
                if self._stored is not None:
                    record = {"instruction": attempt.instruction, "checks": list(checks)}
                    self._stored.append({key: record})
            return None
        return Verdict("unusable", why=f"rubric: {problem}")

    async def _check_one(self, attempt: Attempt, key: str, problem: Verdict | None) -> Verdict:
        if (failed := without_image(attempt) or problem) is not None:
            return failed
        images = self._images(attempt)
        checks = self._known[key]
        answers = await asyncio.gather(
            *(self._answer(attempt, check, images, f"{key}-check-{n}") for n, check in enumerate(checks))
        )
        for probability, status, why in answers:
            if probability is None:
                return Verdict("unreachable" if status == "unreachable" else "unusable", why=f"check: {why}")
        found = [probability for probability, _, _ in answers if probability is not None]
        raw = "\n".join(f"{p:.2f} {check}" for p, check in zip(found, checks, strict=True))
        mean = 10 * sum(found) / len(found)
        notes: dict[str, float | str] = {
            "model": self.client.model,
            "prompts_hash": self.prompts.hash,
            "checks": float(len(checks)),
        }
        return Verdict("ok", mean, mean, mean, mean, raw=raw, notes=notes)

    async def _answer(
        self, attempt: Attempt, check: str, images: dict[str, str], name: str
    ) -> tuple[float | None, str, str]:
        """(probability of yes, "ok", "") or (None, status, why)."""
        asked = Attempt(attempt.source, check, attempt.edited)
        content, more = self._request(Question("check"), asked, images)
        why = ""
        for _ in range(self.settings.rounds):
            try:
                (answer,) = await self.client.ask(content, name=name, more=more)
            except EndpointError as error:
                return None, "unreachable", str(error)
            except InvalidAnswerError as error:
                return None, "unusable", str(error)
            probability, why = read_check(answer, self.settings.expected)
            if probability is not None:
                return probability, "ok", ""
        return None, "unusable", why
