"""Target images drawn by a model: of several edits of a source, the one that a verifier scores highest.

For those who have images, instructions and a verifier, and no edited images: the shards that come of it
train like any others (best-of-N distillation, also called rejection sampling fine-tuning).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earl.config import SamplingSettings, VerifierSettings
from earl.config.data import HoldoutSettings, TargetSettings
from earl.data.sources.opening import OpenedSource
from earl.data.sources.sample import Read
from earl.data.tokenise import on_side
from earl.errors import EarlError
from earl.pipeline.edit import EditPipeline
from earl.pipeline.result import EditResult, best_index, check_answered, edit_each, worst_index
from earl.records import Verdict
from earl.sequence.layout import parse_completion
from earl.verifiers.factory import make_verifier


class DrawnTargets:
    """A source whose targets are the best edits that a model draws.

    The edits of row number i are drawn with the seeds `sampling.seed + 1000 i` and following, so that
    what becomes of a row does not depend on where a run began. A row whose best edit scores below
    `settings.least`, or none of whose edits can be judged, is refused with the reason; where the verifier
    does not answer VerifierError ends the run, which can go on later. With
    `settings.pair_gap` the worst of the judged edits is the sample's `other`.

    Args:
        source: gives images and instructions; its own target is what a reference verifier compares with.
        judge: the verifier that scores the edits.
        holdout: nothing is drawn for rows that are held back of the source's split.
    """

    def __init__(
        self,
        source: OpenedSource,
        pipeline: EditPipeline,
        judge: VerifierSettings,
        settings: TargetSettings,
        sampling: SamplingSettings,
        holdout: HoldoutSettings | None = None,
    ) -> None:
        self.source, self.pipeline, self.judge = source, pipeline, judge
        self.verifier = make_verifier(judge)
        self.settings, self.sampling = settings, sampling
        self.holdout = holdout or HoldoutSettings()
        self.split = source.split

    @property
    def name(self) -> str:
        return self.source.name

    def describe(self) -> dict[str, Any]:
        drawn = {
            "model": self.pipeline.name,
            **self.settings.model_dump(mode="json", exclude={"at_once"}, exclude_none=True),
            "sampling": self.sampling.model_dump(mode="json"),
            "verifier": self.judge.model_dump(mode="json", exclude_defaults=True),
        }
        return {**self.source.describe(), "targets": drawn}

    def origin(self) -> dict[str, Any]:
        kept = "best" if self.settings.pair_gap is None else "best and worst"
        drawn = f"{kept} of {self.settings.best_of} edits of {self.pipeline.name}"
        return {**self.source.origin(), "targets": drawn}

    def read(self, start: int = 0) -> Iterator[Read]:
        """Rows from number `start` on, each with its drawn target or the reason why it has none."""
        reads = self.source.read(start)
        loop = asyncio.new_event_loop()  # one, since a verifier's connections belong to it
        try:
            while block := list(islice(reads, self.settings.at_once)):
                yield from self._drawn(block, loop)
        finally:
            loop.close()

    def _drawn(self, block: Sequence[Read], loop: asyncio.AbstractEventLoop) -> Iterator[Read]:
        ours = [read for read in block if on_side(read, self.holdout, self.split)]
        whole = [read for read in ours if read.sample is not None]
        made = dict(zip((read.number for read in whole), edit_each(self._edits, whole), strict=True))
        for read in block:
            result = made.get(read.number)
            if read.sample is None or result is None:
                yield read
            elif isinstance(result, EarlError):
                yield _refused(read, str(result))
            else:
                yield self._best(read, result, loop)

    def _edits(self, reads: Sequence[Read]) -> list[EditResult]:
        pairs = [(read.sample.source, read.sample.instruction) for read in reads if read.sample is not None]
        seeds = [self.sampling.seed + 1000 * read.number for read in reads]
        return self.pipeline.edit_many(pairs, self.sampling, seeds=seeds, num_images=self.settings.best_of)

    def _best(self, read: Read, result: EditResult, loop: asyncio.AbstractEventLoop) -> Read:
        from earl.vision.images import open_image

        assert read.sample is not None
        given = read.sample.target
        try:
            target = open_image(given).resize(result.source.size) if given is not None else None
        except EarlError as error:
            return _refused(read, str(error))
        attempts = result.attempts(target=target, key=read.id)
        verdicts: list[Verdict] = loop.run_until_complete(self.verifier.judge(attempts))
        check_answered(verdicts)
        best = best_index(result.images, verdicts)
        overall, image = verdicts[best].overall, result.images[best]
        if overall is None or image is None:
            return _refused(read, f"none of {len(verdicts)} edits could be judged: {verdicts[best].reason}")
        if overall < self.settings.least:
            return _refused(
                read,
                f"the best of {len(verdicts)} edits has {overall:.1f} of 10, below {self.settings.least:g}",
            )
        other, kept = None, [best]
        if self.settings.pair_gap is not None:
            worst = worst_index(verdicts)
            gap = overall - (verdicts[worst].overall or 0.0)
            if gap < self.settings.pair_gap:
                return _refused(
                    read,
                    f"best and worst of {len(verdicts)} edits lie {gap:.1f} points apart, less than "
                    f"{self.settings.pair_gap:g}",
                )
            other = result.images[worst]
            kept.append(worst)
        codes = tuple(self._codes(result, place) for place in kept)
        sample = replace(read.sample, source=result.source, origin=read.sample.source, codes=codes)
        return replace(read, sample=replace(sample, target=image, other=other))

    def _codes(self, result: EditResult, place: int) -> NDArray[np.int32]:
        """The image codes that the model wrote."""
        codes = parse_completion(result.completions[place].ids, self.pipeline.tokenizer).codes
        assert codes is not None, "there is an image"
        return codes.astype(np.int32)


def _refused(read: Read, problem: str) -> Read:
    return replace(read, sample=None, problem=problem)
