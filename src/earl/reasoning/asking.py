"""Many questions to one endpoint: some in flight at once, each asked again until its answer is fit.

Three things can come of a question: a value; a rejection, after the allowed number of answers that
cannot be used; or no answer, which is nobody's verdict and is asked again by the next run. Where
nothing answers any more, asking stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from earl.endpoints.client import ChatClient, JudgeSettings, Trouble
from earl.errors import VerifierError
from earl.reasoning.chains import Unfit
from earl.reasoning.store import AnswerFile

T = TypeVar("T")


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked about one edit.

    `key` is equal for equal questions only; `place` names the edit among those that are asked about
    together, `id` to people; `content` makes the parts of the message; `read` reads
    an answer and raises `Unfit`.
    """

    key: str
    place: int
    id: str
    content: Callable[[], Sequence[dict[str, Any]]]
    read: Callable[[str], T]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """A value, or the problem: `answered` tells a rejection from a question without an answer."""

    value: T | None
    problem: str = ""
    answered: bool = True


@dataclass
class Tally:
    """How a run goes on, for whoever watches."""

    fit: int = 0
    rejected: int = 0
    unanswered: int = 0
    asked: int = 0
    last_trouble: str = ""


@dataclass
class Asker:
    """Asks and checks.

    Args:
        settings: of the endpoint; see `JudgeSettings`.
        attempts: answers to one question, at least 1, before it is rejected.
    """

    settings: JudgeSettings
    attempts: int = 3
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._client = _in_our_words(lambda: ChatClient(self.settings))
        self._misses = 0

    @property
    def stopped(self) -> bool:
        """Whether nothing has answered for so long that asking on makes no sense."""
        return self._misses >= max(4, min(self.settings.concurrency, 16))

    @property
    def model(self) -> str:
        return self._client.model

    async def check(self) -> str:
        """The model's name. Raises VerifierError where none is ready."""
        try:
            return await self._client.check()
        except VerifierError as error:
            raise VerifierError(_without_judge(str(error))) from error

    async def settle(
        self,
        questions: Iterable[Question[T]],
        answers: AnswerFile,
        *,
        on_done: Callable[[], None] | None = None,
    ) -> dict[int, Outcome[T]]:
        """Outcomes by place; a question that was not reached has none.

        `questions` are drawn in a thread, as places become free, so their images are not all in
        memory at once.
        """
        outcomes: dict[int, Outcome[T]] = {}
        pending: dict[asyncio.Task[Outcome[T]], Question[T]] = {}
        stream: Iterator[Question[T]] = iter(questions)
        drained = False
        try:
            while pending or not drained:
                while not drained and not self.stopped and len(pending) < self.settings.concurrency:
                    question = await asyncio.to_thread(next, stream, None)
                    if question is None:
                        drained = True
                        break
                    pending[asyncio.create_task(self._settle(question, answers))] = question
                drained = drained or self.stopped
                if not pending:
                    break
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    outcomes[pending.pop(task).place] = self._count(task.result())
                    if on_done:
                        on_done()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return outcomes

    async def _settle(self, question: Question[T], answers: AnswerFile) -> Outcome[T]:
        problem, said = "", answers.of(question.key)
        for text in said:  # what was answered before, read as if it came now
            try:
                return Outcome(question.read(text))
            except Unfit as unfit:
                problem = str(unfit)
        for number in range(len(said), self.attempts):
            content = [*question.content(), *_again(problem)]
            self.tally.asked += 1
            try:
                (answer,) = await self._client.ask(content, name=f"{question.key}-{number}")
            except Trouble as trouble:
                if trouble.status == "unreachable":
                    return Outcome(None, trouble.why, answered=False)
                problem = trouble.why
                answers.add(question.key, question.id, "", problem)
                continue
            try:
                value = question.read(answer.text)
            except Unfit as unfit:
                problem = str(unfit)
                answers.add(question.key, question.id, answer.text, problem)
                continue
            answers.add(question.key, question.id, answer.text)
            return Outcome(value)
        return Outcome(None, f"{problem} (after {self.attempts} answers)")

    def _count(self, outcome: Outcome[T]) -> Outcome[T]:
        if outcome.answered:
            self._misses = 0
            self.tally.fit += outcome.value is not None
            self.tally.rejected += outcome.value is None
        else:
            self._misses += 1
            self.tally.unanswered += 1
            self.tally.last_trouble = outcome.problem
        return outcome


def _again(problem: str) -> list[dict[str, Any]]:
    """What is added where an answer could not be used."""
    if not problem:
        return []
    words = f"Your last answer could not be used: {problem[:400]}. Answer again, in the form asked for."
    return [{"type": "text", "text": words}]


def _in_our_words(make: Callable[[], ChatClient]) -> ChatClient:
    try:
        return make()
    except VerifierError as error:
        raise VerifierError(_without_judge(str(error))) from error


def _without_judge(sentence: str) -> str:
    """The client speaks of a judge; here the model writes."""
    return sentence.replace("the judge at", "the model at").replace("for the judge", "for the model")
