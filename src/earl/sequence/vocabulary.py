"""Vocabulary of a model: the id ranges of text, special tokens and visual tokens.

Ids come in this order: ordinary text in [0, first_special), then the special ids, then the
visual tokens in [first_visual, first_visual + codebook_size). "Text columns" of a model's
head are [0, first_visual): the special ids are among them, because the release lets the model
choose `boi` and `img` itself wherever text is due.

Names and released ids: the tokenizer of `BAAI/Emu3-Stage1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from earl.errors import SequenceError, TokenizerError

SPECIAL_NAMES: dict[str, str] = {
    "pad": "<|endoftext|>",
    "bos": "<|extra_203|>",
    "eos": "<|extra_204|>",
    "img": "<|image token|>",
    "boi": "<|image start|>",
    "eoi": "<|image end|>",
    "eol": "<|extra_200|>",
    "eof": "<|extra_201|>",
}
"""Role -> the token's name in the release; tokenizer files find the ids by these names."""

VISUAL_NAME = re.compile(r"<\|visual token (\d+)\|>")


def visual_name(code: int) -> str:
    """The release's name of one image code, `<|visual token 000042|>`."""
    return f"<|visual token {code:06d}|>"


@dataclass(frozen=True)
class Vocabulary:
    """The ids of one model; every field is an id or a count of ids.

    Args:
        size: columns of the model's head, at least first_visual + codebook_size.
        first_visual: id of image code 0; text columns are [0, first_visual).
        codebook_size: number of image codes, >= 1.
        pad, bos, eos: padding, begin and end of a sequence.
        img, boi, eoi: before the first row of an image; begin and end of an image.
        eol, eof: end of a row; end of the rows.

    Raises:
        TokenizerError: two roles share an id, an id is not below first_visual, or the
            visual tokens do not fit into `size`.
    """

    size: int
    first_visual: int
    codebook_size: int
    pad: int
    bos: int
    eos: int
    img: int
    boi: int
    eoi: int
    eol: int
    eof: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
                raise TokenizerError(f"vocabulary: {name} must be an integer of at least 0, got {value!r}")
            object.__setattr__(self, name, int(value))
        taken: dict[int, str] = {}
        for role in SPECIAL_NAMES:
            special = getattr(self, role)
            if special in taken:
                raise TokenizerError(f"vocabulary: {role} and {taken[special]} share the id {special}")
            if special >= self.first_visual:
                raise TokenizerError(
                    f"vocabulary: {role} is {special}, but every special id must lie below "
                    f"first_visual, {self.first_visual}"
                )
            taken[special] = role
        if self.codebook_size < 1 or self.first_visual + self.codebook_size > self.size:
            raise TokenizerError(
                f"vocabulary: {self.codebook_size} visual tokens from id {self.first_visual} on "
                f"do not fit into {self.size} ids"
            )

    @classmethod
    def released(cls) -> Vocabulary:
        """The ids of Emu3 and of every released EARL model: 184,622 of them."""
        return cls(
            size=184_622,
            first_visual=151_854,
            codebook_size=32_768,
            pad=151_643,
            bos=151_849,
            eos=151_850,
            img=151_851,
            boi=151_852,
            eoi=151_853,
            eol=151_846,
            eof=151_847,
        )

    @classmethod
    def compact(cls, text_size: int, codebook_size: int) -> Vocabulary:
        """The ids of a small model: `text_size` of text, the 8 special ids, then the visual tokens."""
        first_visual = text_size + len(SPECIAL_NAMES)
        return cls(
            size=first_visual + codebook_size,
            first_visual=first_visual,
            codebook_size=codebook_size,
            **{role: text_size + offset for offset, role in enumerate(SPECIAL_NAMES)},
        )

    @property
    def first_special(self) -> int:
        """The first id that no text may ever become; ordinary text is [0, first_special)."""
        return min(int(getattr(self, role)) for role in SPECIAL_NAMES)

    def is_visual(self, token_id: int) -> bool:
        """Whether an id is a visual token."""
        return self.first_visual <= token_id < self.first_visual + self.codebook_size

    def visual_ids(self, codes: np.ndarray) -> np.ndarray:
        """Image codes of any shape -> int64 visual token ids of the same shape.

        Raises:
            SequenceError: the codes are not integers or one is outside [0, codebook_size).
        """
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iu":
            raise SequenceError(f"image codes must be integers, got an array of {codes.dtype}")
        if codes.size and (codes.min() < 0 or codes.max() >= self.codebook_size):
            raise SequenceError(
                f"image codes must lie in [0, {self.codebook_size}), got {codes.min()} to {codes.max()}"
            )
        return codes.astype(np.int64) + self.first_visual

    def describe(self, token_id: int) -> str:
        """An id in words, for messages: `eol (151846)`, `visual token 17 (151871)`, `text id 40`."""
        for role in SPECIAL_NAMES:
            if token_id == getattr(self, role):
                return f"{role} ({token_id})"
        if self.is_visual(token_id):
            return f"visual token {token_id - self.first_visual} ({token_id})"
        if 0 <= token_id < self.first_special:
            return f"text id {token_id}"
        if 0 <= token_id < self.size:
            return f"unused id {token_id}"
        return f"id {token_id}, outside the vocabulary of {self.size}"

    def to_dict(self) -> dict[str, int]:
        """The fields by name, as written into a model's `earl.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, int]) -> Vocabulary:
        """Read what `to_dict` wrote. Raises TokenizerError for missing or unknown names."""
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - set(values)):
            raise TokenizerError(f"vocabulary lacks {', '.join(missing)}")
        if unknown := sorted(set(values) - names):
            raise TokenizerError(f"vocabulary has unknown entries: {', '.join(unknown)}")
        return cls(**values)
