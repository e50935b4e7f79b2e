"""Cache of one verdict per edit across chat requests.

A judge is asked two questions about an edit, and a verifier here answers both at once. Both questions
of `JudgeVerifier` carry the edit's name, so the second is answered from the first's verdict; it waits if
it came earlier. A question about one image without a name, or whose other half does not come, is answered
from that image alone where the verifier can.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from PIL.Image import Image

from earl.records import Attempt, ScorePart, Verdict
from earl.service.questions import Asked
from earl.service.wire import ApiError
from earl.verifiers.judge import JudgeVerifier
from earl.verifiers.protocol import Looking, Verifier

Answer = tuple[tuple[float, float], str]  # two scores, and why
KEPT = 4096  # edits whose verdict is remembered
LONGEST_REASON = 2000  # characters that are remembered of a verdict's reason: with `KEPT`, some megabytes
PATIENCE = 30.0  # seconds that the second question waits for the first to arrive


class _Edit:
    """One edit by name: what it is, once known, and its verdict, once judged."""

    def __init__(self) -> None:
        self.content: str | None = None
        self.arrived = asyncio.Event()
        self.verdict: asyncio.Task[Verdict] | None = None


class VerdictCache:
    """Answers a judge's questions with a verifier. Lives in one event loop."""

    def __init__(self, verifier: Verifier, *, patience: float = PATIENCE) -> None:
        self.verifier = verifier
        self.patience = patience
        # A verifier that keeps cores busy serves first come, first served, so that no one waits for all.
        at_once = os.cpu_count() or 1 if getattr(verifier, "uses_cores", False) else KEPT
        self._room = asyncio.Semaphore(at_once)
        self.pair = verifier.pair if isinstance(verifier, JudgeVerifier) else "semantic"
        self._edits: OrderedDict[tuple[str, str], _Edit] = OrderedDict()

    async def answer(self, asked: Asked, name: str = "") -> Answer:
        """Two scores for a question.

        Args:
            asked: the question.
            name: of the edit that it is about, "" if it has none.

        Raises:
            ApiError: the verifier does not answer such a question (422), gave no scores (422),
                or was not reached (503).
            EarlError: the verifier does not take the instruction or an image.
        """
        hashes = await asyncio.to_thread(lambda: {slot: _hash(image) for slot, image in asked.images.items()})
        if asked.question == "perceptual":
            return await self._about_one(asked.images["edited"], hashes["edited"], name)
        if asked.known and asked.question != self.pair:
            raise ApiError(
                f"this verifier answers the {self.pair} question, not the {asked.question} one", 422
            )
        return _answer(await self._judged(asked, hashes, name), "edit_success", "over_editing")

    async def _judged(self, asked: Asked, hashes: dict[str, str], name: str) -> Verdict:
        """The verdict on a pair; what is asked again (another order, a retry) is not judged again."""
        parts = [*sorted(hashes.values()), asked.instruction]
        content = sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
        edit = self._edit(name or content, hashes["edited"])
        if edit.verdict is None or edit.content != content:
            edit.content = content
            first = asked.images.get("source") or asked.images["target"]
            target = asked.images.get("target", first if self.pair == "reference" else None)
            attempt = Attempt(first, asked.instruction, asked.images["edited"], target)
            edit.verdict = asyncio.create_task(self._judge(attempt))
            edit.arrived.set()
        return await self._verdict(edit)

    async def _judge(self, attempt: Attempt) -> Verdict:
        async with self._room:
            verdict = (await self.verifier.judge([attempt]))[0]
        return replace(verdict, why=verdict.reason[:LONGEST_REASON], raw="", members={}, notes={})

    async def _verdict(self, edit: _Edit) -> Verdict:
        assert edit.verdict is not None
        task = edit.verdict
        try:
            verdict = await asyncio.shield(task)
        except Exception:  # goes on to the caller; only the memory of it is dropped
            if edit.verdict is task:
                edit.verdict = None
            raise
        if verdict.status == "unreachable" and edit.verdict is task:
            edit.verdict = None  # asking again may help
        return verdict

    async def _about_one(self, image: Image, content: str, name: str) -> Answer:
        if name:
            edit = self._edit(name, content)
            with suppress(TimeoutError, asyncio.TimeoutError):  # one and the same from Python 3.11 on
                await asyncio.wait_for(edit.arrived.wait(), self.patience)
            if edit.verdict is not None:
                return _answer(await self._verdict(edit), "naturalness", "artifacts")
        if not isinstance(self.verifier, Looking):
            raise ApiError("this verifier judges edits; ask about source and edited image first", 422)
        async with self._room:
            return _answer(await self.verifier.look(image), "naturalness", "artifacts")

    def _edit(self, name: str, edited: str) -> _Edit:
        key = (name, edited)
        edit = self._edits.setdefault(key, _Edit())
        self._edits.move_to_end(key)
        while len(self._edits) > KEPT:
            self._edits.popitem(last=False)
        return edit


def _answer(verdict: Verdict, one: ScorePart, other: ScorePart) -> Answer:
    """Two scores of a verdict. Raises ApiError: it has none."""
    first, second = verdict.score(one), verdict.score(other)
    if not verdict.ok or first is None or second is None:
        status = 503 if verdict.status == "unreachable" else 422
        raise ApiError(f"no scores ({verdict.status}): {verdict.reason}", status)
    return (first, second), verdict.reason


def _hash(image: Image) -> str:
    return sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
