"""PIE-Bench: its folder read, and its figures against their formulas on tiny random networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from earl.cli import main
from earl.config import BenchmarkSettings, EvaluationSettings
from earl.errors import DataError, MissingExtraError
from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.editors import PredictionsEditor
from earl.evaluation.metrics import psnr
from earl.evaluation.region_metrics import (
    Region,
    clip_scores,
    kept,
    load_pie,
    outside,
    self_similarity,
    structure_distance,
)
from earl.evaluation.results import read_results
from earl.evaluation.run import evaluate

SIDE = 512


def picture(seed: int, side: int = 64) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)


def mask_of(box: tuple[int, int, int, int], side: int = 64) -> Image.Image:
    mask = Image.new("L", (side, side))
    mask.paste(255, box)
    return mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The publisher's folder with three edits, the region the upper half of the image."""
    root = tmp_path_factory.mktemp("pie")
    rows = {}
    for number, kind in enumerate(("0", "4", "9")):
        name = f"{number}_folder/{number:012d}.jpg"
        (root / "annotation_images" / name).parent.mkdir(parents=True)
        picture(number, SIDE).save(root / "annotation_images" / name)
        rows[f"{number:012d}"] = {
            "image_path": name,
            "original_prompt": "a [round] cake on a plate",
            "editing_prompt": "a [square] cake on a plate",
            "editing_instruction": f"make it square {number}",
            "editing_type_id": kind,
            "blended_word": "cake cake",
            "mask": [0, SIDE * SIDE // 2],
        }
    (root / "mapping_file.json").write_text(json.dumps(rows))
    return root


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """DINO's and CLIP's classes with few random weights, saved by transformers."""
    root = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=32, patch_size=16, **size)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(root / "dino")
    words = ["a", "round", "square", "cake", "on", "plate"]
    letters = sorted({letter for word in words for letter in word})
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(vocabulary)}
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 40, **size}
    text |= {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1}
    vision = {"image_size": 32, "patch_size": 16, **size}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(root / "clip")
    transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(root / "clip")
    square = {"height": 32, "width": 32}
    transformers.CLIPImageProcessorPil(size=square, crop_size=square).save_pretrained(root / "clip")
    return root


def test_the_folder_as_published(folder):
    tasks = list(open_benchmark("pie-bench", BenchmarkSettings(path=str(folder))).tasks())
    assert [(task.id, task.family, task.group) for task in tasks] == [
        ("000000000000", "random", "complex"),
        ("000000000001", "change content", "simple"),
        ("000000000002", "change style", "simple"),
    ]
    assert tasks[0].instruction == "make it square 0" and tasks[0].caption == "a square cake on a plate"
    mask = np.asarray(tasks[0].mask) > 0
    assert mask[: SIDE // 2].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
    assert not mask[SIDE // 2 : -1, 1:-1].any()
    for settings in (BenchmarkSettings(), BenchmarkSettings(hub=True)):
        with pytest.raises(DataError, match="--path; it is not on the Hub"):
            open_benchmark("pie-bench", settings)


def test_a_broken_mask_is_told(folder, tmp_path):
    rows = json.loads((folder / "mapping_file.json").read_text())
    rows["000000000000"]["mask"] = [3]
    (tmp_path / "mapping_file.json").write_text(json.dumps(rows))
    (tmp_path / "annotation_images").symlink_to(folder / "annotation_images")
    tasks = list(open_benchmark("pie-bench", BenchmarkSettings(path=str(tmp_path))).tasks())
    assert "no list of starts and lengths" in tasks[0].problem and not tasks[1].problem


def test_outside_the_region_only(networks):
    source, mask = picture(1), mask_of((0, 0, 64, 32))
    edited = source.copy()
    edited.paste((255, 0, 0), (0, 0, 64, 32))
    same = kept(Region(source, edited, mask, ""))
    assert same == {"psnr_kept": 100.0, "ssim_kept": 1.0, "mse_kept": 0.0}
    below = source.copy()
    below.paste((255, 0, 0), (0, 48, 64, 64))
    values = kept(Region(source, below, mask, ""))
    first, second = (np.asarray(image, float) / 255 for image in (below, source))
    first[:32] = second[:32] = 0
    assert values["mse_kept"] == pytest.approx(((first - second) ** 2).mean(), abs=1e-6)
    assert values["psnr_kept"] == pytest.approx(psnr(first, second), abs=1e-4)
    black = [np.asarray(image)[:32].max() for image in outside(Region(source, below, mask, ""))]
    assert black == [0, 0]
    assert kept(Region(source, below, mask_of((0, 0, 64, 64)), ""))["psnr_kept"] is None


def keys_by_hand(model, image):
    """The last layer's keys from the state before it, by its weights."""
    side = 224
    x = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None]
    x = torch.nn.functional.interpolate(x, (side, side), mode="bilinear")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        states = model(x, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
        last = model.layers[-1]
        return (
            last.layernorm_before(states[1])[0] @ last.attention.k_proj.weight.T + last.attention.k_proj.bias
        )


def test_structure_distance_is_its_formula(networks):
    model = transformers.ViTModel.from_pretrained(networks / "dino", add_pooling_layer=False).eval()
    images = [picture(1), picture(2)]
    keys = [keys_by_hand(model, image).double().numpy() for image in images]
    assert keys[0].shape == (1 + (224 // 16) ** 2, 24)
    sims = []
    for keys_ND in keys:
        unit = keys_ND / np.linalg.norm(keys_ND, axis=1, keepdims=True)
        sims.append(unit @ unit.T)
    expected = ((sims[0] - sims[1]) ** 2).mean()
    assert structure_distance(model, *images) == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-6 and structure_distance(model, images[0], images[0]) == 0
    assert self_similarity(torch.tensor([[3.0, 4.0], [4.0, 3.0]])).tolist() == [
        [pytest.approx(1), pytest.approx(0.96)],
        [pytest.approx(0.96), pytest.approx(1)],
    ]


def test_clip_scores_are_cosines(networks):
    model = transformers.CLIPModel.from_pretrained(networks / "clip").eval()
    processor = transformers.CLIPProcessor.from_pretrained(networks / "clip")
    caption = "a square cake on a plate"
    scores = clip_scores(model, processor, [picture(1), picture(2)], caption)
    for image, score in zip((picture(1), picture(2)), scores, strict=True):
        pixels = processor.image_processor(images=[image], return_tensors="pt")
        with torch.no_grad():
            seen = model.visual_projection(model.vision_model(**pixels).pooler_output)[0]
            words = processor.tokenizer([caption], return_tensors="pt")
            read = model.text_projection(model.text_model(**words).pooler_output)[0]
        cosine = float(seen @ read / (seen.norm() * read.norm()))
        assert score == pytest.approx(max(0, 100 * cosine), abs=1e-3)


def test_the_region_alone_is_shown_to_clip(networks):
    measure = load_pie(str(networks / "dino"), str(networks / "clip"))
    mask = mask_of((0, 0, 64, 32))
    values = measure(Region(picture(1), picture(2), mask, "a cake"))
    black = picture(2)
    black.paste((0, 0, 0), (0, 32, 64, 64))
    other = measure(Region(picture(1), black, mask, "a cake"))
    assert values["clip_text_edited"] == other["clip_text_edited"] == other["clip_text"]
    assert values["structure"] > 0
    with pytest.raises(MissingExtraError, match=r"hf download nobody/nothing.*--dino-model"):
        load_pie("nobody/nothing", str(networks / "clip"))


def test_from_the_folder_to_table_10_without_a_judge(folder, networks, tmp_path, capsys):
    for number in range(3):
        image = picture(number, SIDE)
        image.paste((200, 30, 30), (0, 0, SIDE, SIDE // 4))
        (tmp_path / "theirs").mkdir(exist_ok=True)
        image.save(tmp_path / "theirs" / f"{number:012d}.png")
    out = tmp_path / "out"
    words = ["evaluate", "pie-bench", "--path", str(folder), "--predictions", str(tmp_path / "theirs")]
    words += ["--metrics", "pie", "--dino-model", str(networks / "dino")]
    assert main([*words, "--clip-model", str(networks / "clip"), "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "structure distance to the source" in shown and "judged by nobody yet" in shown
    results = read_results(out)
    assert {name: value.count for name, value in results.metrics.items()} == dict.fromkeys(
        ("structure", "psnr_kept", "ssim_kept", "mse_kept", "clip_text", "clip_text_edited"), 3
    )
    assert results.metrics["psnr_kept"].mean > 40, "JPEG and resizing apart, nothing changed outside"
    assert main(["evaluate", "table", str(out), "--paper", "10"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("theirs"))
    assert float(line.split()[1]) == pytest.approx(1000 * results.metrics["structure"].mean, abs=0.01)


def test_metrics_are_added_later_and_measured_once(folder, networks, tmp_path):
    (tmp_path / "theirs").mkdir()
    picture(0, SIDE).save(tmp_path / "theirs" / "000000000000.png")
    benchmark = open_benchmark("pie-bench", BenchmarkSettings(path=str(folder)))
    editor = PredictionsEditor(tmp_path / "theirs")
    plain = evaluate(tmp_path / "run", benchmark, editor, None)
    assert set(plain.metrics) == {"psnr_kept", "ssim_kept", "mse_kept"}
    more = EvaluationSettings(
        metrics=("pie",), dino_model=str(networks / "dino"), clip_model=str(networks / "clip")
    )
    again = evaluate(tmp_path / "run", benchmark, editor, None, more)
    assert again.metrics["structure"].mean == pytest.approx(0, abs=1e-4)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
