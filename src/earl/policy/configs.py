"""Policy sizes by name, and the one configuration class behind every layout.

Everything becomes `transformers.Emu3TextConfig` with its dropout at 0: the stock layer applies
`attention_dropout` (0.1 by default) to its residual branches, and likelihoods in training would
then differ from those in sampling. Sizes other than "8b" (the release) are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from earl.errors import ConfigError, ModelFormatError
from earl.models.resolve import read_json, read_nested
from earl.models.shapes import PolicyShape
from earl.models.weight_files import check_size
from earl.records import Bits
from earl.sequence.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Emu3TextConfig


_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_WIDTHS = (*_NEEDED[1:], "num_key_value_heads")
_REST = {"max_position_embeddings": 4096, "rope_theta": 1_000_000.0, "tie_word_embeddings": False}

# The smallest two see sequences of some hundred tokens: a lower theta gives more of their few
# rotary pairs wavelengths short enough to tell neighbouring positions apart. The shipped model's size
# ties its head to its embedding: most of an edit is copying, and a tied code can be copied as soon as it
# has been seen, where two tables must be taught every code twice (docs/lab-notes/).
SIZES: dict[str, dict[str, Any]] = {
    name: {**dict(zip(_WIDTHS, widths, strict=True)), **_REST, **own}
    for name, widths, own in (
        ("tiny", (64, 160, 2, 4, 2), {"rope_theta": 2_000.0}),
        ("small", (256, 704, 6, 4, 2), {"rope_theta": 2_000.0, "tie_word_embeddings": True}),
        ("medium", (384, 1024, 8, 6, 2), {}),
        ("base", (512, 1408, 12, 8, 4), {}),
        ("large", (1024, 2816, 24, 16, 4), {}),
        ("8b", (4096, 14336, 32, 32, 8), {"max_position_embeddings": 9216}),
    )
}
_CONFIG_KEYS = {*SIZES["8b"], "rms_norm_eps", "initializer_range", "hidden_act"}
QUANT_METHOD = "earl"  # under quantization_config, where other tools look before they read weights


def make_config(size: str | Mapping[str, Any], vocabulary: Vocabulary) -> Emu3TextConfig:
    """A configuration from a name in `SIZES` or from its keys, for a vocabulary of any size.

    Raises:
        ConfigError: unknown name or key, heads that do not divide.
    """
    from transformers import Emu3TextConfig

    if isinstance(size, str):
        if size not in SIZES:
            raise ConfigError(f"no policy size '{size}'; there are {', '.join(SIZES)}")
        keys: dict[str, Any] = dict(SIZES[size])
    else:
        keys = {**SIZES["small"], **size}
    unknown = sorted(set(keys) - _CONFIG_KEYS)
    if unknown:
        raise ConfigError(f"unknown policy key '{unknown[0]}'; there are {', '.join(sorted(_CONFIG_KEYS))}")
    heads, kv_heads = keys["num_attention_heads"], keys["num_key_value_heads"]
    if keys["hidden_size"] % (2 * heads) or heads % kv_heads:
        raise ConfigError(
            f"hidden_size {keys['hidden_size']} must be an even multiple of num_attention_heads {heads}, "
            f"and that a multiple of num_key_value_heads {kv_heads}"
        )
    theta = keys.pop("rope_theta", 1_000_000.0)
    return Emu3TextConfig(
        **keys,
        vocab_size=vocabulary.size,
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        rope_parameters={"rope_type": "default", "rope_theta": float(theta)},
        attention_dropout=0.0,
    )


def read_config(folder: Path) -> Emu3TextConfig:
    """The configuration of a policy folder in the released or a transformers layout.

    Only known fields are read; `auto_map` (remote code) is ignored.

    Raises:
        ModelFormatError: not a policy, a field is missing, or its weights are quantised.
    """
    from transformers import Emu3TextConfig

    raw, fields = read_fields(folder)
    if bits := stored_bits(raw):
        raise ModelFormatError(
            f"{folder} holds {bits} weights, which edit on a CPU with engine = 'earl'; for anything else, as "
            "training, converting or vLLM, take the model that it was made from"
        )
    try:
        return Emu3TextConfig(**fields, rope_parameters=rope_of(raw), attention_dropout=0.0)
    except Exception as error:  # the strict config class raises several kinds
        raise ModelFormatError(
            f"{folder / 'config.json'} is not a usable Emu3 configuration: {' '.join(str(error).split())}"
        ) from error


def read_fields(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON object that describes a folder's policy, and the known fields of it that are given.

    Raises:
        ModelFormatError: not a policy; a field is missing, or one that no model could have.
    """
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type")
    if kind == "emu3":
        text = read_nested(raw, "text_config", folder / "config.json")
        raw = {**text, "quantization_config": raw.get("quantization_config")}
    elif kind not in ("Emu3", "emu3_text_model"):
        raise ModelFormatError(
            f"{folder / 'config.json'} is of type '{kind}', expected Emu3, emu3_text_model or emu3"
        )
    fields = {key: raw[key] for key in PolicyShape.model_fields if raw.get(key) is not None}
    if kind != "emu3":  # a full -hf folder leaves defaults out; the others write every field
        missing = [key for key in _NEEDED if key not in fields]
        if missing:
            raise ModelFormatError(f"{folder / 'config.json'} lacks {', '.join(missing)}")
    try:
        shape = PolicyShape(**fields)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ModelFormatError(
            f"{folder / 'config.json'}: {wrong['loc'][0]} is {str(wrong['input'])[:80]!r}: {wrong['msg']}"
        ) from error
    check_size(folder, shape.parameters // 2 if stored_bits(raw) == "int4" else shape.parameters)
    return raw, fields


def stored_bits(raw: Mapping[str, Any]) -> Bits | None:
    """ "int8" or "int4" where `earl convert --quantize` wrote a `config.json`, else None.

    Raises:
        ModelFormatError: weights that were quantised by something else, which is not read.
    """
    noted = raw.get("quantization_config")
    if not noted:
        return None
    how = noted if isinstance(noted, Mapping) else {}
    if how.get("quant_method") != QUANT_METHOD or how.get("bits") not in ("int8", "int4"):
        raise ModelFormatError(
            f"the weights are quantised by {str(how.get('quant_method'))[:40]!r}, which is not read; take "
            "the model in bfloat16, and quantise it with `earl convert --quantize int8`"
        )
    return "int8" if how["bits"] == "int8" else "int4"


def rope_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Old files say rope_theta and rope_scaling, new ones rope_parameters."""
    try:
        rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
        rope.setdefault("rope_type", rope.pop("type", "default"))
        rope.setdefault("rope_theta", float(raw.get("rope_theta") or 1_000_000.0))
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelFormatError(
            f"the positions (rope) of a config.json are not understood: {error}"
        ) from error
    for name, value in rope.items():
        if isinstance(value, (int, float)) and name != "truncate" and not 0 < value < 1e15:
            raise ModelFormatError(f"rope {name} of a config.json is {value}, expected a number above 0")
    if not isinstance(rope["rope_theta"], (int, float)) or not isinstance(rope["rope_type"], str):
        raise ModelFormatError(f"rope of a config.json is {str(rope)[:200]}, expected a type and a theta")
    return rope
