"""Loading vision tokenizers from the released, the transformers or our layout, and saving in ours.

Ours is the transformers layout (`config.json` of type `emu3_vqgan`, `model.safetensors`) with a
`preprocessor_config.json` that also names the area in px². Weights are safetensors only, every
tensor must be there and fit, and no code of a checkpoint is run.

Source: key names of BAAI/Emu3-VisionTokenizer and of `transformers` Emu3VQVAE.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError
from earl.files import new_file, write_text
from earl.models.resolve import read_json, read_nested, resolve_model
from earl.models.tensors import check_tensors, parse_dtype, read_tensors
from earl.records import SIZE_RULES, SizeRule
from earl.vision.parts import VisionConfig, VisionParts
from earl.vision.tokenizer import DEFAULT_AREA, VisionTokenizer

if TYPE_CHECKING:
    from transformers import Emu3VQVAE

RELEASED, STOCK, FULL = "Emu3VisionVQ", "emu3_vqgan", "emu3"  # FULL: a policy and a tokenizer in one
_IN_FULL = re.compile(r"^(?:model\.)?vqmodel\.(.*)$")
_CONFIG_NAMES = {  # released -> transformers; the others are the same in both
    "ch": "base_channels",
    "ch_mult": "channel_multiplier",
    "z_channels": "latent_channels",
    "double_z": "double_latent",
}
_KEY_NAMES = (  # in this order
    (re.compile(r"^encoder\.down\."), "encoder.down_block.down."),
    (re.compile(r"^decoder\.up\."), "decoder.up_block.up."),
    (re.compile(r"\.mid\.attn_1\.norm\."), ".middle_block.attn_norm."),
    (re.compile(r"\.mid\."), ".middle_block."),
    (re.compile(r"\.attn\.(\d+)\.norm\."), r".attn_norms.\1."),
    (re.compile(r"(\.attn\.\d+|\.attn_1)\.(q|k|v)\."), r"\1.\2_proj."),
    (re.compile(r"(\.attn\.\d+|\.attn_1)\.proj_out\."), r"\1.out_proj."),
)
_LINEAR = re.compile(r"\.(q|k|v|out)_proj\.weight$")


def load_vision_tokenizer(
    name_or_folder: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    revision: str | None = None,
) -> VisionTokenizer:
    """Load a vision tokenizer, ready to encode and decode.

    Args:
        name_or_folder: "world", a model folder of ours, a vision tokenizer's folder (released,
            transformers, ours), a full -hf folder, or a hub id such as "BAAI/Emu3-VisionTokenizer".
        dtype: what it computes in. "auto" is float32, also where the weights are stored in
            bfloat16: only there are the codes those of the release.
        device: where the weights go.
        revision: of a hub id.

    Raises:
        ModelNotFoundError: no such model, or it has no vision tokenizer, or no weights.
        ModelFormatError: pickled, truncated or not fitting weights, a config that is none of a
            vision tokenizer.
        ConfigError: unknown dtype.
    """
    wanted = parse_dtype(dtype) or torch.float32
    found = resolve_model(name_or_folder, revision, parts=("vision",))
    folder = found.need("vision")
    config, released = read_vision_config(folder)
    model = _fill(config, _read_weights(folder, released), folder)
    torch.nn.Module.to(model, device=torch.device(device), dtype=wanted)
    area = found.meta.get("area") or _read_area(folder)
    rule = read_size_rule(folder, found.meta)
    return VisionTokenizer(model, area=int(area), rule=rule, codes_of=_read_codes_of(folder))


def save_vision_tokenizer(
    tokenizer: VisionTokenizer | Emu3VQVAE,
    folder: str | Path,
    *,
    area: int | None = None,
    rule: SizeRule | None = None,
) -> Path:
    """Write `config.json`, `model.safetensors`, `preprocessor_config.json`, each whole or not at all.

    Args:
        tokenizer: a VisionTokenizer, or the model of a learner.
        folder: made where absent.
        area: px² at which images are tokenised; the tokenizer's own, else 65,536.
        rule: how images are resized, "snap" or "release"; the tokenizer's own, else "snap".

    Returns:
        The folder.

    Raises:
        OutputError: it cannot be written (disk full, no permission); files there before are intact.
    """
    model = tokenizer.parts if isinstance(tokenizer, VisionTokenizer) else tokenizer
    if area is None:
        area = tokenizer.area if isinstance(tokenizer, VisionTokenizer) else DEFAULT_AREA
    if rule is None:
        rule = tokenizer.rule if isinstance(tokenizer, VisionTokenizer) else "snap"
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    config: dict[str, Any] = {name: getattr(model.config, name) for name in VisionConfig.model_fields}
    config |= {"architectures": ["Emu3VQVAE"], "model_type": STOCK}
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    images = _preprocessor(area, rule)
    if isinstance(tokenizer, VisionTokenizer) and tokenizer.codes_of:
        images["codes_of"] = tokenizer.codes_of
    folder = Path(folder)
    with new_file(folder / "model.safetensors") as fresh:
        save_file(weights, fresh, metadata={"format": "pt"})
    for name, content in (("config.json", config), ("preprocessor_config.json", images)):
        write_text(folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n")
    return folder


def read_vision_config(folder: Path) -> tuple[VisionConfig, bool]:
    """The configuration in `folder`, and whether it is of the released layout.

    Raises:
        ModelFormatError: of another kind of model, or with widths that do not fit together.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} has no config.json; give the folder of a vision tokenizer")
    raw = read_json(path)
    kind = raw.get("model_type")
    if kind == FULL:
        raw, kind = read_nested(raw, "vq_config", path), STOCK
    if kind not in (RELEASED, STOCK):
        raise ModelFormatError(f"{path} is of type '{kind}', a vision tokenizer has {RELEASED} or {STOCK}")
    given = {name: value for name, value in raw.items() if value is not None}
    if kind == RELEASED:
        given = {_CONFIG_NAMES.get(name, name): value for name, value in given.items()}
        given.pop("hidden_size", None)
    try:
        config = VisionConfig(**given)
    except ConfigError as error:
        raise ModelFormatError(f"{path} is not a usable configuration ({error}); fetch it again") from error
    if kind == RELEASED:
        config = config.replace(hidden_size=config.top)
    if config.hidden_size != config.top:
        raise ModelFormatError(
            f"{path}: hidden_size is {config.hidden_size}, the widths make it {config.top}"
        )
    if config.latent_channels != config.embed_dim or config.double_latent:
        raise ModelFormatError(f"{path}: a double latent or one wider than the codes is not supported")
    return config, kind == RELEASED


def to_stock(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """A released weight under its transformers name; 1x1 convolutions of attention become matrices."""
    for pattern, into in _KEY_NAMES:
        name = pattern.sub(into, name)
    if _LINEAR.search(name) and tensor.ndim == 4:
        tensor = tensor[:, :, 0, 0]
    return name, tensor


def _read_weights(folder: Path, released: bool) -> dict[str, Tensor]:
    """By transformers name; of a folder that holds a policy too, the tokenizer's only."""
    stored = read_tensors(folder)
    if read_json(folder / "config.json").get("model_type") == FULL:
        stored = ((part[1], tensor) for name, tensor in stored if (part := _IN_FULL.match(name)))
    return dict(to_stock(name, tensor) if released else (name, tensor) for name, tensor in stored)


def _fill(config: VisionConfig, weights: dict[str, Tensor], folder: Path) -> VisionParts:
    """The layers with these weights, each accounted for."""
    try:
        with torch.device("meta"):
            model = VisionParts(config)
    except (ValueError, RuntimeError) as error:
        raise ModelFormatError(
            f"{folder / 'config.json'}: the widths do not make a model ({error})"
        ) from error
    expected = model.state_dict()
    check_tensors(expected, weights, folder)
    # counters and weights alike get the type that the layers give them
    typed = {name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}
    model.load_state_dict(typed, assign=True)
    return model.eval()


def _read_area(folder: Path) -> int:
    """From `preprocessor_config.json`: ours names it; the release works at 256 x 256."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return DEFAULT_AREA
    raw = read_json(path)
    for key in ("image_mean", "image_std"):
        if raw.get(key) not in (None, [0.5] * 3):
            raise ModelFormatError(f"{path}: {key} is {raw[key]}, Emu3's pixels are normalised with 0.5")
    area = raw.get("area", DEFAULT_AREA)
    if not isinstance(area, int) or area < 64:
        raise ModelFormatError(f"{path}: area is {area!r}, expected pixels² from 64")
    return area


def _read_codes_of(folder: Path) -> str:
    """The fingerprint that a tokenizer with a newly taught decoder goes by, "" of all others."""
    path = folder / "preprocessor_config.json"
    return str(read_json(path).get("codes_of") or "") if path.is_file() else ""


def read_size_rule(folder: str | Path, meta: Mapping[str, Any] = MappingProxyType({})) -> SizeRule:
    """The size rule of the vision tokenizer in `folder`.

    Where neither the model nor the tokenizer names one, the released layout has the release's.

    Args:
        meta: `earl.json` of the model that the tokenizer belongs to.

    Raises:
        ModelFormatError: the rule that is named is none.
    """
    path = Path(folder) / "preprocessor_config.json"
    own = meta.get("size") or (read_json(path).get("size_rule") if path.is_file() else None)
    if own is None:
        return "release" if read_json(Path(folder) / "config.json").get("model_type") == RELEASED else "snap"
    if own in SIZE_RULES:
        return own
    raise ModelFormatError(f"{folder}: the size rule is {own!r}, expected one of {', '.join(SIZE_RULES)}")


def _preprocessor(area: int, rule: SizeRule) -> dict[str, Any]:
    return {
        "image_processor_type": "Emu3VisionVQImageProcessor",
        "area": area,
        "size_rule": rule,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "spatial_factor": 8,
    }
