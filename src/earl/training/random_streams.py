"""Named random streams from one seed, so that a resumed run draws what an uninterrupted one would.

Each user of randomness asks for its own stream by name: adding draws to one never shifts another.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on the run's seed and the names, and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class RandomStreams:
    """Numpy generators by name, plus torch's global generators (dropout), with their state as JSON.

    Args:
        seed: of the run.
        rank: torch's own generator differs by rank; the named streams are equal on all ranks,
            because every rank must draw the same batches.
    """

    def __init__(self, seed: int, *, rank: int = 0) -> None:
        self.seed = seed
        self._generators: dict[str, np.random.Generator] = {}
        torch.manual_seed(derive_seed(seed, "torch", rank))

    def numpy(self, name: str) -> np.random.Generator:
        """The generator of that name; the same object at each call."""
        if name not in self._generators:
            self._generators[name] = np.random.Generator(np.random.PCG64(derive_seed(self.seed, name)))
        return self._generators[name]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: numpy states as dicts of integers, torch's as hex."""
        state: dict[str, Any] = {
            "numpy": {name: generator.bit_generator.state for name, generator in self._generators.items()},
            "torch": torch.get_rng_state().numpy().tobytes().hex(),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state["numpy"].items():
            self.numpy(name).bit_generator.state = value
        torch.set_rng_state(_bytes_tensor(state["torch"]))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(_bytes_tensor(state["cuda"]))


def _bytes_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
