"""Layouts on disk, files that do not fit, and what comes back after saving."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Emu3VQVAE

from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError, OutputError, SequenceError
from earl.vision import loading
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer

VQ = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors" / "vq"
TINY = {"channel_multiplier": (1, 1), "codebook_size": 64}


@pytest.fixture
def released(tmp_path):
    """A copy of the released layout to damage."""
    folder = tmp_path / "released"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(VQ / name, folder / name)
    return folder


SAME_NAMES = (  # in the released layout and in the transformers one
    "codebook_size",
    "embed_dim",
    "in_channels",
    "out_channels",
    "temporal_downsample_factor",
    "num_res_blocks",
    "attn_resolutions",
)


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))


def test_saved_is_read_back_by_us_and_by_transformers(tmp_path, noise):
    ours = VisionTokenizer(create_vision_tokenizer(1, temporal_downsample_factor=2, **TINY), area=1024)
    save_vision_tokenizer(ours, tmp_path / "v")
    again = load_vision_tokenizer(tmp_path / "v")
    assert again.area == 1024 and again.fingerprint() == ours.fingerprint()
    (codes,) = ours.encode([noise])
    np.testing.assert_array_equal(again.encode([noise])[0], codes)
    stock = Emu3VQVAE.from_pretrained(tmp_path / "v")
    for name, tensor in stock.state_dict().items():
        torch.testing.assert_close(tensor, ours.model.state_dict()[name], atol=0, rtol=0)


def test_the_released_layout_saved_as_ours_gives_the_same_codes(tmp_path, noise):
    released = load_vision_tokenizer(VQ)
    save_vision_tokenizer(load_vision_tokenizer(VQ, dtype="bfloat16"), tmp_path)  # as it is stored there
    assert (tmp_path / "model.safetensors").stat().st_size < 1.02 * (VQ / "model.safetensors").stat().st_size
    ours = load_vision_tokenizer(tmp_path)
    assert ours.fingerprint() == released.fingerprint()
    np.testing.assert_array_equal(ours.encode([noise])[0], released.encode([noise])[0])


def test_inside_a_model_folder_the_area_is_the_model_s(tmp_path):
    save_vision_tokenizer(create_vision_tokenizer(**TINY), tmp_path / "vision", area=1024)
    (tmp_path / "earl.json").write_text(json.dumps({"format": 1, "area": 4096}))
    assert load_vision_tokenizer(tmp_path).area == 4096
    assert load_vision_tokenizer(tmp_path / "vision").area == 1024


def test_widths_not_in_the_vectors_through_the_key_map(tmp_path, noise):
    """A random model written in the released layout by inverting the map by hand."""
    model = create_vision_tokenizer(
        3, temporal_downsample_factor=4, channel_multiplier=(1, 2), attn_resolutions=(1,), num_res_blocks=2
    )
    weights = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("down_block.down", "down").replace("up_block.up", "up")
        name = name.replace("middle_block.attn_norm", "mid.attn_1.norm").replace("middle_block", "mid")
        name = re.sub(r"attn_norms\.(\d+)", r"attn.\1.norm", name)
        if re.search(r"_proj\.", name):
            name = name.replace("out_proj", "proj_out")
            name = re.sub(r"\b([qkv])_proj", r"\1", name)
            tensor = tensor[:, :, None, None] if name.endswith("weight") else tensor
        weights[name] = tensor.contiguous()
    save_file(weights, tmp_path / "model.safetensors")
    c = model.config
    config = {
        "model_type": "Emu3VisionVQ",
        "auto_map": {"AutoModel": "modeling_emu3visionvq.Emu3VisionVQModel"},
        "ch": c.base_channels,
        "ch_mult": list(c.channel_multiplier),
        "z_channels": c.latent_channels,
        "double_z": False,
        **{name: value for name, value in c.to_dict().items() if name in SAME_NAMES},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "modeling_emu3visionvq.py").write_text("raise SystemExit('remote code ran')")
    loaded = load_vision_tokenizer(tmp_path)
    direct = VisionTokenizer(model)
    assert loaded.fingerprint() == direct.fingerprint()
    np.testing.assert_array_equal(*(t.encode([noise], resize=False)[0] for t in (loaded, direct)))


def test_weights_that_do_not_fit(released):
    path = released / "model.safetensors"
    good = load_file(path)
    cases = {
        "missing encoder.conv_in.bias": {k: v for k, v in good.items() if k != "encoder.conv_in.bias"},
        "unexpected extra": good | {"extra": torch.zeros(1)},
        "quantize.embedding.weight": good | {"quantize.embedding.weight": torch.zeros(511, 4)},
    }
    for words, weights in cases.items():
        save_file(weights, path)
        with pytest.raises(ModelFormatError, match=words):
            load_vision_tokenizer(released)


@pytest.mark.parametrize("kept", [0, 5, 1000, 500_000])
def test_truncated_weights(released, kept):
    path = released / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFormatError, match="truncated") as caught:
        load_vision_tokenizer(released)
    assert "\n" not in str(caught.value)


def test_pickles_are_refused_unopened(released):
    (released / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"no model\.safetensors"):
        load_vision_tokenizer(released)
    (released / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelFormatError, match="pickled"):
        load_vision_tokenizer(released)


def test_configs_that_do_not_fit(released):
    path = released / "config.json"
    for words, changes in {
        "of type 'llama'": {"model_type": "llama"},
        "do not fit": {"num_res_blocks": 2},
        "has shape": {"codebook_size": 1024},
        "not a usable|do not make": {"ch": "wide"},
        "do not make a model": {"ch": 33},
        "double latent": {"double_z": True},
    }.items():
        before = path.read_text()
        rewrite(path, **changes)
        with pytest.raises(ModelFormatError, match=words):
            load_vision_tokenizer(released)
        path.write_text(before)
    path.write_text("{")
    with pytest.raises(ModelFormatError, match="JSON"):
        load_vision_tokenizer(released)


@pytest.mark.parametrize("mean", [[0.48, 0.46, 0.41], [0.5], 0.5, True, "0.5", {"r": 0.5}])
def test_other_normalisation_is_refused(mean, released):
    rewrite(released / "preprocessor_config.json", image_mean=mean)
    with pytest.raises(ModelFormatError, match="image_mean"):
        load_vision_tokenizer(released)


def test_unknown_name_and_dtype(tmp_path):
    with pytest.raises(ModelNotFoundError):
        load_vision_tokenizer(tmp_path / "absent")
    with pytest.raises(ConfigError, match="float32"):
        load_vision_tokenizer(VQ, dtype="int8")


def test_bfloat16_is_what_was_asked_for():
    assert load_vision_tokenizer(VQ).model.dtype == torch.float32
    half = load_vision_tokenizer(VQ, dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert half.encode([Image.new("RGB", (16, 16))], resize=False)[0].shape == (2, 2)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    first = create_vision_tokenizer(1, **TINY)
    save_vision_tokenizer(first, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(weights, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loading, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save_vision_tokenizer(create_vision_tokenizer(2, **TINY), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_codes_of_another_tokenizer_are_refused():
    tokenizer = VisionTokenizer(create_vision_tokenizer(**TINY))
    for codes, words in [
        (np.full((2, 2), 64), "0 to 63"),
        (np.full((2, 2), -1), "from -1"),
        (np.zeros((2, 2)), "float64"),
        (np.zeros(4, int), "rows, columns"),
        (np.zeros((0, 3), int), "rows, columns"),
    ]:
        with pytest.raises(SequenceError, match=words):
            tokenizer.decode([codes])


def test_fingerprint_changes_with_any_weight():
    model = create_vision_tokenizer(**TINY)
    before = VisionTokenizer(model).fingerprint()
    with torch.no_grad():
        model.decoder.conv_out.bias[0] += 1e-3
    assert VisionTokenizer(model).fingerprint() != before
