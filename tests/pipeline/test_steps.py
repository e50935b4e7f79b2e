"""Edits of several changes on the shipped model, carried out one change at a time."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.config import ModelSettings, SamplingSettings
from earl.errors import ModelFormatError
from earl.pipeline import EditPipeline, build_pipeline
from earl.sequence.layout import opening_ids, parse_completion, write_prompt
from earl.sequence.reasoning import reasoning_body
from earl.service.edit_request import EditFields, EditRequest
from earl.service.session import Session
from earl.world.rendering import render
from earl.world.tasks import sample_task


@pytest.fixture(scope="module")
def pipeline():
    return build_pipeline(ModelSettings(device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def several(pipeline):
    """Edits whose plans have several steps, as the pipeline makes them."""
    tasks = [sample_task(seed, "test", ["double"]) for seed in range(12)]
    pairs = [(Image.fromarray(render(task.source, 64)), task.instruction) for task in tasks]
    results = pipeline.edit_many(pairs, greedy=True)
    found = [
        (*pair, result)
        for pair, result in zip(pairs, results, strict=True)
        if len(pipeline.split(result.reasoning[0])) > 1
    ]
    assert len(found) >= 6, "the shipped model plans two changes where two are asked"
    return found[:4]


def by_hand(pipeline, image, reasoning):
    """Each step as an edit of its own, its plan in front."""
    (edit,) = pipeline.prepare([(image, "x")], SamplingSettings(), [[0]])
    codes = np.array(edit.request.draft).reshape(8, 8)
    words = pipeline.tokenizer
    for instruction, chain in pipeline.split(reasoning):
        prompt = write_prompt(codes, instruction, words)
        prompt += [*opening_ids(words), *words.encode(reasoning_body(chain))]
        request = replace(edit.request, prompt=tuple(prompt), prefill="size", draft=None)
        ((completion,),) = pipeline.engine.generate([request], SamplingSettings(greedy=True))
        codes = parse_completion(completion.ids, words).codes
    return codes


def test_each_step_edits_what_the_one_before_gave(pipeline, several):
    for image, _, result in several:
        parsed = parse_completion(result.completions[0].ids, pipeline.tokenizer)
        assert parsed.problem is None and parsed.reasoning == result.reasoning[0]
        assert np.array_equal(parsed.codes, by_hand(pipeline, image, parsed.reasoning))
        assert len(result.completions[0].logprobs) == len(result.completions[0].ids)


def test_the_service_takes_the_same_steps(pipeline, several):
    session = Session(pipeline)
    seen = {}
    fields = EditFields(prompt="x", temperature=1e-4)
    requests = [
        (EditRequest(fields.model_copy(update={"prompt": words}), image, None), (0, 0), lambda *_: None)
        for image, words, _ in several
    ]
    tickets = session.insert(requests)
    while len(seen) < len(tickets):
        seen |= dict(session.step())
    for ticket, (_, _, result) in zip(tickets, several, strict=True):
        for completion in seen[ticket].completions:
            assert completion.ids == result.completions[0].ids
    assert session.has_room([request for request, _, _ in requests]), "nothing is left behind"


def test_an_edit_that_is_dropped_takes_its_steps_along(pipeline, several):
    session = Session(pipeline)
    image, words, _ = several[0]
    (ticket,) = session.insert([(EditRequest(EditFields(prompt=words), image, None), (0,), lambda *_: None)])
    while not session._steps:
        session.step()
    session.step()
    session.remove(ticket)
    assert not session._steps and session._engine.room == pipeline.engine.max_batch
    assert session.step() == []


def test_a_model_without_steps_draws_a_plan_at_once(pipeline, several, tmp_path):
    folder = copied(tmp_path)
    meta = json.loads((folder / "earl.json").read_text())
    del meta["steps"]
    (folder / "earl.json").write_text(json.dumps(meta))
    plain = EditPipeline.from_pretrained(folder, device="cpu", dtype="float32")
    assert plain.split is None
    drawn = plain.edit_many([(image, words) for image, words, _ in several], greedy=True)
    assert [one.reasoning for one in drawn] == [result.reasoning for _, _, result in several]
    pairs = zip(drawn, (result for _, _, result in several), strict=True)
    assert any(one.completions[0].ids != result.completions[0].ids for one, result in pairs)


@pytest.mark.parametrize("name", ["elsewhere", "earl.world.domain:WORLD"])
def test_steps_of_an_unknown_domain_are_refused(name, tmp_path):
    folder = copied(tmp_path)
    meta = json.loads((folder / "earl.json").read_text()) | {"steps": name}
    (folder / "earl.json").write_text(json.dumps(meta))
    with pytest.raises(ModelFormatError, match=f"steps is {name!r} in earl"):
        EditPipeline.from_pretrained(folder, device="cpu")


def copied(tmp_path: Path) -> Path:
    import earl.world

    folder = tmp_path / "model"
    shutil.copytree(Path(earl.world.__file__).parent / "model", folder)
    return folder
