"""The work behind the editing page, on the shipped model; `test_page.py` drives the page itself."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from earl.cli import main
from earl.config import ModelSettings, VerifierSettings
from earl.config.service import ServiceSettings
from earl.data.tasks import EditTask
from earl.errors import VerifierError
from earl.pages.sheets import SIDE
from earl.records import Box, Verdict
from earl.service.opening import open_service
from earl.service.page_edits import EXAMPLES, MOST_STEPS, Asked, History, PageEdits, Step
from earl.service.wire import ApiError


def opened(model="world", verifier=None, **settings):
    model_settings = ModelSettings(model=str(model), device="cpu")
    judge = VerifierSettings(kind=verifier) if verifier else None
    return open_service(ServiceSettings(**settings), model_settings, judge)


@pytest.fixture(scope="module")
def work():
    service = opened(verifier="scene", max_queue=4)
    yield PageEdits(service)
    service.scheduler.stop()


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def asked(work, **fields):
    task = work.examples[0]
    return Asked(**{"image": png(task.source), "instruction": task.instruction, **fields})


def all_shown(work, asked):
    async def collect():
        return [shown async for shown in work.edit(asked)]

    return asyncio.run(collect())


def test_examples_are_of_different_kinds_and_scenes_are_drawn_anew(work):
    assert len({task.family for task in work.examples}) == len(work.examples) == EXAMPLES
    assert work.scene(5) == work.scene(5)
    assert png(work.scene().source) != png(work.scene().source)


def test_an_edit_is_shown_row_by_row_and_then_whole(work):
    shown = all_shown(work, asked(work, variations=3, seed=7))
    assert not any(s.done for s in shown[:-1]) and shown[0].variations == () and shown[0].note == ""
    partial = shown[-2].variations
    assert len(partial) == 3 and any("row" in v.label and "of 8" in v.label for v in partial)
    last = shown[-1]
    assert last.done and last.seed == 7 and last.source.size == (64, 64)
    assert [v.label.split(",")[0] for v in last.variations] == ["seed 7", "seed 8", "seed 9"]
    scores = [float(v.label.split(", ")[1].removesuffix(" of 10")) for v in last.variations]
    assert scores[last.best] == max(scores)
    for place, variation in enumerate(last.variations):
        stored = Image.open(io.BytesIO(variation.file))
        assert np.array_equal(np.asarray(stored), np.asarray(variation.image))
        assert f'"seed": {7 + place}' in stored.text["Description"]
    alone = work.pipeline(work.examples[0].source, work.examples[0].instruction, seed=8)
    assert np.array_equal(np.asarray(alone.image), np.asarray(last.variations[1].image))


def test_what_changed_is_tinted_and_the_rest_is_not(work):
    task = EditTask("", work.scene(20).source, "make the blue cube yellow")
    last = all_shown(work, Asked(png(task.source), task.instruction, seed=0))[-1].variations[0]
    differs = (np.asarray(last.image) != np.asarray(last.changes)).any(axis=2)
    assert 0.01 < differs.mean() < 0.6


def test_a_seed_is_drawn_where_none_is_given(work):
    seeds = {all_shown(work, asked(work))[-1].seed for _ in range(2)}
    assert len(seeds) == 2


def test_what_was_not_taught_is_said_before_the_first_row(work):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    first = all_shown(work, Asked(png(Image.fromarray(noise)), "make the sky stormy"))[0]
    assert "drawn scenes" in first.note and "'stormy'" in first.note


@pytest.mark.parametrize(
    "fields,said",
    [
        ({"instruction": " "}, "say what to change"),
        ({"image": b"no image"}, "not an image"),
        ({"variations": 5}, "more than the queue"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_done_is_said(work, fields, said):
    with pytest.raises(ApiError, match=said):
        all_shown(work, asked(work, **fields))
    assert work.service.metrics.held._value.get() == 0


def test_an_image_that_was_given_back_is_told(work):
    same, other = (
        all_shown(work, asked(work, instruction=text, seed=7))[-1] for text in ("do nothing", "make it night")
    )
    assert same.note.startswith("nothing was changed (seed 7): the model gave the") and not other.note


def test_leaving_ends_the_work(work):
    async def leave():
        edits = work.edit(asked(work, variations=4))
        await anext(edits)
        await anext(edits)
        await edits.aclose()

    asyncio.run(leave())
    metrics, end = work.service.metrics, time.monotonic() + 30
    while metrics.running._value.get() and time.monotonic() < end:
        time.sleep(0.02)
    assert metrics.running._value.get() == metrics.held._value.get() == 0


def test_a_verifier_that_fails_costs_the_scores_alone(work, monkeypatch):
    async def judge(result):
        raise VerifierError("the judge is not there")

    monkeypatch.setattr(work.service, "judge", judge)
    last = all_shown(work, asked(work, seed=3))[-1]
    assert last.done and "the judge is not there" in last.note
    assert last.variations[0].label == "seed 3"

    async def refused(result):
        return [Verdict("unreachable", why="the key was refused")]

    monkeypatch.setattr(work.service, "judge", refused)
    last = all_shown(work, asked(work, seed=3))[-1]
    assert "the key was refused" in last.note and last.variations[0].label == "seed 3, not judged"


def test_boxes_of_the_reasoning(work, monkeypatch):
    read = work.pipeline.read

    def thinking(*given, **options):
        return [replace(r, reasoning=("the cube at [8, 10, 30, 40]",)) for r in read(*given, **options)]

    monkeypatch.setattr(work.pipeline, "read", thinking)
    made = all_shown(work, asked(work))[-1].variations[0]
    assert made.boxes == (Box(8, 10, 30, 40),) and "the cube" in made.reasoning


def test_a_model_of_all_images_has_the_examples_that_are_given(model_folder, work):
    service = opened(model_folder)
    try:
        plain = PageEdits(service, [EditTask("a", work.examples[0].source, "make it night")])
        assert plain.domain is plain.tasks is None and len(plain.examples) == 1
        shown = all_shown(plain, asked(plain, variations=2, seed=1))
        assert [v.label for v in shown[-1].variations] == ["seed 1", "seed 2"]  # nothing judges them
        assert PageEdits(service).examples == []
    finally:
        service.scheduler.stop()


def test_a_history_branches():
    images = [Image.new("RGB", (64, 48), color) for color in ("red", "green", "blue", "white")]
    history = History()
    assert history.strip() == b"" and history.path() == []
    history.root(images[0])
    history.root(images[1])  # it is at hand already
    history.add(Step(images[1], 0, "make it green"))
    history.add(Step(images[2], 0, "make it blue"))
    history.add(Step(images[3], 2, "make it white"))
    assert history.captions() == [
        "1 start",
        "2 make it green",
        "3 (from 1) make it blue",
        "▸ 4 make it white",
    ]
    assert [step.image for step in history.path()] == [images[0], images[2], images[3]]
    strip = Image.open(io.BytesIO(history.strip()))
    assert 3 * SIDE < strip.width < 4 * SIDE
    history.place = 1
    assert [step.image for step in history.path()] == images[:2]
    history.place = None  # another image was given
    history.root(images[3])
    assert history.path() == [Step(images[3])] and len(history.steps) == 5


def test_a_long_history_forgets_its_first_images():
    image, history = Image.new("RGB", (8, 8)), History()
    history.root(image)
    for number in range(2, MOST_STEPS + 4):
        history.add(Step(image, history.place, f"edit {number}"))
    assert len(history.steps) == MOST_STEPS and history.forgotten == 3
    assert history.captions()[0] == "4 edit 4" and len(history.path()) == MOST_STEPS
    assert history.index == MOST_STEPS - 1 and history.captions()[history.index].startswith("▸ ")
    history.back(0)
    assert history.index == 0
    assert [step.instruction for step in history.path()] == ["edit 4"]
    history.add(Step(image, history.place, "another way"))
    assert [step.instruction for step in history.path()] == ["another way"], "its parent is forgotten"
    assert history.captions()[-1] == f"▸ {MOST_STEPS + 4} (from 4) another way"


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "earl.service.page", raising=False)
    assert main(["ui", "--port", "0"]) != 0
    assert "pip install 'earl-edit[serve,ui]'" in capsys.readouterr().err
