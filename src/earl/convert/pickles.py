"""Conversion of pickled weights (`pytorch_model.bin`, one file or shards) to safetensors.

Only tensors are read: `torch.load(weights_only=True)` refuses everything else. It is asked for by a
flag all the same, because a pickle is a program and that guard is all there is between it and us.
"""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from earl.errors import ModelFormatError
from earl.models.weight_files import shards_of

INDEX = "pytorch_model.bin.index.json"
_SINGLE = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth")


def pickle_files(folder: Path) -> list[Path]:
    """The pickled weights of a folder, [] where it has safetensors or none at all.

    Raises:
        ModelNotFoundError: the index names a shard that is not there.
    """
    if any(folder.glob("*.safetensors")):
        return []
    if (folder / INDEX).is_file():
        return shards_of(folder / INDEX)
    return [folder / name for name in _SINGLE if (folder / name).is_file()][:1]


def unpickle(folder: Path, into: Path) -> Path:
    """Write a folder with the same configuration and the weights as safetensors, shard by shard.

    Raises:
        ModelFormatError: a file that holds anything but named tensors; nothing of it was run.
    """
    into.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file() and file.suffix in (".json", ".txt", ".tiktoken") and file.name != INDEX:
            shutil.copyfile(file, into / file.name)
    files = pickle_files(folder)
    weight_map: dict[str, str] = {}
    for number, file in enumerate(files, start=1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        tensors = _read(file)
        save_file(tensors, into / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))
    if len(files) == 1:
        (into / name).rename(into / "model.safetensors")
    else:
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        (into / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return into


def _read(file: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        first = str(error).strip().split("\n")[0]
        raise ModelFormatError(
            f"{file} holds more than tensors, or is damaged ({first}); nothing of it was run"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelFormatError(f"{file} holds a {type(content).__name__}, expected tensors by name")
    # Tensors may share memory in a pickle (tied weights); safetensors wants each one's own.
    return {str(name): value.detach().clone().contiguous() for name, value in content.items()}
