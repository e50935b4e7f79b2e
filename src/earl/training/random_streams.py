"""Seeds by name, and the state of torch's random generators, so that a resumed run equals a whole one.

Each user of randomness derives a seed of its own by name: adding draws to one never shifts another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on the run's seed and the names, and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_torch(seed: int, *, rank: int = 0) -> None:
    """Seed torch's global generators (dropout), on each rank differently."""
    torch.manual_seed(derive_seed(seed, "torch", rank))


def torch_state() -> dict[str, str]:
    """The state of torch's global generators as hex, by device type."""
    state = {"torch": torch.get_rng_state().numpy().tobytes().hex()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
    return state


def restore_torch(state: Mapping[str, str]) -> None:
    """Undo `torch_state`; the state of a device that is not here is passed over."""
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes_tensor(state["cuda"]))


def _bytes_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
