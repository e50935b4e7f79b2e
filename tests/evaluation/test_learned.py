"""LPIPS, CLIP similarity and FID on random weights in the files that are published for them."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from earl.errors import MissingExtraError
from earl.evaluation import learned, networks
from earl.evaluation.learned import FID_WEIGHTS, LPIPS_WEIGHTS, frechet_distance, load_distance
from earl.evaluation.networks import InceptionStem, Lpips, read_tensors
from earl.evaluation.run import Extras

from .evaluation_parts import run

ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
STEM = {"Conv2d_1a_3x3": (32, 3), "Conv2d_2a_3x3": (32, 32), "Conv2d_2b_3x3": (64, 32)}


def alexnet_weights() -> dict[str, torch.Tensor]:
    """Names and shapes of the published AlexNet, its classifier made small."""
    torch.manual_seed(0)
    found = {"classifier.6.weight": torch.zeros(2, 2)}
    for place, (out, into, side) in ALEXNET.items():
        found[f"features.{place}.weight"] = torch.randn(out, into, side, side) / (into * side**2) ** 0.5
        found[f"features.{place}.bias"] = torch.randn(out) * 0.1
    return found


def inception_weights() -> dict[str, torch.Tensor]:
    """Names and shapes of the first layers of the published Inception, and one layer more."""
    torch.manual_seed(1)
    found = {"fc.bias": torch.zeros(1008)}
    for name, (out, into) in STEM.items():
        found[f"{name}.conv.weight"] = torch.randn(out, into, 3, 3) / (into * 4.5) ** 0.5
        found[f"{name}.bn.weight"] = torch.rand(out) + 0.5
        found[f"{name}.bn.bias"] = torch.randn(out) * 0.1
        found[f"{name}.bn.running_mean"] = torch.randn(out) * 0.1
        found[f"{name}.bn.running_var"] = torch.rand(out) + 0.5
    return found


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty place where torch.hub keeps weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    return place


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


def picture(seed: int, side: int = 48) -> Image.Image:
    """Soft blobs of colour."""
    levels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)


def noisy(image: Image.Image, level: float, seed: int = 0) -> Image.Image:
    pixels = np.asarray(image, np.float64)
    noise = np.random.default_rng(seed).normal(0, level, pixels.shape) if level else 0
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def with_noise(levels=(0, 8, 32, 100)) -> list[tuple[Image.Image, Image.Image]]:
    return [(noisy(picture(3), level), picture(3)) for level in levels]


def test_lpips_is_0_for_equal_images_and_grows_with_noise(hub):
    pytest.importorskip("torchmetrics")
    torch.save(alexnet_weights(), hub / LPIPS_WEIGHTS)
    measure = load_distance("lpips")
    values = measure(with_noise())
    assert values[0] == 0
    assert values == sorted(values) and len(set(values)) == 4
    there, back = measure([(picture(1), picture(2)), (picture(2), picture(1))])
    assert there == pytest.approx(back, rel=1e-4) and there > 0
    assert measure([(picture(1, 31), picture(2, 31))])[0] > 0
    assert measure([(picture(1, 30), picture(2, 30))]) == [None]


def test_lpips_agrees_with_the_librarys_own(monkeypatch):
    """torchmetrics' network, with its AlexNet (torchvision's) put together in the test."""
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    weights = alexnet_weights()
    layers: list[nn.Module] = []
    for place, (out, into, side) in ALEXNET.items():
        if place in (3, 6):
            layers.append(nn.MaxPool2d(3, 2))
        stride, padding = (4, 2) if side == 11 else (1, side // 2)
        convolution = nn.Conv2d(into, out, side, stride=stride, padding=padding)
        parts = {part: weights[f"features.{place}.{part}"] for part in ("weight", "bias")}
        convolution.load_state_dict(parts)
        layers += [convolution, nn.ReLU()]
    features = nn.Sequential(*layers, nn.MaxPool2d(3, 2))
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda *_, **__: features)
    theirs = lpips._LPIPS(net="alex")
    ours = Lpips(weights, read_tensors(learned._last_layers()))
    first, second = torch.rand(2, 3, 3, 64, 56)
    with torch.inference_mode():
        expected = theirs(first, second, normalize=True).flatten()
        found = ours(first, second)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert expected.min() > 0


def test_fid_is_0_for_equal_sets_and_grows_with_noise(hub, monkeypatch):
    """At a quarter of the published side, which makes it 16 times as quick."""
    pytest.importorskip("torchmetrics")
    monkeypatch.setattr(networks, "_INCEPTION_SIDE", 75)
    torch.save(inception_weights(), hub / FID_WEIGHTS)
    pictures = [picture(seed) for seed in range(64)]
    same, little, much = (
        frechet_distance((noisy(image, level, seed), image) for seed, image in enumerate(pictures))
        for level in (0, 12, 60)
    )
    assert 0 <= same < 1e-4 * much
    assert 10 * same < little < much
    with pytest.raises(ValueError, match="at least 64 images with targets, there are 2"):
        frechet_distance(list(zip(pictures, pictures, strict=True))[:2])


def test_inceptions_stem_agrees_with_torch_fidelitys():
    """Layer by layer as torch-fidelity writes them: convolution, its norm with 0.001, ReLU; then pooling."""
    weights = inception_weights()
    pictures = torch.randint(0, 256, (2, 3, 40, 52), dtype=torch.uint8)
    resize = {"size": (299, 299), "mode": "bilinear", "align_corners": False, "antialias": True}
    x = (torch.nn.functional.interpolate(pictures.float(), **resize) - 128) / 128
    for name, stride, padding in (("1a", 2, 0), ("2a", 1, 0), ("2b", 1, 1)):
        w = {key.partition(".")[2]: value for key, value in weights.items() if f"Conv2d_{name}" in key}
        x = torch.nn.functional.conv2d(x, w["conv.weight"], stride=stride, padding=padding)
        mean, var = (w[f"bn.running_{part}"].view(1, -1, 1, 1) for part in ("mean", "var"))
        x = (x - mean) / (var + 0.001).sqrt() * w["bn.weight"].view(1, -1, 1, 1)
        x = (x + w["bn.bias"].view(1, -1, 1, 1)).clamp(min=0)
    expected = torch.nn.functional.max_pool2d(x, 3, 2).mean((2, 3))
    stem = InceptionStem(weights)
    stem.train()
    with torch.inference_mode():
        assert torch.allclose(stem(pictures), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (2, stem.num_features)


def test_clip_is_1_for_equal_images_and_falls_with_noise(clip_folder):
    values = load_distance("clip", clip_model=clip_folder)(with_noise())
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values == sorted(values, reverse=True)
    assert -1 <= values[-1] < 0.9999


def test_an_evaluation_with_all_three(hub, clip_folder, tmp_path):
    pytest.importorskip("torchmetrics")
    torch.save(alexnet_weights(), hub / LPIPS_WEIGHTS)
    torch.save(inception_weights(), hub / FID_WEIGHTS)
    extras = Extras(learned=("lpips", "clip", "fid"), clip_model=clip_folder)
    results = run(tmp_path, count=6, extras=extras)
    assert results["metrics"]["lpips"]["n"] == results["metrics"]["clip"]["n"] == 6
    assert results["metrics"]["lpips"]["mean"] < 0.05  # inverted greys are what the targets are
    assert results["metrics"]["clip"]["mean"] > 0.9
    assert results["not_measured"] == {
        "fid": "FID needs at least 64 images with targets, there are 6",
    }
    again = run(tmp_path, count=6, extras=extras)
    assert again == results
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6 and all({"lpips", "clip"} <= json.loads(line).keys() for line in lines)


def test_without_the_extra_there_is_a_sentence(hub, monkeypatch):
    monkeypatch.setattr(learned, "find_spec", lambda name: None)
    said = r"{} is left out: torchmetrics is missing; pip install 'earl-edit\[metrics\]'"
    with pytest.raises(MissingExtraError, match=said.format("lpips")):
        load_distance("lpips")
    with pytest.raises(MissingExtraError, match=said.format("fid")):
        frechet_distance([])


def test_a_torchvision_that_does_not_fit_is_a_sentence(hub, monkeypatch):
    """What torchvision's wheel for CUDA raises beside a CPU build of torch, as torchmetrics imports it."""
    torch.save(inception_weights(), hub / FID_WEIGHTS)
    real = builtins.__import__

    def importing(name, *rest):
        if name.startswith("torchmetrics"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *rest)

    monkeypatch.setattr(learned, "find_spec", lambda name: name)
    monkeypatch.setattr(builtins, "__import__", importing)
    said = r"torchmetrics cannot be imported \(operator torchvision::nms .*take torchvision .*away"
    with pytest.raises(MissingExtraError, match=said):
        frechet_distance([])


def test_without_weights_there_is_a_sentence(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(learned, "find_spec", lambda name: name)
    for measure, name in (
        (lambda: load_distance("lpips"), LPIPS_WEIGHTS),
        (lambda: frechet_distance([]), FID_WEIGHTS),
    ):
        with pytest.raises(MissingExtraError) as raised:
            measure()
        said = str(raised.value)
        assert "is left out: its weights are not on this machine; fetch" in said
        assert name in said and said.endswith(f"at {hub / name}")
    with pytest.raises(MissingExtraError, match=r"hf download .*no-clip"):
        load_distance("clip", clip_model=str(tmp_path / "no-clip"))


class Program:
    """What a pickle could hold besides tensors."""

    def __reduce__(self):
        return print, ("this must not run",)


def test_other_files_in_their_place_are_refused(hub, capsys):
    pytest.importorskip("torchmetrics")
    weights = inception_weights()
    mixed = {name: value for name, value in weights.items() if name != "Conv2d_2a_3x3.bn.bias"}
    for content, said in (
        (mixed, "it has no 'Conv2d_2a_3x3.bn.bias'"),
        (weights | {"Conv2d_1a_3x3.conv.weight": torch.zeros(8, 3, 3, 3)}, "size mismatch"),
        ({"weights": Program()}, "no file of tensors"),
        ([1, 2], "something else than tensors"),
    ):
        torch.save(content, hub / FID_WEIGHTS)
        with pytest.raises(MissingExtraError, match=said) as raised:
            frechet_distance([])
        assert str(raised.value).startswith("fid is left out: ") and "fetch it again" in str(raised.value)
    (hub / FID_WEIGHTS).write_bytes(b"PK not really")
    with pytest.raises(MissingExtraError, match="is damaged"):
        frechet_distance([])
    assert "must not run" not in capsys.readouterr().out
