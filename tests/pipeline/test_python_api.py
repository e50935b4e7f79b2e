"""The pipeline called as people of this field expect it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from PIL import Image

import earl
from earl.config import SamplingSettings
from earl.errors import ConfigError, ImageError, InstructionError
from earl.records import Completion
from earl.sequence.layout import parse_completion, write_completion
from earl.vision.images import open_image


@pytest.fixture(scope="module")
def pipeline(model_folder):
    return earl.EditPipeline.from_pretrained(model_folder, device="cpu")


SOURCE = Image.new("RGB", (64, 64), (200, 30, 30))


def pixels(result):
    return [np.asarray(image) for image in result.images]


def test_positions_names_and_aliases_mean_the_same(pipeline):
    wanted = pixels(pipeline(SOURCE, "make it blue", seed=3, num_images=2, guidance=2.0))
    for given in (
        pipeline(SOURCE, prompt="make it blue", seed=3, num_images_per_prompt=2, guidance_scale=2.0),
        pipeline(image=SOURCE, instruction="make it blue", seed=3, num_images=2, guidance_scale=2.0),
    ):
        np.testing.assert_array_equal(pixels(given), wanted)
    for twice in ({"prompt": "x"}, {"guidance": 2.0, "guidance_scale": 2.0}):
        with pytest.raises(ConfigError, match="another name"):
            pipeline(SOURCE, "make it blue", **twice)
    with pytest.raises(InstructionError, match="no instruction"):
        pipeline(SOURCE)


def test_lists_are_edited_together(pipeline):
    results = pipeline([SOURCE, SOURCE], ["make it blue", "add a cone"], seed=1)
    alone = [pipeline(SOURCE, words, seed=1) for words in ("make it blue", "add a cone")]
    assert isinstance(results, list)
    for result, single in zip(results, alone, strict=True):
        assert [c.ids for c in result.completions] == [c.ids for c in single.completions]
    assert len(pipeline(SOURCE, ["a cone", "a cube", "a ball"])) == len(pipeline([SOURCE] * 3, "a cone")) == 3
    with pytest.raises(ConfigError, match="2 images and 3 instructions"):
        pipeline([SOURCE] * 2, ["a", "b", "c"])


def test_arrays_and_tensors_are_images(pipeline):
    array = np.asarray(SOURCE)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    wanted = pixels(pipeline(SOURCE, "make it blue", seed=1))
    for source in (array, array / 255.0, tensor, tensor.float() / 255):
        np.testing.assert_array_equal(pixels(pipeline(source, "make it blue", seed=1)), wanted)
    grey = np.full((16, 24), 7, np.uint8)
    assert open_image(grey).getpixel((0, 0)) == open_image(grey[..., None]).getpixel((0, 0)) == (7, 7, 7)


def test_images_come_out_as_arrays_or_tensors(pipeline):
    wanted = pixels(pipeline(SOURCE, "make it blue", seed=3, num_images=2))
    arrays = pipeline(SOURCE, "make it blue", seed=3, num_images=2, output_type="np").images
    (tensors,) = pipeline([SOURCE], "make it blue", seed=3, num_images=2, output_type="pt")
    for image, array, tensor in zip(wanted, arrays, tensors.images, strict=True):
        assert array.shape == (64, 64, 3) and array.dtype == np.float32
        assert tensor.shape == (3, 64, 64) and tensor.dtype == torch.float32
        np.testing.assert_array_equal(np.rint(array * 255).astype(np.uint8), image)
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), array)
    with pytest.raises(ConfigError, match="pil, np, pt, got 'latent'"):
        pipeline(SOURCE, "make it blue", output_type="latent")


@pytest.mark.parametrize(
    "array,what",
    [
        (np.zeros((3, 8, 8), np.uint8), "shape"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.full((8, 8, 3), 1.5), r"\[0, 1\]"),
        (np.full((8, 8, 3), np.nan), r"\[0, 1\]"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
    ],
)
def test_arrays_that_are_no_images(array, what):
    with pytest.raises(ImageError, match=what):
        open_image(array)


def test_no_seed_draws_one_and_says_which(pipeline):
    first, second = (pipeline(SOURCE, "make it blue", seed=None) for _ in range(2))
    assert first.seeds != second.seeds
    again = pipeline(SOURCE, "make it blue", seed=first.seeds[0])
    np.testing.assert_array_equal(pixels(again), pixels(first))


def test_several_tasks_of_an_event_loop_may_edit(pipeline):
    async def edit_all():
        return await asyncio.gather(*(pipeline.edit_async(SOURCE, "make it blue", seed=s) for s in range(3)))

    for seed, result in enumerate(asyncio.run(edit_all())):
        np.testing.assert_array_equal(pixels(result), pixels(pipeline(SOURCE, "make it blue", seed=seed)))


def test_it_moves_and_says_what_it_is(pipeline):
    assert pipeline.to("cpu") is pipeline
    assert repr(pipeline).startswith("EditPipeline(") and len(repr(pipeline)) < 200
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA"):
            pipeline.to("cuda")


def test_the_package_lists_its_public_names():
    assert set(dir(earl)) == set(earl.__all__) and "EditPipeline" in dir(earl)


def test_a_source_that_is_given_back_is_known(pipeline):
    source = Image.effect_noise((96, 64), 90).convert("RGB")
    (codes_HW,) = pipeline.vision.encode([source])
    other_HW = codes_HW.copy()
    other_HW[-1, -1] ^= 1
    edits = pipeline.prepare([(source, "make it blue")], SamplingSettings(), [range(4, 8)])
    written = [write_completion(codes, pipeline.tokenizer) for codes in (other_HW, codes_HW, codes_HW.T)]
    (result,) = pipeline.read(edits, [[Completion(tuple(ids), (), "stop") for ids in (*written, ())]])
    assert result.unchanged == (False, True, False, None)
    assert [note.partition(":")[0] for note in result.notes] == [
        "nothing was changed (seed 5)",
        "the model wrote no image (seed 7",
    ]
    assert result.keep([1, 0]).unchanged == (True, False)
    assert result.keep([0]).notes == []


def test_outside_a_mask_the_codes_are_the_sources(pipeline):
    source = Image.effect_noise((64, 64), 90).convert("RGB")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 24, 64))
    result = pipeline(source, "make it blue", mask=mask, num_images=2, seed=1)
    (given_HW,) = pipeline.vision.encode([source])
    for image, completion in zip(result.images, result.completions, strict=True):
        codes_HW = parse_completion(completion.ids, pipeline.tokenizer).codes
        assert (codes_HW[:, 3:] == given_HW[:, 3:]).all() and (codes_HW != given_HW).any()
        kept = np.asarray(pipeline.keep_outside(source, image, result))
        np.testing.assert_array_equal(kept[:, 36:], np.asarray(source)[:, 36:])
    with pytest.raises(ImageError, match="the mask leaves nothing to change; make it transparent"):
        pipeline(source, "make it blue", mask=Image.new("L", (64, 64)))
    with pytest.raises(ImageError, match="the mask has 64x64 pixels, the image 32x64"):
        pipeline(source.crop((0, 0, 32, 64)), "make it blue", mask=mask)
