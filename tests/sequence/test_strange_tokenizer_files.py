"""Files `tokenizer.json` that would make the library panic or end the process are refused in a sentence."""

from __future__ import annotations

import json

import pytest

from earl.errors import TokenizerError
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer

LARGE = 2**62


@pytest.fixture
def folder(tmp_path):
    train_text_tokenizer(["make it night", "add a red cube"], size=300, codebook_size=32).save(tmp_path)
    return tmp_path


def change(folder, part, value):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    if part == "model":
        content["model"] |= value
    else:
        content[part] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        (
            "normalizer",
            {"type": "Precompiled", "precompiled_charsmap": "AAAAAAA="},
            "normalizer is 'Precompiled'",
        ),
        (
            "normalizer",
            {"type": "Precompiled", "precompiled_charsmap": "/////w=="},
            "normalizer is 'Precompiled'",
        ),
        (
            "normalizer",
            {"type": "Replace", "pattern": {"String": ""}, "content": "y"},
            "normalizer is 'Replace'",
        ),
        (
            "normalizer",
            {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "x"}]},
            "normalizer is 'Prepend'",
        ),
        ("pre_tokenizer", {"type": "FixedLength", "length": 0}, "pre_tokenizer is 'FixedLength'"),
        ("decoder", {"type": "Strip", "content": "a", "start": LARGE, "stop": LARGE}, "decoder is 'Strip'"),
        ("model", {"type": "WordLevel", "unk_token": "nope"}, "model is 'WordLevel'"),
        ("model", {"continuing_subword_prefix": "Ġ"}, "continuing_subword_prefix = 'Ġ'"),
        ("model", {"dropout": 0.5}, "dropout = 0.5"),
        ("pre_tokenizer", {"pretokenizers": []}, "not a usable tokenizer file"),
        ("decoder", ["ByteLevel"], "not a usable tokenizer file"),
    ],
)
def test_what_is_no_byte_level_bpe_is_refused(folder, part, value, said):
    change(folder, part, value)
    with pytest.raises(TokenizerError, match=said):
        TextTokenizer.from_folder(folder)


def test_what_a_byte_level_bpe_may_have_is_read(folder):
    ids = TextTokenizer.from_folder(folder).encode("make it night")
    change(folder, "normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}]})
    change(folder, "model", {"continuing_subword_prefix": "", "end_of_word_suffix": None, "dropout": None})
    assert TextTokenizer.from_folder(folder).encode("make it night") == ids
