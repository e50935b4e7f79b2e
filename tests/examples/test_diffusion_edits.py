"""`examples/diffusion_edits.py` with a tiny random InstructPix2Pix: what `--predictions` reads comes out."""

from __future__ import annotations

import inspect
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.editors import PredictionsEditor

diffusers = pytest.importorskip("diffusers")
SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "diffusion_edits.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder in the layout of `timbrooks/instruct-pix2pix`, weights random."""
    torch.manual_seed(0)
    words = {name: n for n, name in enumerate(["a", "a</w>", "<|startoftext|>", "<|endoftext|>"])}
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        bos_token_id=2,
        eos_token_id=3,
    )
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer(vocab=words, merges=[], model_max_length=77),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            norm_num_groups=8,
        ),
        scheduler=diffusers.EulerAncestralDiscreteScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("model")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    rows = []
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (90, 120, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "data" / f"{number}.png")
        rows.append({"id": f"t/{number}", "source": f"{number}.png", "instruction": "a"})
    (tmp_path / "data" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def test_settings_by_name():
    """Those of the paper's scripts: the pipelines' own defaults, OmniGen's guidance and square."""
    named = {name: vars(one) for name, one in SCRIPT["SETTINGS"].items()}
    defaults = inspect.signature(diffusers.StableDiffusionInstructPix2PixPipeline.__call__).parameters
    own = [defaults[n].default for n in ("num_inference_steps", "guidance_scale", "image_guidance_scale")]
    for name in ("instruct-pix2pix", "magicbrush", "aurora"):
        assert [named[name][key] for key in ("steps", "text", "image", "side")] == [*own, 0]
    assert [name for name, one in named.items() if not one["ancestral"]] == ["aurora"]
    assert [named["omnigen"][key] for key in ("steps", "text", "image", "side")] == [50, 2.0, 1.6, 512]


def test_omnigen_is_called_by_the_names_that_it_has(data):
    """Its signature takes what is given; the source is a square."""
    takes = inspect.signature(diffusers.OmniGenPipeline.__call__).parameters

    class OmniGenPlayed:
        def __call__(self, **options):
            assert set(options) <= set(takes)
            self.options = options
            return SimpleNamespace(images=options["input_images"])

    task = next(iter(open_benchmark(str(data)).tasks()))
    edited = SCRIPT["edit"](played := OmniGenPlayed(), task, SCRIPT["SETTINGS"]["omnigen"], 3)
    assert edited.size == (512, 512) and played.options["prompt"] == "<img><|image_1|></img> a"
    assert (played.options["guidance_scale"], played.options["img_guidance_scale"]) == (2.0, 1.6)


def test_a_benchmark_from_edits_to_predictions(model, data, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(data), "--model", str(model), "-o", str(out), "--device", "cpu", "--steps", "2"]
    SCRIPT["main"](words)
    assert "2 images in" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["t/0", "t/1"]
    images = [Image.open(out / line["image"]) for line in lines]
    assert [image.size for image in images] == [(120, 90)] * 2, "their own size"
    assert json.loads((out / "sampling.json").read_text())["steps"] == 2
    editor = PredictionsEditor(out, area=64 * 64)
    tasks = [(task, Image.open(task.source)) for task in open_benchmark(str(data)).tasks()]
    assert [edited.candidates[0].state for edited in editor.edit(tasks)] == ["edited", "edited"]

    first = images[0].tobytes()
    (out / "predictions.jsonl").write_text(json.dumps(lines[1]) + "\n")  # cut off; the first is made again
    SCRIPT["main"](words)
    assert "1 images in" in capsys.readouterr().out
    assert Image.open(out / lines[0]["image"]).tobytes() == first, "a task has a seed of its own"
