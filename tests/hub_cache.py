"""A Hugging Face cache as `hf download` leaves it: blobs, snapshots of links to them, refs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

VECTORS = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors"
EARL = "mair-lab/earl-sft-simple.rl-simple-n-complex-scaled"


def fill_cache(hub: Path, name: str, files: dict[str, bytes], revision: str = "main") -> Path:
    """Put a repository into the cache; returns its snapshot folder."""
    home = hub / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()
    snapshot = home / "snapshots" / commit
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        blob = home / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    ref = home / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return snapshot


def files_of(folder: Path, *names: str) -> dict[str, bytes]:
    """Content by name; all files of the folder where no name is given."""
    chosen = names or [path.name for path in folder.iterdir() if path.is_file()]
    return {name: (folder / name).read_bytes() for name in chosen}


def released_policy(model_folder: Path) -> dict[str, bytes]:
    """The policy of a folder of ours as the release lays it out: flat config of type Emu3, remote code."""
    source = model_folder / "policy"
    config = json.loads((source / "config.json").read_text())
    rope = config.pop("rope_parameters", {})
    config |= {"model_type": "Emu3", "rope_theta": rope.get("rope_theta", 1e6), "rope_scaling": None}
    config |= {"attention_dropout": 0.1, "auto_map": {"AutoConfig": "configuration_emu3.Emu3Config"}}
    code = b"raise RuntimeError('remote code was run')\n"
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": (source / "model.safetensors").read_bytes(),
        "modeling_emu3.py": code,
        "configuration_emu3.py": code,
    }


def fake_hub(hub: Path, model_folder: Path, name: str = EARL, revision: str = "main") -> Path:
    """EARL's release in small: weights in one repository, the tokenizers in two others."""
    fill_cache(hub, "BAAI/Emu3-Stage1", files_of(model_folder, "tokenizer.json"))
    fill_cache(hub, "BAAI/Emu3-VisionTokenizer", files_of(model_folder / "vision"))
    return fill_cache(hub, name, released_policy(model_folder), revision)


def copy_with_pickle(folder: Path, into: Path) -> Path:
    """The same folder with `pytorch_model.bin` in place of safetensors."""
    import torch
    from safetensors.torch import load_file

    shutil.copytree(folder, into)
    torch.save(load_file(into / "model.safetensors"), into / "pytorch_model.bin")
    (into / "model.safetensors").unlink()
    return into
