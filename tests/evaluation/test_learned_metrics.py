"""LPIPS, CLIP similarity and FID: the formula on injected networks, and one sentence for what is missing."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from PIL import Image

from earl.errors import MissingExtraError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.learned_metrics import frechet_distance, load_distance

from .evaluation_parts import run


def picture(seed: int, side: int = 48) -> Image.Image:
    """Soft blobs of colour."""
    levels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)


def noisy(image: Image.Image, level: float, seed: int = 0) -> Image.Image:
    pixels = np.asarray(image, np.float64)
    noise = np.random.default_rng(seed).normal(0, level, pixels.shape) if level else 0
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


class Features(torch.nn.Module):
    """Mean colours and their spread: 6 features of an image."""

    num_features = 6

    def forward(self, images):
        values = images.double().flatten(2) / 255
        return torch.cat([values.mean(2), values.std(2)], 1)


def formula(first, second):
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with the roots of the eigenvalues of C1 C2."""
    gap = first.mean(0) - second.mean(0)
    c1, c2 = np.cov(first.T), np.cov(second.T)
    roots = np.sqrt(np.linalg.eigvals(c1 @ c2).astype(complex)).real.sum()
    return float((gap**2).sum() + np.trace(c1) + np.trace(c2) - 2 * roots)


def test_fid_is_the_formula_on_the_networks_features():
    pytest.importorskip("torchmetrics")
    network = Features()
    pairs = [(noisy(picture(seed), 40, seed), picture(seed + 100)) for seed in range(40)]
    stacks = [
        torch.stack([torch.from_numpy(np.array(p[side])).permute(2, 0, 1) for p in pairs]) for side in (0, 1)
    ]
    expected = formula(*(network(stack).numpy() for stack in stacks))
    assert frechet_distance(pairs, network) == pytest.approx(expected, rel=1e-3)
    same = frechet_distance([(target, target) for _, target in pairs], network)
    assert 0 <= same < 1e-3 * expected
    with pytest.raises(ValueError, match="at least 2 images"):
        frechet_distance(pairs[:1], network)


def test_lpips_is_torchmetrics_own(monkeypatch):
    """With a network in the place of AlexNet: torchvision need not be here."""
    lpip = pytest.importorskip("torchmetrics.image.lpip")

    class Stand(torch.nn.Module):
        def __init__(self, *, net_type, normalize):
            super().__init__()
            assert (net_type, normalize) == ("alex", True)

        def forward(self, first, second):
            assert first.shape == second.shape == (1, 3, *first.shape[2:]) and first.max() <= 1
            return (first - second).abs().mean()

    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", Stand, raising=False)
    measure = load_distance("lpips")
    values = measure([(noisy(picture(3), level), picture(3)) for level in (0, 8, 32, 100)])
    assert values[0] == 0 and values == sorted(values)
    assert measure([(picture(1, 30), picture(2, 30))]) == [None], "too small for AlexNet"


@pytest.fixture
def clip_folder(tmp_path) -> str:
    """A CLIP of one layer, saved by transformers."""
    import transformers

    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    torch.manual_seed(0)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    size = {"height": 32, "width": 32}
    transformers.CLIPImageProcessorPil(size=size, crop_size=size).save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


def test_clip_is_1_for_equal_images_and_falls_with_noise(clip_folder):
    measure = load_distance("clip", clip_model=clip_folder)
    values = measure([(noisy(picture(3), level), picture(3)) for level in (0, 8, 32, 100)])
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values == sorted(values, reverse=True)
    assert -1 <= values[-1] < 0.9999


def test_an_evaluation_measures_each_edit_once_and_adds_what_is_asked_for_later(clip_folder, tmp_path):
    run(tmp_path, count=6)
    asked = {"metrics": ("clip",), "clip_model": clip_folder}
    results = run(tmp_path, count=6, **asked)
    assert results.metrics["clip"].count == 6 and results.metrics["clip"].mean > 0.9
    assert results.metrics["psnr"].count == 6
    assert run(tmp_path, count=6, **asked) == results
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert all("clip" in record for record in EvaluationFolder(tmp_path / "run").metrics)
    assert results.networks == {"clip": clip_folder} == run(tmp_path, count=6).networks


def test_another_network_measures_anew(tmp_path, monkeypatch):
    """A number of one network never stands under the name of another."""

    def load(name, *, clip_model):
        return lambda pairs: [float(len(clip_model or ""))] * len(pairs)

    monkeypatch.setattr("earl.evaluation.metrics.load_distance", load)
    means = [run(tmp_path, metrics=("clip",), clip_model=one).metrics["clip"].mean for one in ("ab", "abcd")]
    assert means == [2.0, 4.0]
    later = run(tmp_path, metrics=("lpips",))
    assert later.metrics["clip"].mean == 4.0 and later.metrics["lpips"].count == 6, "what is known stays"
    assert later.networks == {"clip": "abcd"}


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'torchmetrics'"),
        RuntimeError("operator torchvision::nms does not exist\nand more"),
    ],
)
def test_a_library_that_is_missing_or_does_not_fit_is_a_sentence(tmp_path, monkeypatch, error):
    real = builtins.__import__

    def importing(name, *rest):
        if name.startswith("torchmetrics"):
            raise error
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    said = str(error).split("\n")[0]
    for name, measure in (("lpips", lambda: load_distance("lpips")), ("fid", lambda: frechet_distance([]))):
        with pytest.raises(MissingExtraError) as raised:
            measure()
        assert str(raised.value).startswith(f"{name} is left out: {said}; it needs torchmetrics")
    results = run(tmp_path, count=3, metrics=("lpips", "fid"))
    assert set(results.metrics) == {"psnr", "ssim", "l1"}
    assert set(results.not_measured) == {"lpips", "fid"}


def test_a_clip_that_is_not_here_is_a_sentence(tmp_path):
    with pytest.raises(MissingExtraError, match=r"hf download .*no-clip"):
        load_distance("clip", clip_model=str(tmp_path / "no-clip"))
