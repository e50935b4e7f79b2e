"""A small text tokenizer, trained on the instructions that a small model will read.

All 256 bytes have an id, so any text can be written. Most of the other ids go to whole words (with
their leading space), taken as they are when a word appears (`ignore_merges`): an instruction of
eight words is eight ids, and no id is spent on the halves of words. The rest are ordinary
byte-pair merges, so that words never seen in training do not fall apart into single letters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from tokenizers import Tokenizer, models

from earl.errors import TokenizerError
from earl.sequence.reasoning import CLOSING, OPENING
from earl.sequence.released import byte_alphabet, dress
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.vocabulary import Vocabulary

_WORD_SHARE = 0.75
_Pair = tuple[str, str]


def train_text_tokenizer(texts: Iterable[str], *, size: int, codebook_size: int) -> TextTokenizer:
    """Train a tokenizer; the same texts in any order give the same one.

    Ids: text first (bytes, words, merges), then pad, bos, eos, img, boi, eoi, eol, eof, then
    the visual tokens (`Vocabulary.compact`).

    Args:
        texts: instructions, captions, reasoning; markers and digits need not be among them.
        size: most text ids, at least 256 (the bytes). Fewer are used where the texts are so
            small that nothing is left to merge.
        codebook_size: image codes of the vision tokenizer, >= 1.

    Raises:
        TokenizerError: `size` below 256 or `codebook_size` below 1.
    """
    if size < 256:
        raise TokenizerError(f"a text tokenizer needs at least 256 ids, one for each byte; got size={size}")
    if codebook_size < 1:
        raise TokenizerError(f"codebook_size must be at least 1, got {codebook_size}")
    words = _count_words(texts)
    tokens = dict.fromkeys(byte_alphabet())
    word_budget = 256 + int((size - 256) * _WORD_SHARE)
    for word in _by_saving(words):
        if len(tokens) >= word_budget:
            break
        tokens[word] = None
    left = Counter({word: count for word, count in words.items() if word not in tokens})
    merges = _learn_merges(left or words, tokens, size)
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = dress(Tokenizer(models.BPE(ids, merges, ignore_merges=True)), normalize=False)
    return TextTokenizer(tokenizer, Vocabulary.compact(len(ids), codebook_size))


def add_words(tokenizer: TextTokenizer, texts: Iterable[str], *, count: int, least: int = 1) -> TextTokenizer:
    """The tokenizer with the texts' commonest words as ids of their own.

    Ids of text before them stay what they were; the special and visual ids come after the new ones.

    Args:
        texts: in which words are counted, with their leading space and capitals.
        count: most new ids.
        least: occurrences of a word that gets one.

    Raises:
        TokenizerError: the tokenizer is none of `train_text_tokenizer`: it does not take words as they are.
    """
    stored = json.loads(tokenizer.tokenizer.to_str())["model"]
    if not stored.get("ignore_merges"):
        raise TokenizerError("words can be added only to a tokenizer that takes whole words as they are")
    ids: dict[str, int] = dict(stored["vocab"])
    words = Counter({word: number for word, number in _count_words(texts).items() if number >= least})
    for word in [word for word in _by_saving(words) if word not in ids][:count]:
        ids[word] = len(ids)
    merges = [tuple(merge) for merge in stored["merges"]]
    grown = dress(Tokenizer(models.BPE(ids, merges, ignore_merges=True)), normalize=False)
    return TextTokenizer(grown, Vocabulary.compact(len(ids), tokenizer.vocabulary.codebook_size))


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Pieces of the split, in the byte alphabet -> how often they occur."""
    split = dress(Tokenizer(models.BPE()), normalize=False).pre_tokenizer
    words: Counter[str] = Counter()
    for text in texts:
        words.update(piece for piece, _ in split.pre_tokenize_str(text))
    # every model can reason, and the markers stand in no text, so they count as the most frequent
    often = max(words.values(), default=1)
    for piece, _ in split.pre_tokenize_str(OPENING + " " + CLOSING):
        words[piece] += often
    return words


def _by_saving(words: Counter[str]) -> list[str]:
    """Words of two bytes or more, those first that save the most ids."""
    longer = [word for word in words if len(word) > 1]
    return sorted(longer, key=lambda word: (-words[word] * (len(word) - 1), word))


def _learn_merges(words: Counter[str], tokens: dict[str, None], size: int) -> list[_Pair]:
    """Byte-pair merges until there are `size` tokens; adds their results to `tokens`."""
    pieces = {word: list(word) for word in words}
    merges: list[_Pair] = []
    while len(tokens) < size:
        counts: Counter[_Pair] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        tokens["".join(best)] = None
        for word, parts in pieces.items():
            pieces[word] = _merge(parts, best)
    return merges


def _merge(parts: list[str], pair: _Pair) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
