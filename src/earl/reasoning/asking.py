"""Concurrent questions to one endpoint, each asked again until an answer can be used.

A question has one of three results: a value; a rejection, after the allowed number of answers that cannot
be used; or no answer, which is asked for again by the next run. Every answer is kept in a store. Where
nothing answers any more, asking stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from earl.config.endpoint import WriterSettings
from earl.endpoints.client import ChatClient
from earl.endpoints.reading import objects, without_thinking
from earl.errors import EndpointError, InvalidAnswerError
from earl.store import RecordFile

T = TypeVar("T")


@dataclass(frozen=True)
class Question(Generic[T]):
    """One question about one edit.

    Attributes:
        key: equal for equal questions only.
        place: of the edit among those that are asked about together.
        id: of the edit, for people.
        content: makes the parts of the message.
        read: reads an answer; raises InvalidAnswerError.
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
    """Counts of outcomes, for progress displays."""

    accepted: int = 0
    rejected: int = 0
    unanswered: int = 0
    asked: int = 0
    last_error: str = ""


@dataclass
class Asker:
    """Asks questions and checks the answers.

    Raises (on making one):
        ConfigError, MissingExtraError: as `ChatClient`.
    """

    settings: WriterSettings
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._client = ChatClient(self.settings)
        self._misses = 0

    @property
    def stopped(self) -> bool:
        """Whether nothing has answered for so long that asking on makes no sense."""
        return self._misses >= max(4, min(self.settings.concurrency, 16))

    @property
    def model(self) -> str:
        return self._client.model

    async def check(self) -> str:
        """The model's name. Raises EndpointError where none is ready."""
        return await self._client.check()

    async def settle(
        self,
        questions: Iterable[Question[T]],
        answers: RecordFile[dict[str, Any]],
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

    async def _settle(self, question: Question[T], answers: RecordFile[dict[str, Any]]) -> Outcome[T]:
        problem = ""
        for number in range(self.settings.attempts):
            key = f"{question.key}-{number + 1}"
            record = answers.get(key)
            try:
                if record is None:
                    text = await self._ask(question, key, problem)
                    record = {"id": question.id, "text": text}
                elif not record.get("text"):
                    raise InvalidAnswerError(str(record.get("problem", "the answer is empty")))
                value = await asyncio.to_thread(question.read, str(record["text"]))
            except EndpointError as error:
                return Outcome(None, str(error), answered=False)
            except InvalidAnswerError as error:
                problem = str(error)
                record = {**(record or {"id": question.id, "text": ""}), "problem": problem}
            if key not in answers:
                answers.append({key: record})
            if not record.get("problem"):
                return Outcome(value)
        return Outcome(None, f"{problem} (after {self.settings.attempts} answers)")

    async def _ask(self, question: Question[T], name: str, problem: str) -> str:
        """An answer's text. Raises EndpointError, InvalidAnswerError."""
        content = list(question.content())
        if problem:
            words = f"Your last answer could not be used: {problem[:400]}."
            content.append({"type": "text", "text": f"{words} Answer again, in the form asked for."})
        self.tally.asked += 1
        (answer,) = await self._client.ask(content, name=name)
        if answer.problem:
            raise InvalidAnswerError(answer.problem)
        return answer.text

    def _count(self, outcome: Outcome[T]) -> Outcome[T]:
        if outcome.answered:
            self._misses = 0
            self.tally.accepted += outcome.value is not None
            self.tally.rejected += outcome.value is None
        else:
            self._misses += 1
            self.tally.unanswered += 1
            self.tally.last_error = outcome.problem
        return outcome


def read_object(answer: str, keys: Sequence[str]) -> dict[str, Any]:
    """The last JSON object of an answer that has one of the keys.

    Raises:
        InvalidAnswerError: there is none, or it was cut off or broken.
    """
    text = without_thinking(answer)
    having = [node for node in objects(text) if any(key in keys for key in node.keys)]
    if not having:
        wanted = ", ".join(f'"{key}"' for key in keys)
        raise InvalidAnswerError(
            f"there is no JSON object with {wanted}" if text.strip() else "the answer is empty"
        )
    if not having[-1].whole:
        raise InvalidAnswerError("the JSON object is cut off or broken")
    return having[-1].value()
