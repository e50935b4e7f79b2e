"""Weight files of a model folder: one safetensors file, or shards with an index.

Pickled weights (`*.bin`, `*.pt`) are refused, never opened: loading them can run code. Reading the
files belongs to `earl.policy` and `earl.vision`.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from earl.errors import ModelFormatError, ModelNotFoundError
from earl.files import checksum
from earl.models.resolve import how_to_fetch, read_json

_WHOLE = 2**28  # bytes of a file of weights that are read whole
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def shards_of(index: Path) -> list[Path]:
    """The files that an index of shards names, beside it, in order.

    Raises:
        ModelNotFoundError: one is missing.
        ModelFormatError: it names none, or something that is no file name.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelFormatError(f"{index} has no weight_map; fetch the file again")
    if not all(
        isinstance(name, str) and 0 < len(name) < 256 and name.isprintable() for name in names.values()
    ):
        raise ModelFormatError(f"{index}: a value of weight_map is no file name; fetch the file again")
    files = [index.parent / Path(name).name for name in dict.fromkeys(names.values())]
    for file in files:
        if not file.is_file():
            raise ModelNotFoundError(
                f"{file} is missing, though {index.name} beside it names it; {how_to_fetch(file)}"
            )
    return files


def check_size(folder: Path, parameters: int) -> None:
    """Refuse a configuration that asks for more weights than there are bytes, before anything is built.

    Raises:
        ModelFormatError: it does. A folder without safetensors is left to `weight_files`.
    """
    if not any(folder.glob("*.safetensors")):
        return
    held = sum(file.stat().st_size for file in weight_files(folder))
    if parameters > held:
        raise ModelFormatError(
            f"{folder} is truncated, or its config.json is of another model: it asks for {parameters:,} "
            f"weights, the files hold {held:,} bytes; fetch it again"
        )


def copy_files(folder: Path, into: Path) -> None:
    """Copy what makes a model's part: configuration and safetensors; nothing else that lies there.

    Links are followed inside the folder and to the Hub cache's own blobs, never elsewhere.

    Raises:
        ModelFormatError: a file is a link that leads out.
    """
    inside = folder.resolve()
    names = ["config.json", "preprocessor_config.json", "model.safetensors.index.json"]
    for file in [*(folder / name for name in names), *weight_files(folder)]:
        if not file.is_file():
            continue
        real = file.resolve()
        blob = real.parent.name == "blobs" and real.parent.parent in inside.parents
        if not (blob or inside in real.parents):
            raise ModelFormatError(
                f"{file} is a link out of its folder, which is not followed; copy the file"
            )
        shutil.copyfile(real, into / file.name)


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
        return shards_of(index)
    if (folder / "pytorch_model.bin.index.json").is_file() or any(
        any(folder.glob(pattern)) for pattern in _PICKLES
    ):
        raise ModelFormatError(
            f"{folder} holds pickled weights only, which can run code and are not opened; write safetensors "
            "with the library that made them, if you trust where they come from"
        )
    raise ModelNotFoundError(
        f"{folder} has no model.safetensors (nor an index of shards); {how_to_fetch(single)}"
    )


def fingerprint(folder: Path) -> str:
    """Fingerprint of a model's weights: sizes and ends of its safetensors files, a dot, all their bytes.

    Of a file above 256 MiB pieces spread over it are read. Earlier versions wrote the part before the dot
    alone; `earl.files.same_digest` takes it for the same weights, which is all that their folders can tell.
    """
    ends, inside = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            ends.update(f"{path.relative_to(folder)} {size}\n".encode())
            ends.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            ends.update(file.read())
        inside.update(checksum(path, most=_WHOLE).encode())
    return f"{ends.hexdigest()}.{inside.hexdigest()}"
