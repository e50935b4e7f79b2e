"""Writing a policy so that nothing is lost: into a folder beside, then swapped in.

The layout is that of transformers (`config.json`, `model.safetensors` or shards with an index), so
that stock tools read it too.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from transformers import Emu3ForCausalLM

from earl.errors import CheckpointError, EarlError


def save_policy(
    model: Emu3ForCausalLM,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Save a policy; what was in the folder before is kept until the new one is complete.

    A peft model is saved as its adapter alone (see `save_adapter`).

    Args:
        model: the policy.
        folder: made or replaced as a whole.
        dtype: of the saved tensors; None keeps the model's.
        state_dict: gathered weights, where the model's own are spread over ranks.

    Raises:
        CheckpointError: the disk is full or not writable; the folder is as before.
    """
    if hasattr(model, "peft_config"):
        from earl.policy.adapters import save_adapter

        save_adapter(model, folder)
        return
    weights = dict(state_dict) if state_dict is not None else model.state_dict()
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in weights.items()}
    config = copy.deepcopy(model.config)
    config.dtype = next(iter(weights.values())).dtype
    config.architectures = ["Emu3ForCausalLM"]

    def write(into: Path) -> None:
        config.save_pretrained(into)
        save_torch_state_dict(weights, into, max_shard_size="5GB", metadata={"format": "pt"})

    replace_folder(Path(folder), write)


def replace_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder, then put it in the place of `folder` in one rename.

    Raises:
        CheckpointError: writing failed; `folder` is as before and the half-written one is gone.
    """
    folder = folder.absolute()
    fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        write(fresh)
        _settle(fresh)
        if folder.exists():
            os.rename(folder, old)
            try:
                os.rename(fresh, folder)
            except OSError:
                os.rename(old, folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(fresh, folder)
    except EarlError:  # some of them are OSErrors too, and say it better
        raise
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not save to {folder} ({error}); what was there before is intact"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Ask the disk to have the bytes before the rename makes them the model.

    Files become as readable as the folder is: safetensors writes its own for the owner alone.
    """
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            with path.open("rb") as file:
                os.fsync(file.fileno())
