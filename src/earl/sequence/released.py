"""The text tokenizer of the release, from its two files, without running its code.

`emu3.tiktoken` has one line per token, its bytes in base64 and its rank; the rank is the id.
`emu3_vision_tokens.txt` has one name per line. Ids continue after the ranks with
`<|endoftext|>`, `<|im_start|>`, `<|im_end|>`, `<|extra_0|>` ... `<|extra_204|>`, then those names.

tiktoken merges, at each step, the leftmost neighbours whose joined bytes have the lowest rank. A
byte-level BPE of `tokenizers` wants pairs instead, and is given every way to cut a token in two
known tokens, in the order of the tokens' ranks. That is the same: what happens between two
boundaries that stay is what would happen there alone, so a token only ever arises from one pair,
and the other pairs of the same token never meet. Tokens that no merge reaches are still found
when they are a whole piece of the split (`ignore_merges`), as tiktoken does.

Source: `tokenization_emu3.py` of `BAAI/Emu3-Stage1`; the split is Qwen's.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from earl.errors import TokenizerError
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.vocabulary import SPECIAL_NAMES, VISUAL_NAME, Vocabulary

RANKS_FILE = "emu3.tiktoken"
VISION_TOKENS_FILE = "emu3_vision_tokens.txt"
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMED_AFTER_RANKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))


def load_released(folder: str | Path) -> TextTokenizer:
    """Load the released form from a folder with its two files.

    Raises:
        TokenizerError: a file is missing or a line of it cannot be read (the message says which).
    """
    path = Path(folder)
    ranks = read_ranks(path / RANKS_FILE)
    names = _read_text(path / VISION_TOKENS_FILE).split("\n")
    vocabulary = _released_vocabulary(len(ranks), [name.strip() for name in names if name.strip()])
    return TextTokenizer(tokenizer_from_ranks(ranks), vocabulary)


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read a tiktoken file: token bytes -> rank, in the order of the ranks 0, 1, 2, ...

    Raises:
        TokenizerError: missing file, a line that is not `base64 rank`, ranks with holes, or a
            single byte without a rank.
    """
    path = Path(path)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(
                f"{path}, line {number}: expected 'base64 rank', got {line[:60]!r}"
            ) from error
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    if [rank for _, rank in ordered] != list(range(len(ordered))):
        raise TokenizerError(f"{path}: ranks must be 0, 1, 2, ... without holes or repeats")
    if any(bytes([value]) not in ranks for value in range(256)):
        raise TokenizerError(f"{path}: not all 256 single bytes have a rank")
    return dict(ordered)


def tokenizer_from_ranks(ranks: dict[bytes, int]) -> Tokenizer:
    """Turn tiktoken ranks into an equal byte-level BPE; ids are the ranks.

    Args:
        ranks: token bytes -> rank, with all 256 single bytes.
    """
    shown = byte_alphabet()
    names = {token: "".join(shown[value] for value in token) for token in ranks}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        for cut in range(1, len(token)):
            left, right = names.get(token[:cut]), names.get(token[cut:])
            if left is not None and right is not None:
                merges.append((left, right))
    model = models.BPE({names[token]: rank for token, rank in ranks.items()}, merges, ignore_merges=True)
    return dress(Tokenizer(model), normalize=True)


def dress(tokenizer: Tokenizer, *, normalize: bool) -> Tokenizer:
    """Give a byte-level model Qwen's split and the byte decoder; `normalize` brings text to NFC first."""
    if normalize:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_alphabet() -> list[str]:
    """The printable character that stands for each of the 256 bytes (the scheme of GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shown, next_free = [], 0x100
    for value in range(256):
        if value in printable:
            shown.append(chr(value))
        else:
            shown.append(chr(next_free))
            next_free += 1
    return shown


def _released_vocabulary(number_of_ranks: int, vision_names: list[str]) -> Vocabulary:
    names = [*_NAMED_AFTER_RANKS, *vision_names]
    ids = {name: number_of_ranks + offset for offset, name in enumerate(names)}
    if len(ids) != len(names):
        raise TokenizerError(f"{VISION_TOKENS_FILE} names a token twice")
    if missing := [name for name in SPECIAL_NAMES.values() if name not in ids]:
        raise TokenizerError(f"{VISION_TOKENS_FILE} lacks {', '.join(missing)}")
    visual = [name for name in vision_names if VISUAL_NAME.fullmatch(name)]
    codes = [int(name[len("<|visual token ") : -len("|>")]) for name in visual]
    if not visual or codes != list(range(len(visual))) or ids[visual[-1]] - ids[visual[0]] + 1 != len(visual):
        raise TokenizerError(f"{VISION_TOKENS_FILE}: visual tokens must be named in order, 000000 first")
    return Vocabulary(
        size=number_of_ranks + len(names),
        first_visual=ids[visual[0]],
        codebook_size=len(visual),
        **{role: ids[name] for role, name in SPECIAL_NAMES.items()},
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TokenizerError(f"{path} is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path} cannot be read: {error}") from error
