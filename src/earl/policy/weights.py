"""Reading weights: safetensors only, one file or shards with an index, names put in one layout.

Pickled weights (`*.bin`, `*.pt`) are refused, never opened: loading them can run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from earl.config.models import how_to_fetch, read_json
from earl.errors import ModelFormatError, ModelNotFoundError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# The text part of a full Emu3ForConditionalGeneration: of today's transformers, and as first published.
_RENAMES = (
    (re.compile(r"^model\.text_model\."), "model."),
    (re.compile(r"^text_model\.(model\.|lm_head\.)"), r"\1"),
)
_NOT_TEXT = re.compile(r"^(model\.)?(vqmodel|vocabulary_mapping)\.|\.rotary_emb\.inv_freq$")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in the index's order where there is one.

    Raises:
        ModelNotFoundError: there are none, or a shard of the index is missing.
        ModelFormatError: there are only pickled weights.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ModelFormatError(f"{index} has no weight_map; fetch the file again")
        files = [folder / Path(name).name for name in dict.fromkeys(names.values())]
        for file in files:
            if not file.is_file():
                raise ModelNotFoundError(
                    f"{file} is missing, though the index beside it names it; {how_to_fetch(file)}"
                )
        return files
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    if (folder / "pytorch_model.bin.index.json").is_file() or any(
        any(folder.glob(pattern)) for pattern in _PICKLES
    ):
        raise ModelFormatError(
            f"{folder} holds pickled weights only, which can run code and are not opened; write safetensors "
            "with `earl convert MODEL FOLDER --allow-pickle`, if you trust where they come from"
        )
    raise ModelNotFoundError(
        f"{folder} has no model.safetensors (nor an index of shards); {how_to_fetch(single)}"
    )


def iterate_weights(folder: Path, device: str = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """(name in the Emu3ForCausalLM layout, tensor) of every text weight; vision weights are skipped.

    Raises:
        ModelFormatError: a file that is truncated or no safetensors.
    """
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt", device=device) as weights:
                for name in weights.keys():  # noqa: SIM118 (not a dict)
                    if not _NOT_TEXT.search(name):
                        yield _rename(name), weights.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelFormatError(
                f"{file} is truncated or no safetensors file ({error}); fetch it again"
            ) from error


def _rename(name: str) -> str:
    for pattern, into in _RENAMES:
        name = pattern.sub(into, name)
    return name


def check_names(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: Path) -> None:
    """Refuse weights that do not fit: a missing, unexpected or wrongly shaped tensor.

    Raises:
        ModelFormatError: names the first offenders.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing or unexpected:
        said = [
            f"{label} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            for label, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise ModelFormatError(f"the weights in {where} do not fit its config.json: {'; '.join(said)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ModelFormatError(
                f"{name} in {where} has shape {tuple(tensor.shape)}, "
                f"its config.json asks for {tuple(expected[name].shape)}"
            )
