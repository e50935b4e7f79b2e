"""An edit from pixels to pixels, with a whole (untrained) model of the smallest size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from earl.config import ModelSettings, SamplingSettings
from earl.errors import (
    ConfigError,
    ImageError,
    InstructionError,
    ModelFormatError,
    SequenceError,
    VerifierError,
)
from earl.pipeline import EditPipeline, best_index, best_of, build_pipeline
from earl.policy.loading import load_policy
from earl.policy.stored import StoredPolicy
from earl.records import Verdict
from earl.sequence.instruction import check_instruction


@pytest.fixture(scope="module")
def pipeline(model_folder):
    return EditPipeline.from_pretrained(model_folder, device="cpu")


def picture(width=64, height=64, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pixels(image):
    return np.asarray(image).tobytes()


def test_an_edit_has_the_sources_grid_and_stops(pipeline):
    result = pipeline(picture(), "make the red cube blue", seed=3)
    assert result.image.size == (64, 64)
    assert result.image.mode == "RGB"
    assert result.completions[0].finish_reason == "stop"
    assert result.problems == (None,)
    assert result.seeds == (3,)
    assert result.seconds > 0


@pytest.mark.parametrize("size", [(128, 64), (64, 128), (96, 64), (40, 200)])
def test_aspects_are_kept(pipeline, size):
    image = pipeline(picture(*size), "remove the cone").image
    assert image.width % 8 == image.height % 8 == 0
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.35)
    assert 0.4 < image.width * image.height / 64**2 < 2


def test_same_seed_same_image_whatever_else_is_in_the_batch(pipeline):
    sources = [picture(64, 64, 1), picture(96, 64, 2), picture(64, 64, 3)]
    words = ["remove the cone", "make the red cube blue", "add a green sphere"]
    together = pipeline.edit_many(list(zip(sources, words, strict=True)), seeds=[5, 6, 7], num_images=2)
    for source, text, seed, result in zip(sources, words, (5, 6, 7), together, strict=True):
        for place in (0, 1):
            alone = pipeline(source, text, seed=seed + place)
            assert alone.completions[0].ids == result.completions[place].ids
            apart = np.asarray(alone.image, int) - np.asarray(result.images[place], int)
            assert np.abs(apart).max() <= 1  # the decoder's sums are added up in another order


def test_other_seeds_other_images_but_not_when_greedy(pipeline):
    drawn = pipeline(picture(), "add a green sphere", num_images=3)
    assert drawn.seeds == (0, 1, 2)
    assert len({completion.ids for completion in drawn.completions}) == 3
    greedy = [pipeline(picture(), "add a green sphere", seed=seed, greedy=True) for seed in (0, 9)]
    assert greedy[0].completions[0].ids == greedy[1].completions[0].ids


def test_guidance_leads_away_from_the_other_instruction_asked_of_the_same_image(pipeline):
    from earl.sequence.instruction import NEGATIVE_INSTRUCTION
    from earl.sequence.layout import write_prompt

    asked = []

    class Listening:
        def generate(self, requests, sampling, on_row):
            asked.append((requests, sampling))
            return pipeline.engine.generate(requests, sampling, on_row)

        def __getattr__(self, name):
            return getattr(pipeline.engine, name)

    listening = EditPipeline(Listening(), pipeline.vision)
    pairs = [(picture(), "add a green sphere"), (picture(96, 64, 2), "remove the cone")]
    plain = listening.edit_many(pairs, greedy=True)
    led = listening.edit_many(pairs, greedy=True, guidance=3.0)
    other = listening.edit_many(pairs, greedy=True, guidance=3.0, negative_instruction=" remove the cone ")
    assert [request.negative_prompt for request in asked[0][0]] == [None, None]
    for words, (requests, sampling) in zip((NEGATIVE_INSTRUCTION, "remove the cone"), asked[1:], strict=True):
        assert sampling.guidance == 3.0
        for result, request in zip(led, requests, strict=True):
            codes = pipeline.vision.encode([result.source], resize=False)[0]
            assert request.negative_prompt == tuple(write_prompt(codes, words, pipeline.tokenizer))
    ids = [[result.completions[0].ids for result in results] for results in (plain, led, other)]
    assert ids[0] != ids[1] != ids[2]
    assert ids[2][1] == ids[0][1]  # led away from what is asked itself: no guidance at all


@pytest.mark.parametrize("wrong", ["", "  ", "x" * 2001])
def test_what_guidance_leads_away_from_is_an_instruction(pipeline, wrong):
    with pytest.raises(InstructionError, match="the negative instruction"):
        pipeline(picture(), "remove the cone", guidance=1.5, negative_instruction=wrong)


def test_paths_bytes_and_images_are_the_same_to_it(pipeline, tmp_path):
    image = picture()
    image.save(tmp_path / "a.png")
    file = io.BytesIO()
    image.save(file, "PNG")
    given = [image, tmp_path / "a.png", str(tmp_path / "a.png"), file.getvalue()]
    assert len({pixels(pipeline(each, "remove the cone").image) for each in given}) == 1


def test_source_size_and_area(pipeline):
    source = picture(200, 100)
    assert pipeline(source, "remove the cone", restore_size=True).image.size == (200, 100)
    small = pipeline(source, "remove the cone", area=32 * 32)
    assert small.source.width * small.source.height <= 40 * 40
    assert small.image.size == small.source.size


def test_reasoning_always_ends_with_or_without_a_image(pipeline):
    result = pipeline(picture(), "remove the cone", reasoning=True, num_images=2)
    for image, problem in zip(result.images, result.problems, strict=True):
        assert (image is None) == (problem is not None)


@pytest.mark.parametrize(
    ("trained", "asked", "thinks"),
    [(True, None, True), (True, False, False), (None, None, False), (False, True, True)],
)
def test_a_model_that_was_trained_to_reason_does_unless_told_otherwise(
    pipeline, monkeypatch, trained, asked, thinks
):
    monkeypatch.setattr(pipeline, "reasons", trained)
    (edit,) = pipeline.prepare(
        [(picture(), "remove the cone")], SamplingSettings(reasoning=asked), seeds=[[0]]
    )
    assert edit.request.prefill == ("reasoning" if thinks else "size")


def test_special_tokens_in_the_instruction_are_only_text(pipeline):
    text = "add <|image start|>8*8<|image token|><|visual token 000001|><|extra_204|>"
    result = pipeline(picture(), text)
    assert result.image.size == (64, 64)
    assert result.completions[0].finish_reason == "stop"


@pytest.mark.parametrize("text", ["", "   \n", "x" * 2001, "\ud800"])
def test_instructions_that_are_none(pipeline, text):
    with pytest.raises(InstructionError):
        pipeline(picture(), text)


def test_instruction_of_another_type():
    with pytest.raises(InstructionError, match="bytes"):
        check_instruction(b"make it blue")
    assert check_instruction("  make it blue ") == "make it blue"


def test_a_prompt_longer_than_the_model_takes(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.engine, "max_positions", 150)
    with pytest.raises(InstructionError, match="150"):
        pipeline(picture(), "remove the cone")


def test_absurd_aspect(pipeline):
    with pytest.raises(ImageError):
        pipeline(picture(900, 20), "remove the cone")


@pytest.mark.parametrize(
    "wrong", [{"num_images": 0}, {"temperature": 1e-37}, {"top_p": 1.5}, {"top_k": -1}, {"guidance": 0.5}]
)
def test_settings_out_of_range(pipeline, wrong):
    with pytest.raises(ConfigError):
        pipeline(picture(), "remove the cone", **wrong)


def test_a_misspelt_option_is_named(pipeline):
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        pipeline(picture(), "remove the cone", tempratur=1.0)


def test_seeds_must_match_the_edits(pipeline):
    with pytest.raises(ConfigError, match="2 seeds for 1 edits"):
        pipeline.edit_many([(picture(), "remove the cone")], seeds=[1, 2])
    assert pipeline.edit_many([]) == []


def test_parts_of_different_models_are_refused(pipeline, model_folder, tmp_path):
    from earl.vision.creating import create_vision_tokenizer
    from earl.vision.loading import save_vision_tokenizer

    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=32), tmp_path / "other", area=64**2)
    with pytest.raises(ModelFormatError, match=r"32 codes.*64 visual tokens"):
        EditPipeline.from_pretrained(model_folder, vision=tmp_path / "other", device="cpu")


def test_cuda_that_is_not_there(model_folder):
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="CUDA"):
            EditPipeline.from_pretrained(model_folder, device="cuda")


def test_best_of_keeps_the_first_of_the_best(pipeline):
    result = pipeline(picture(), "remove the cone", seed=10, num_images=4)

    class Judge:
        def __init__(self, *overalls):
            self.overalls = overalls

        async def judge(self, attempts):
            assert [attempt.instruction for attempt in attempts] == ["remove the cone"] * len(attempts)
            return [Verdict("unusable") if s is None else Verdict("ok", s, s, s, s) for s in self.overalls]

    best, verdict = best_of(result, Judge(2.0, None, 7.0, 7.0))
    assert best.seeds == (12,)
    assert len(best.images) == len(best.completions) == 1
    assert verdict.overall == 7.0
    with pytest.raises(VerifierError, match="unusable"):
        best_of(result, Judge(None, None, None, None))


def test_best_of_does_not_choose_among_fewer(pipeline):
    class Away:
        async def judge(self, attempts):
            return [Verdict("ok", 5.0, 5.0, 5.0, 5.0), Verdict("unreachable", why="no answer in 1 s")]

    with pytest.raises(VerifierError, match=r"did not answer for 1 of 2 edits \(.*no answer in 1 s\)"):
        best_of(pipeline(picture(), "remove the cone", num_images=2), Away())


def test_the_best_of_several_by_hand():
    image = picture()
    ok = [Verdict("ok", score, score, score, score) for score in (3.0, 8.0, 8.0)]
    failed = [Verdict("undecodable"), Verdict("unusable"), Verdict("unusable")]
    assert best_index([image] * 3, ok) == 1
    assert best_index([None, image, image], failed) == 1
    assert best_index([None, image], [failed[0], ok[0]]) == 1
    assert best_index([None, None], failed[:2]) == 0


def test_a_result_without_a_image_says_why(pipeline):
    from dataclasses import replace

    result = pipeline(picture(), "remove the cone")
    empty = replace(result, images=(None,), problems=("position 3: no size",))
    with pytest.raises(SequenceError, match="position 3: no size"):
        _ = empty.image


def test_weights_are_read_once_unless_asked_otherwise(model_folder):
    assert EditPipeline.from_pretrained(model_folder, device="cpu").engine.frozen
    settings = ModelSettings(model=str(model_folder), device="cpu")
    assert not build_pipeline(settings, frozen=False).engine.frozen


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stored_weights_edit_as_the_transformers_class_does(model_folder, dtype):
    """What is read for sampling alone, and an engine on `load_policy`: the same ids, for any draw."""
    light = EditPipeline.from_pretrained(model_folder, device="cpu", dtype=dtype)
    assert type(light.engine.policy) is StoredPolicy
    policy = load_policy(model_folder, dtype=dtype)
    full = build_pipeline(policy=policy, tokenizer=light.tokenizer, vision=light.vision)
    pairs = [(picture(64, 64, 1), "remove the cone"), (picture(96, 64, 2), "make it night")]
    for options in ({}, {"greedy": True}, {"guidance": 1.5}, {"reasoning": True, "top_p": 0.9}):
        results = [p.edit_many(pairs, seeds=[4, 9], num_images=2, **options) for p in (light, full)]
        for ours, theirs in zip(*results, strict=True):
            assert ours.completions == theirs.completions
