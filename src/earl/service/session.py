"""Edits in progress together: what the scheduler's thread drives, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.config import SamplingSettings
from earl.errors import EarlError
from earl.pipeline import EditPipeline, EditResult, PreparedEdit
from earl.pipeline.domain import lacking
from earl.pipeline.steps import Steps
from earl.records import Completion
from earl.sampling.completions import check_likelihoods
from earl.sequence.layout import write_image
from earl.service.edit_request import EditRequest
from earl.vision.images import CELL, grid_of, target_size

OnRow = Callable[[int, int, Callable[[], Image.Image]], None]
"""Called with (image, rows sampled so far, a function that shows it) as rows are done."""
Edit = tuple[EditRequest, tuple[int, ...], OnRow]
"""A request, the seed of each of its images, and what is called as its rows are done."""


@dataclass
class _Step:
    """An image of an edit of several steps: which edit's and which of its images, what is left to do, the
    engine's ticket of the step in progress, and what was drawn last."""

    edit: int
    index: int
    chain: Steps
    sampling: SamplingSettings
    drawn: Completion | None
    ticket: int | None = None

    def arrived(self, _: int, completion: Completion) -> None:
        self.drawn = completion


class Session:
    """Edits in progress on an editing pipeline. One thread inserts, removes and steps; the rest is pure.

    Args:
        pipeline: models and engine. In float32 on a CPU an image does not depend on who else asks.
    """

    def __init__(self, pipeline: EditPipeline) -> None:
        self.pipeline = pipeline
        self._engine = pipeline.engine.open_session()
        self._edits: dict[int, PreparedEdit] = {}
        self._completions: dict[int, dict[int, Completion]] = {}
        self._steps: list[_Step] = []  # of edits of several steps (`earl.pipeline.steps`)

    def insert(self, edits: Sequence[Edit]) -> list[int | EarlError]:
        """Encode the sources one by one, and let the edits join at the next step, prefilled together.

        Returns the ticket of each, or why it cannot be made.
        """
        return [self._join(*edit) for edit in edits]

    def _join(self, request: EditRequest, seeds: tuple[int, ...], on_row: OnRow) -> int | EarlError:
        fields, vision = request.fields, self.pipeline.vision
        sampling = SamplingSettings(
            temperature=fields.temperature,
            top_k=fields.top_k,
            top_p=fields.top_p,
            guidance=fields.guidance,
            reasoning=fields.reasoning,
        )
        try:
            pairs = [(request.image, fields.prompt)]
            (edit,) = self.pipeline.prepare(pairs, sampling, [seeds], mask=request.mask)
            grid, draft = edit.request.grid, edit.request.draft
            assert grid is not None and draft is not None
            source_HW = np.array(draft, np.int32).reshape(grid.height, grid.width)
            drawn = [source_HW.copy() for _ in seeds]

            def row_done(index: int, row: int, codes: NDArray[np.int32]) -> None:
                if codes.shape == drawn[index][row].shape:
                    drawn[index][row] = codes
                    on_row(index, row + 1, lambda: vision.decode([drawn[index]])[0])

            done: dict[int, Completion] = {}

            def drawn_once(index: int, completion: Completion) -> None:
                if (split := self.pipeline.split) is None:
                    done[index] = completion
                    return
                chain = Steps(edit.request, completion, self.pipeline.tokenizer, split)
                self._steps.append(_Step(ticket, index, chain, sampling, completion))

            ticket = self._engine.insert(edit.request, sampling, row_done, drawn_once)
        except EarlError as error:
            return error
        self._edits[ticket], self._completions[ticket] = edit, done
        return ticket

    def _go_on(self) -> None:
        """Let the next steps of edits join, as far as there is room."""
        for step in self._steps[:]:
            if step.drawn is None or self._engine.room < (2 if step.sampling.guided else 1):
                continue
            if step.ticket is not None:  # its first drawing is the whole edit's, not a step's
                step.chain.take(step.drawn)
            step.drawn = None
            request = step.chain.next()
            if request is None:
                self._steps.remove(step)
                self._completions[step.edit][step.index] = step.chain.completion
            else:
                step.ticket = self._engine.insert(request, step.sampling, None, step.arrived)

    def remove(self, ticket: int) -> None:
        """Drop an edit; its work ends with this call."""
        for number in (ticket, *(step.ticket for step in self._steps if step.edit == ticket)):
            if number is not None:
                self._engine.remove(number)
        self._steps = [step for step in self._steps if step.edit != ticket]
        del self._edits[ticket], self._completions[ticket]

    def step(self, hand_back: bool = True) -> list[tuple[int, EditResult | EarlError]]:
        """Take one step for all edits. Returns those that are through, each with its result or why it has
        none; without `hand_back` they are kept for a later step."""
        busy = self._engine.step()
        self._go_on()
        if busy and not hand_back:
            return []
        through = [
            ticket
            for ticket, done in self._completions.items()
            if len(done) == len(self._edits[ticket].request.seeds)
        ]
        return [(ticket, self._read(ticket)) for ticket in through]

    def _read(self, ticket: int) -> EditResult | EarlError:
        edit, done = self._edits.pop(ticket), self._completions.pop(ticket)
        completions = [done[index] for index in sorted(done)]
        try:
            for completion in completions:
                check_likelihoods(completion)
            return self.pipeline.read([edit], [completions], one_by_one=True)[0]
        except EarlError as error:
            return error

    def has_room(self, requests: Sequence[EditRequest]) -> bool:
        """Whether the images of all of them can join now; with guidance each counts twice."""
        return self._engine.room >= sum(
            request.draws * (2 if request.fields.guidance != 1 else 1) for request in requests
        )

    def lacking(self, request: EditRequest) -> str:
        """One sentence on what is asked and the model was not taught; "" for nothing."""
        fields = request.fields
        return lacking(self.pipeline, request.image, [fields.prompt], reasoning=fields.reasoning)

    def rows_of(self, ticket: int) -> int:
        """Rows of codes of an edit's images."""
        edit = self._edits.get(ticket)
        return edit.request.grid.height if edit is not None and edit.request.grid is not None else 0

    def size_of(self, image: Image.Image) -> tuple[int, int]:
        """Width and height of the images that the model gives for a source."""
        vision = self.pipeline.vision
        grid = grid_of(target_size(*image.size, vision.area, vision.rule))
        return grid.width * CELL, grid.height * CELL

    def finish(
        self, image: Image.Image, result: EditResult, request: EditRequest, size: tuple[int, int] | None
    ) -> Image.Image:
        """An image as the caller gets it: scaled, and with the source's pixels outside what changed."""
        if result.mask is not None or request.fields.keep_outside:
            image = self.pipeline.keep_outside(request.image, image, result)
        if size is None or size == image.size:
            return image
        return image.resize(size, Image.Resampling.LANCZOS)

    def changed(self, image: Image.Image, result: EditResult) -> Image.Image:
        """A mask of what an edit changed: mode L, white there, at the image's size."""
        return self.pipeline.changed(image, result)

    def prompt_lengths(self, result: EditResult) -> tuple[int, int]:
        """Ids of text and of the image in a result's prompt; BOS counts as text."""
        grid = grid_of(result.source.size)
        tokenizer = self.pipeline.tokenizer
        image = len(write_image(np.zeros((grid.height, grid.width), np.int64), tokenizer))
        return 1 + len(tokenizer.encode(result.instruction)), image
