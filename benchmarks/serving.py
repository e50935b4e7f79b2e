"""Continuous batching: edits that are asked for together against the same edits one by one.

    python -m benchmarks.serving [--edits 32] [--together 2 8 32] [--repeats 3]

The shipped model in float32, one thread, sampling at its temperature with the source as a draft, through the
session that `earl serve` runs. All ways must give the same codes, which is asserted. Times are CPU seconds of
this process, for sampling alone and with the images encoded and decoded. Each repeat runs all ways in turn,
the ratios are of one repeat, and their median is printed. The last row is a single edit: through an idle
session, and by `EditPipeline` as a warm `earl edit` makes it.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from PIL import Image

from earl.config import ModelSettings, SamplingSettings
from earl.pipeline import EditPipeline, build_pipeline
from earl.records import Completion
from earl.service.edit_request import EditFields, EditRequest
from earl.service.session import Session
from earl.world.rendering import render
from earl.world.tasks import sample_task


def requests_of(count: int) -> list[EditRequest]:
    """Edits of the world's test split."""
    tasks = [sample_task(seed, "test") for seed in range(count)]
    return [
        EditRequest(EditFields(prompt=task.instruction), Image.fromarray(render(task.source, 64)), None)
        for task in tasks
    ]


Ids = list[tuple[int, ...]]


def run(session: Session, requests: list[EditRequest], together: int) -> tuple[float, Ids]:
    """CPU seconds for all edits with so many in progress at once, from pixels to pixels, and their ids."""
    began = time.process_time()
    waiting, made, tickets = list(range(len(requests))), {}, {}
    while waiting or tickets:
        while waiting and len(tickets) < together:
            number = waiting.pop(0)
            (ticket,) = session.insert([(requests[number], (number,), lambda *_: None)])
            tickets[ticket] = number
        for ticket, result in session.step():
            made[tickets.pop(ticket)] = result.completions[0].ids
    return time.process_time() - began, [made[number] for number in range(len(requests))]


def sample(pipeline: EditPipeline, requests: list[EditRequest], together: int) -> tuple[float, Ids]:
    """The same for sampling alone."""
    sampling = SamplingSettings()
    pairs = [(request.image, request.fields.prompt) for request in requests]
    edits = pipeline.prepare(pairs, sampling, [(number,) for number in range(len(pairs))])
    session = pipeline.engine.open_session()
    began = time.process_time()
    waiting, made = list(range(len(requests))), {}
    running = 0

    def done(number: int, completion: Completion) -> None:
        nonlocal running
        running -= 1
        made[number] = completion.ids

    left = True
    while waiting or left:
        while waiting and running < together:
            number, running = waiting.pop(0), running + 1
            session.insert(
                edits[number].request,
                sampling,
                on_completion=lambda _, completion, number=number: done(number, completion),
            )
        left = session.step()
    return time.process_time() - began, [made[number] for number in range(len(requests))]


def run_pipeline(pipeline: EditPipeline, requests: list[EditRequest]) -> tuple[float, Ids]:
    """The edits by calls of the pipeline, one after another."""
    began = time.process_time()
    made = [
        pipeline(request.image, request.fields.prompt, seed=number).completions[0].ids
        for number, request in enumerate(requests)
    ]
    return time.process_time() - began, made


def _ratio(several: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(several, others, strict=True))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=32)
    parser.add_argument("--together", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pipeline = build_pipeline(ModelSettings(device="cpu", dtype="float32"))
    requests = requests_of(options.edits)
    session = Session(pipeline)
    run(session, requests[:2], 2)
    ways = (1, *options.together)
    direct: list[float] = []
    sampled: dict[int, list[float]] = {together: [] for together in ways}
    edited: dict[int, list[float]] = {together: [] for together in ways}
    for _ in range(options.repeats):
        seconds, expected = run_pipeline(pipeline, requests)
        direct.append(seconds)
        for together in ways:
            for times, (seconds, ids) in (
                (sampled, sample(pipeline, requests, together)),
                (edited, run(session, requests, together)),
            ):
                times[together].append(seconds)
                assert ids == expected, f"{together} at once gave other codes"
    print(f"{options.edits} edits, CPU seconds (median of {options.repeats}), and the ratio to one by one")
    for together in ways:
        columns = [
            f"{name} {statistics.median(taken[together]):6.2f} s {_ratio(taken[1], taken[together]):5.2f}x"
            for name, taken in (("sampling", sampled), ("pixels to pixels", edited))
        ]
        print(f"{together:>4} at once   {'   '.join(columns)}")
    print(
        f"a single edit through the session takes {_ratio(edited[1], direct):.2f} of a warm pipeline's time"
    )
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
