"""Text to ids and back, for every size of model; text never becomes a special id.

`TextTokenizer` wraps a `tokenizers.Tokenizer` that knows ordinary text ids alone. Special and
visual tokens are not in it, so `<|image start|>` typed by a user comes out as plain pieces of
text, whatever its form; the layout writes those ids by number. Three ways to get one: the
released files (`released.py`), a `tokenizer.json`, or training a small one (`trained.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from earl.errors import SequenceError, TokenizerError
from earl.files import write_text
from earl.sequence.vocabulary import SPECIAL_NAMES, VISUAL_NAME, Vocabulary, visual_name

TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer:
    """Text to ordinary text ids and back.

    Args:
        tokenizer: a `tokenizers.Tokenizer` without added tokens, all of whose ids lie below
            `vocabulary.first_special`.
        vocabulary: the ids of the model this tokenizer feeds.

    Raises:
        TokenizerError: the tokenizer could produce an id that is not ordinary text.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
        if tokenizer.get_added_tokens_decoder():
            raise TokenizerError("a text tokenizer must not hold added tokens: typed text could become one")
        highest = max(tokenizer.get_vocab(with_added_tokens=False).values(), default=-1)
        if highest >= vocabulary.first_special:
            raise TokenizerError(
                f"the tokenizer has a text token of id {highest}, but special ids begin at "
                f"{vocabulary.first_special}"
            )
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self._fingerprint: str | None = None

    def encode(self, text: str) -> list[int]:
        """Text -> ids, all below `vocabulary.first_special`, whatever the text says.

        Unpaired surrogates, which no UTF-8 holds, become U+FFFD. Empty text gives [].

        Raises:
            TokenizerError: the tokenizer's file has a split that fails on this text.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        with _without_panic("the text cannot be encoded"):
            return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; special and visual ids are left out, broken UTF-8 becomes U+FFFD.

        Raises:
            SequenceError: an id is outside the vocabulary.
        """
        text_ids: list[int] = []
        for token_id in ids:
            if not 0 <= token_id < self.vocabulary.size:
                raise SequenceError(f"cannot decode {self.vocabulary.describe(int(token_id))}")
            if token_id < self.vocabulary.first_special:
                text_ids.append(int(token_id))
        return self.tokenizer.decode(text_ids, skip_special_tokens=False)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` into a folder, creating it; other libraries read the same ids from it.

        Special and visual tokens are listed there under their names in the release. The file is whole
        or as it was before.

        Raises:
            OutputError: it cannot be written (disk full, no permission).
        """
        content = json.loads(self.tokenizer.to_str())
        vocabulary = self.vocabulary
        listed = content["model"]["vocab"]
        roles = sorted(SPECIAL_NAMES, key=lambda role: getattr(vocabulary, role))
        for role in roles:
            listed[SPECIAL_NAMES[role]] = getattr(vocabulary, role)
        for code in range(vocabulary.codebook_size):
            listed[visual_name(code)] = vocabulary.first_visual + code
        content["added_tokens"] = [
            _added_token(getattr(vocabulary, role), SPECIAL_NAMES[role]) for role in roles
        ]
        if vocabulary.size > vocabulary.first_visual + vocabulary.codebook_size:
            listed[f"<|unused {vocabulary.size - 1}|>"] = vocabulary.size - 1
        path = Path(folder) / TOKENIZER_FILE
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        write_text(path, text + "\n")

    @classmethod
    def from_folder(cls, folder: str | Path) -> TextTokenizer:
        """Load from a folder with `tokenizer.json`, or with the two files of the release.

        Raises:
            TokenizerError: neither form is there, or a file is damaged (the message names it).
        """
        from earl.sequence.released import RANKS_FILE, load_released

        path = Path(folder)
        if (path / TOKENIZER_FILE).is_file():
            return _load_json(path / TOKENIZER_FILE)
        if (path / RANKS_FILE).is_file():
            return load_released(path)
        raise TokenizerError(f"no text tokenizer in {path}: expected {TOKENIZER_FILE} or {RANKS_FILE}")

    def fingerprint(self) -> str:
        """64 hex digits that change whenever some text would get other ids, or a special id moves."""
        if self._fingerprint is None:
            content = json.loads(self.tokenizer.to_str())
            model = content["model"]
            merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", [])]
            parts = {
                "vocabulary": self.vocabulary.to_dict(),
                "tokens": model["vocab"],
                "merges": merges,
                "whole_words": bool(model.get("ignore_merges", False)),
                "normalizer": content.get("normalizer"),
                "pre_tokenizer": content.get("pre_tokenizer"),
            }
            text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
            self._fingerprint = hashlib.sha256(text.encode("ascii")).hexdigest()
        return self._fingerprint


def _added_token(token_id: int, content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, **flags, "special": True}


def _load_json(path: Path) -> TextTokenizer:
    """Read a `tokenizer.json`, ours or another library's, and keep only its ordinary text."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["model"]["vocab"]
        added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
        if not isinstance(listed, dict):
            raise TypeError(f"a model of type {content['model'].get('type')} lists no ids")
        _check_kinds(content)
        vocabulary = _find_vocabulary({**listed, **added})
        content["model"]["vocab"] = {
            token: token_id for token, token_id in listed.items() if token_id < vocabulary.first_special
        }
        content["added_tokens"] = []
        for unwanted in ("post_processor", "truncation", "padding"):
            content[unwanted] = None
        with _without_panic("it is damaged"):
            tokenizer = Tokenizer.from_str(json.dumps(content))
        return TextTokenizer(tokenizer, vocabulary)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error
    except Exception as error:  # `tokenizers` raises bare Exception for a content it cannot read
        raise TokenizerError(f"{path} is not a usable tokenizer file: {error}") from error


@contextmanager
def _without_panic(what: str) -> Iterator[None]:
    """A Rust panic, which is no `Exception`, becomes a TokenizerError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{what} ({error}); take the tokenizer of the release") from error


_KINDS = {
    "normalizer": {"Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase"},
    "pre_tokenizer": {"Sequence", "ByteLevel", "Split", "Digits"},
    "decoder": {"Sequence", "ByteLevel"},
}
"""What a byte-level BPE is made of. With other kinds, and with prefixes of words, the `tokenizers` library
can panic or end the process on a damaged file."""


def _check_kinds(content: dict[str, Any]) -> None:
    """Refuse a `tokenizer.json` that is no byte-level BPE. Raises TypeError, KeyError."""
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise TypeError(f"its model is {model['type']!r}, expected a byte-level BPE")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise TypeError(f"its model has {name} = {model[name]!r}, which a byte-level BPE has not")
    for part, kinds in _KINDS.items():
        waiting = [content.get(part)]
        while waiting:
            one = waiting.pop()
            if one is None:
                continue
            if one["type"] not in kinds:
                raise TypeError(f"its {part} is {one['type']!r}, expected {', '.join(sorted(kinds))}")
            waiting += one.get(
                {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}.get(part, "decoders"), []
            )


def _find_vocabulary(ids_by_name: dict[str, int]) -> Vocabulary:
    """Find the special and visual ids by their names in the release."""
    if missing := [name for name in SPECIAL_NAMES.values() if name not in ids_by_name]:
        raise TokenizerError(f"lacks the special tokens {', '.join(missing)}")
    visual = {
        int(found[1]): token_id
        for name, token_id in ids_by_name.items()
        if (found := VISUAL_NAME.fullmatch(name)) is not None
    }
    first_visual = visual.get(0, -1)
    if any(visual.get(code) != first_visual + code for code in range(len(visual))) or not visual:
        raise TokenizerError("its visual tokens are missing or their ids do not follow each other")
    size = max(ids_by_name.values()) + 1
    specials = {role: ids_by_name[name] for role, name in SPECIAL_NAMES.items()}
    return Vocabulary(size=size, first_visual=first_visual, codebook_size=len(visual), **specials)
