"""Tokenizers for the tests of this room: one trained on the spot, one in the released form."""

from __future__ import annotations

import base64
import itertools
import random
from pathlib import Path

import pytest

from earl.sequence.released import RANKS_FILE, VISION_TOKENS_FILE
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.sequence.vocabulary import Vocabulary

INSTRUCTIONS = [
    "add a red cube to the left of the blue ball",
    "remove the green cone",
    "change the colour of the cylinder to purple",
    "make the background a beach at night",
    "swap the two yellow pyramids",
    "turn the image into a pencil sketch",
    "make it exactly three cubes",
] * 20
CODEBOOK = 48


def released_like_ranks(number: int, seed: int = 0) -> dict[bytes, int]:
    """`number` ranks as dense in ambiguous merges as can be: every short string of a few letters,
    in shuffled order, so that a token's parts often rank after the token itself."""
    rng = random.Random(seed)
    symbols = [symbol.encode() for symbol in "etaoinshrdl ,.01é中<|>"] + [b"\n", b"  ", b"the"]
    longer: dict[bytes, None] = {}
    for length in (2, 3, 4):
        longer.update(dict.fromkeys(b"".join(parts) for parts in itertools.product(symbols, repeat=length)))
    picked = rng.sample(list(longer), number - 256)
    singles = [bytes([value]) for value in range(256)]
    return {token: rank for rank, token in enumerate([*singles, *picked])}


def write_released_form(folder: Path, ranks: dict[bytes, int], codebook_size: int) -> Path:
    """Write the two files of the release into a folder."""
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (folder / RANKS_FILE).write_text(lines, encoding="utf-8")
    names = ["<|image token|>", "<|image start|>", "<|image end|>"]
    names += [f"<|visual token {code:06d}|>" for code in range(codebook_size)]
    (folder / VISION_TOKENS_FILE).write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small() -> TextTokenizer:
    return train_text_tokenizer(INSTRUCTIONS, size=380, codebook_size=CODEBOOK)


@pytest.fixture(scope="session")
def ranks() -> dict[bytes, int]:
    return released_like_ranks(151_643)


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory: pytest.TempPathFactory, ranks: dict[bytes, int]) -> Path:
    folder = tmp_path_factory.mktemp("released")
    return write_released_form(folder, ranks, Vocabulary.released().codebook_size)


@pytest.fixture(scope="session")
def released(released_folder: Path) -> TextTokenizer:
    return TextTokenizer.from_folder(released_folder)
