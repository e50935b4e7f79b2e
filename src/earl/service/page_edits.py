"""Logic of the editing page: edits shown while they are sampled, a session's history, example tasks.

No widgets in here (`earl.service.page` has them). A page's edits wait in the same queue, and are sampled in
the same batch, as those of the HTTP interface.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from earl.data.tasks import EditTask, TaskSettings, open_tasks
from earl.errors import EarlError
from earl.pages.sheets import side_by_side
from earl.pipeline import EditResult
from earl.pipeline.domain import domain_of
from earl.records import Box, Verdict
from earl.sequence.reasoning import find_boxes
from earl.service.edit_request import EditRequest, RawRequest, check_fields, decode
from earl.service.edits import EditService
from earl.service.scheduler import Job
from earl.service.thumbs import Thumbs
from earl.vision.saving import Provenance, encode_image

EXAMPLES = 12
MOST_VARIATIONS = 4
MOST_STEPS = 24  # images of a session's history; each may be as large as an upload
_UPDATES = 16  # images in progress that an edit shows, at most, over all its variations
_MAX_SEED = 1_000_000  # short enough to be noted down; any seed can be typed
_TINT = (219, 39, 119)  # of what changed


@dataclass(frozen=True, slots=True)
class Asked:
    """An edit as a person asks for it.

    Attributes:
        image: the bytes of an image file.
        seed: of the first variation; None draws one.
        keep_outside: the source's own pixels where nothing changed.
    """

    image: bytes
    instruction: str
    variations: int = 1
    seed: int | None = None
    reasoning: bool | None = None
    keep_outside: bool = False


@dataclass(frozen=True, slots=True)
class Variation:
    """One edited image, finished or in progress.

    Attributes:
        label: its seed, and its score or how far it is.
        changes: the image with what changed tinted; None while it is sampled.
        boxes: that its reasoning names, in pixels of the source as the model saw it.
        file: the image as a PNG file with its provenance; empty while it is sampled.
    """

    image: Image.Image
    label: str
    changes: Image.Image | None = None
    reasoning: str = ""
    boxes: tuple[Box, ...] = ()
    file: bytes = b""


@dataclass(frozen=True, slots=True)
class Shown:
    """An edit as the page shows it.

    Attributes:
        source: as the model saw it; as it was given before that is known.
        best: place of the variation that a verifier likes best; 0 without one.
        note: what the person should know; "" for nothing.
    """

    asked: Asked
    source: Image.Image
    seed: int
    variations: tuple[Variation, ...] = ()
    best: int = 0
    note: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One image of a session, and what made it of which other one; `parent` is a place in the history."""

    image: Image.Image
    parent: int | None = None
    instruction: str = ""


@dataclass
class History:
    """The images of a session as a tree: an image may be edited in several ways.

    Attributes:
        steps: the newest `MOST_STEPS`; older ones are forgotten.
        forgotten: how many those are; a place counts them too, so it stays the same.
        place: of the image that is edited now; None for one that was just given.
    """

    steps: list[Step] = field(default_factory=list)
    forgotten: int = 0
    place: int | None = None

    def root(self, image: Image.Image) -> None:
        """Begin a tree where the image at hand is none of the history's."""
        if self.place is None:
            self.add(Step(image))

    def add(self, step: Step) -> None:
        """Append a step and go there."""
        self.steps.append(step)
        if len(self.steps) > MOST_STEPS:
            del self.steps[0]
            self.forgotten += 1
        self.back(len(self.steps) - 1)

    def back(self, index: int) -> None:
        """Go to one of the steps that are kept."""
        self.place = self.forgotten + index

    @property
    def index(self) -> int | None:
        """Which of `steps` is at hand; None for an image that was just given, or is forgotten."""
        return None if self.place is None or self.place < self.forgotten else self.place - self.forgotten

    def path(self) -> list[Step]:
        """The steps from the first image, or the first that is kept, to the one at hand."""
        place, path = self.place, []
        while place is not None and place >= self.forgotten:
            path.append(self.steps[place - self.forgotten])
            place = path[-1].parent
        return path[::-1]

    def captions(self) -> list[str]:
        """A line for each step; the one at hand is marked, and a branch names where it leaves."""
        lines = []
        for place, step in enumerate(self.steps, self.forgotten):
            branches = step.parent is not None and step.parent != place - 1
            origin = f" (from {step.parent + 1})" if branches and step.parent is not None else ""
            mark = "▸ " if place == self.place else ""
            lines.append(f"{mark}{place + 1}{origin} {step.instruction or 'start'}")
        return lines

    def strip(self) -> bytes:
        """The path as one image in a row, a PNG file; empty where there is none."""
        path = self.path()
        if not path:
            return b""
        title = ", then ".join(step.instruction for step in path[1:])
        labels = ["start", *(str(number) for number in range(1, len(path)))]
        return encode_image(side_by_side(title, [step.image for step in path], labels), "PNG")


class PageEdits:
    """The work behind one editing page.

    Args:
        service: whose queue, model and verifier are used.
        examples: to choose from; drawn from the model's domain where there are none and it has one.
        thumbs: keeps which edits people like; None: they are not asked.
    """

    def __init__(
        self, service: EditService, examples: Sequence[EditTask] = (), thumbs: Thumbs | None = None
    ) -> None:
        self.thumbs = thumbs
        self.service, self.pipeline = service, service.session.pipeline
        self.domain = domain_of(service.name)
        self.side = round(self.pipeline.vision.area**0.5)
        tasks = TaskSettings("test", round(self.side / 8) * 8)
        self.tasks = open_tasks(self.domain.tasks, tasks) if self.domain else None
        self.examples = list(examples[:EXAMPLES]) or self._drawn_examples()

    def _drawn_examples(self) -> list[EditTask]:
        """The first task of each family, as many as are shown."""
        found: dict[str, EditTask] = {}
        for seed in range(20 * EXAMPLES if self.tasks else 0):
            task = self.scene(seed)
            found.setdefault(task.family, task)
            if len(found) == EXAMPLES:
                break
        return list(found.values())

    def scene(self, seed: int | None = None) -> EditTask:
        """A task of the model's domain, a random one without a seed."""
        assert self.tasks is not None, "offered only where there is a domain"
        return self.tasks.draw(secrets.randbelow(2**31) if seed is None else seed)

    async def edit(self, asked: Asked) -> AsyncIterator[Shown]:
        """Sample an edit; it is shown as its rows come. Closing the iterator ends the work.

        Raises:
            ApiError: what cannot be honoured, a full queue, a deadline that passed.
        """
        service, scheduler = self.service, self.service.scheduler
        seed = secrets.randbelow(_MAX_SEED) if asked.seed is None else asked.seed
        fields = check_fields(
            {
                "prompt": asked.instruction,
                "n": asked.variations,
                "seed": seed,
                "reasoning": asked.reasoning,
                "keep_outside": asked.keep_outside,
            },
            service.settings,
        )
        with scheduler.reserve() as places, service.room.holding() as take:
            places.take(fields.n)
            take(len(asked.image))
            raw = RawRequest(fields, asked.image, None)
            request = await asyncio.to_thread(decode, raw, service.settings, take)
            note = await asyncio.to_thread(service.session.lacking, request)
            seeds = tuple(range(seed, seed + fields.n))
            job = scheduler.submit(request, seeds, time.monotonic(), partials=_UPDATES // fields.n)
            try:
                yield Shown(asked, request.image, seed, note=note)
                async for variations in self._in_progress(job):
                    yield Shown(asked, request.image, seed, variations, note=note)
                yield await self._finished(asked, request, await job.done, note)
            finally:
                scheduler.cancel(job)

    async def _in_progress(self, job: Job) -> AsyncIterator[tuple[Variation, ...]]:
        height = self.service.session.size_of(job.request.image)[1] // 8
        shown = {
            index: Variation(job.request.image, f"seed {seed}, waiting")
            for index, seed in enumerate(job.seeds)
        }
        async for partial in self.service.scheduler.partials(job):
            label = f"seed {job.seeds[partial.index]}, row {partial.rows} of {height}"
            shown[partial.index] = Variation(partial.image, label)
            if job.partials.empty():  # a reader that is slow skips what is old already
                yield tuple(shown.values())

    async def _finished(self, asked: Asked, request: EditRequest, result: EditResult, note: str) -> Shown:
        verdicts: Sequence[Verdict | None] = [None] * len(result.images)
        written = [place for place, image in enumerate(result.images) if image is not None]
        if not written:
            raise EarlError(f"the model wrote no image ({result.problems[0]}); try another seed")
        lost: list[str] = []
        if self.service.judge is not None:
            try:
                verdicts = told = await self.service.judge(result)
                lost = [told[place].reason for place in written if told[place].overall is None]
            except EarlError as error:
                lost = [str(error)]
        failure = f"The images could not be judged: {lost[0]}" if lost else ""
        note = ". ".join(filter(None, (note, *result.notes, failure)))
        variations = await asyncio.to_thread(
            lambda: tuple(self._variation(request, result, place, verdicts[place]) for place in written)
        )
        scores = [verdict.overall if verdict else None for verdict in verdicts]
        best = max(range(len(written)), key=lambda at: -1.0 if (s := scores[written[at]]) is None else s)
        return Shown(asked, result.source, result.seeds[0], variations, best, note, done=True)

    def _variation(
        self, request: EditRequest, result: EditResult, place: int, verdict: Verdict | None
    ) -> Variation:
        edited, seed = result.images[place], result.seeds[place]
        assert edited is not None, "it was written"
        session, service = self.service.session, self.service
        image = session.finish(edited, result, request, None)
        mask = session.changed(edited, result).resize(image.size).point(lambda level: level // 3)
        score = ""
        if verdict is not None:
            score = ", not judged" if verdict.overall is None else f", {round(verdict.overall, 1):g} of 10"
        made = Provenance(service.name, seed, [result.instruction]) if service.settings.provenance else None
        text = result.reasoning[place] or ""
        return Variation(
            image,
            f"seed {seed}{score}",
            Image.composite(Image.new("RGB", image.size, _TINT), image, mask),
            text,
            tuple(find_boxes(text)),
            encode_image(image, "PNG", provenance=made),
        )
