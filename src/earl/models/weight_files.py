"""Which files hold a model's weights: one safetensors file, or shards with an index.

Pickled weights (`*.bin`, `*.pt`) are refused, never opened: loading them can run code. Reading the
files belongs to `earl.policy` and `earl.vision`.
"""

from __future__ import annotations

from pathlib import Path

from earl.errors import ModelFormatError, ModelNotFoundError
from earl.models.resolve import how_to_fetch, read_json

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, shards in the order of their index.

    A whole `model.safetensors` comes before an index, as in transformers.

    Raises:
        ModelNotFoundError: there are none, or a shard of the index is missing.
        ModelFormatError: there are only pickled weights, or the index names no shards.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
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
