"""The edit service on the shipped model: what it answers is what the pipeline makes."""

from __future__ import annotations

import base64
import io
import math
import threading
from dataclasses import replace

import numpy as np
import openai
import pytest
from PIL import Image

from earl.config import ModelSettings
from earl.pipeline import build_pipeline
from earl.sampling.completions import Sample
from earl.service.edit_request import EditFields, EditRequest
from earl.service.edits import EditService
from earl.service.http import served
from earl.service.session import Session
from earl.world.rendering import render
from earl.world.tasks import sample_task


@pytest.fixture(scope="module")
def pipeline():
    return build_pipeline(ModelSettings(device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def url(pipeline):
    service = EditService(Session(pipeline), "world")
    with served(service.app()) as url:
        yield url
    service.scheduler.stop()


def opened(item):
    return Image.open(io.BytesIO(base64.b64decode(item.b64_json)))


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def task(seed):
    drawn = sample_task(seed, "test")
    return Image.fromarray(render(drawn.source, 64)), drawn.instruction


def test_edits_asked_for_together_are_those_of_the_pipeline(url, pipeline):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
    answers = {}

    def ask(seed):
        image, instruction = task(seed)
        answers[seed] = client.images.edit(
            image=png(image), prompt=instruction, n=1 + seed % 2, extra_body={"seed": seed}
        )

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(6):
        image, instruction = task(seed)
        expected = pipeline(image, instruction, seed=seed, num_images=1 + seed % 2)
        assert len(answers[seed].data) == len(expected.images)
        for item, wanted in zip(answers[seed].data, expected.images, strict=True):
            apart = np.abs(np.asarray(opened(item), int) - np.asarray(wanted, int))
            assert apart.max() <= 1 and (apart > 0).mean() < 1e-3  # decoded in another batch, so rounded


def test_partial_images_are_rows_over_the_source(url):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
    image, _ = task(0)
    events = list(
        client.images.edit(image=png(image), prompt="make it a pencil drawing", stream=True, partial_images=3)
    )
    assert [event.rows for event in events[:-1]] == [2, 4, 6]
    assert all(opened(event).size == (64, 64) for event in events)


def test_what_the_shipped_model_was_not_taught_is_a_warning(url):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    answer = client.images.edit(image=png(noise), prompt="make the sky stormy")
    assert "none of its drawn scenes" in answer.warnings[0] and "'stormy'" in answer.warnings[0]
    image, instruction = task(0)
    answer = client.images.edit(image=png(image), prompt=instruction, extra_body={"seed": 0})
    assert answer.warnings == [] and not answer.data[0].unchanged


def test_a_mask_and_keep_outside_leave_the_rest_alone(url):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
    image, _ = task(0)
    large = image.resize((320, 320), Image.Resampling.BICUBIC)
    mask = Image.new("RGBA", large.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 160, 160, 320))
    answer = client.images.edit(image=png(large), mask=png(mask), prompt="add a red cube")
    made, given = np.asarray(opened(answer.data[0])), np.asarray(large)
    assert made.shape == given.shape and answer.size == "320x320"
    np.testing.assert_array_equal(made[:80], given[:80])
    np.testing.assert_array_equal(made[:, 240:], given[:, 240:])
    with pytest.raises(openai.BadRequestError, match="mask has no transparency"):
        closed = png(Image.new("RGBA", large.size, (0, 0, 0, 255)))
        client.images.edit(image=png(large), mask=closed, prompt="add it", extra_body={"reasoning": False})
    with pytest.raises(openai.BadRequestError, match="the mask leaves nothing to change"):
        dot = Image.new("RGBA", (2000, 2000), (0, 0, 0, 255))
        dot.putpixel((900, 900), (0, 0, 0, 0))
        huge = png(image.resize(dot.size))
        client.images.edit(image=huge, mask=png(dot), prompt="x", extra_body={"reasoning": False})
    answer = client.images.edit(
        image=png(large), prompt="add a red cube", extra_body={"keep_outside": True, "seed": 4}
    )
    made = np.asarray(opened(answer.data[0]))
    assert made.shape == given.shape
    assert (made == given).all(-1).mean() > 0.3


def test_sizes_are_the_sources_or_the_models(url):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
    image, _ = task(0)
    wide = png(image.resize((100, 80)))
    assert client.images.edit(image=wide, prompt="make it night").size == "72x56"
    for size in ("100x80", "72x56", "auto"):
        answer = client.images.edit(image=wide, prompt="make it night", size=size)
        assert f"{opened(answer.data[0]).width}x{opened(answer.data[0]).height}" == answer.size
    with pytest.raises(openai.BadRequestError, match="100x80 or 72x56"):
        client.images.edit(image=wide, prompt="make it night", size="512x512")


def test_likelihoods_that_are_no_numbers_end_their_own_edit_alone(pipeline, monkeypatch):
    whole = Sample.completion
    monkeypatch.setattr(
        Sample,
        "completion",
        lambda self: replace(whole(self), logprobs=(math.nan,)) if self.seed == 7 else whole(self),
    )
    session, (image, instruction) = Session(pipeline), task(0)
    request = EditRequest(EditFields(prompt=instruction), image, None)
    bad, good = session.insert([(request, (seed,), lambda *_: None) for seed in (7, 8)])
    results = {}
    while len(results) < 2:
        results.update(session.step())
    assert "likelihoods are not numbers" in str(results[bad]) and results[good].image is not None
