"""The released tokenizer files against the real `tiktoken`, and their errors."""

import base64
import itertools
import random
import unicodedata

import pytest
import tiktoken

from earl.errors import TokenizerError
from earl.sequence.released import (
    RANKS_FILE,
    SPLIT_PATTERN,
    VISION_TOKENS_FILE,
    byte_alphabet,
    read_ranks,
    tokenizer_from_ranks,
)
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.vocabulary import Vocabulary

from .conftest import released_like_ranks, write_released_form


def as_tiktoken(ranks):
    return tiktoken.Encoding("test", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})


def test_the_ids_are_the_released_ones(released, ranks):
    assert len(ranks) == 151_643
    assert released.vocabulary == Vocabulary.released()


def test_equal_to_tiktoken_on_the_letters_of_its_tokens(released, ranks):
    real, rng = as_tiktoken(ranks), random.Random(0)
    letters = "etaoinshrdl  ,.01é中<|>\n\t'TSx😀"
    for _ in range(3_000):
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(80)))
        assert released.encode(text) == real.encode_ordinary(text), text


def test_equal_to_tiktoken_on_any_characters(released, ranks):
    real, rng = as_tiktoken(ranks), random.Random(1)
    spans = [
        (0, 0x80),
        (0x80, 0x250),
        (0x250, 0x3000),
        (0x3000, 0xD800),
        (0xE000, 0x11000),
        (0x1F300, 0x1FB00),
    ]
    for _ in range(3_000):
        picked = [rng.randrange(*rng.choice(spans)) for _ in range(rng.randrange(12))]
        text = unicodedata.normalize("NFC", "".join(map(chr, picked)))
        assert released.encode(text) == real.encode_ordinary(text), ascii(text)


@pytest.mark.parametrize(
    "text",
    [
        "Make the man's hat red, don't touch the dog's collar.",
        "I'LL  have\r\n\r\n 1234 cats;   and\ttabs   ",
        "把背景换成夜晚",
        "e\u0301 ﬁ Ω ſ 'ſ",
        " " * 300 + "the" * 200,
    ],
)
def test_equal_to_the_released_code_on_sentences(released, ranks, text):
    expected = as_tiktoken(ranks).encode(unicodedata.normalize("NFC", text), disallowed_special=())
    assert released.encode(text) == expected


def test_equal_to_tiktoken_for_any_ranks_at_all():
    """Small random rank lists, bytes anywhere in the order: tokens that no merge can reach,
    parts that rank after their whole, the same token cut in many ways."""
    for seed in range(250):
        rng = random.Random(seed)
        letters = b"ab "[: rng.choice([1, 2, 3])]
        strings = [bytes(x) for n in range(2, 7) for x in itertools.product(letters, repeat=n)]
        tokens = rng.sample(strings, min(len(strings), rng.randrange(1, 20)))
        tokens += [bytes([value]) for value in range(256)]
        rng.shuffle(tokens)
        ranks = {token: rank for rank, token in enumerate(tokens)}
        real, ours = as_tiktoken(ranks), tokenizer_from_ranks(ranks)
        for length in (5, 12, 30, 150):
            text = "".join(rng.choice(letters.decode()) for _ in range(length))
            assert ours.encode(text).ids == real.encode_ordinary(text), (seed, text)


def test_the_byte_alphabet_is_the_libraries_own():
    from tokenizers import pre_tokenizers

    shown = byte_alphabet()
    assert sorted(shown) == sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "é \n~中"
    assert split.pre_tokenize_str(text)[0][0] == "".join(shown[value] for value in text.encode())


@pytest.fixture
def folder(tmp_path):
    return write_released_form(tmp_path, released_like_ranks(400), codebook_size=4)


def test_any_number_of_ranks_and_codes(folder):
    vocabulary = TextTokenizer.from_folder(folder).vocabulary
    assert vocabulary.pad == 400 and vocabulary.boi == 400 + 208 + 1
    assert (vocabulary.first_visual, vocabulary.size) == (611, 615)


def test_ranks_may_stand_in_any_order(folder):
    before = TextTokenizer.from_folder(folder).fingerprint()
    lines = (folder / RANKS_FILE).read_text().splitlines()
    (folder / RANKS_FILE).write_text("\n\n".join(reversed(lines)))
    assert TextTokenizer.from_folder(folder).fingerprint() == before


def test_missing_second_file(folder):
    (folder / VISION_TOKENS_FILE).unlink()
    with pytest.raises(TokenizerError, match=r"emu3_vision_tokens\.txt is missing"):
        TextTokenizer.from_folder(folder)


@pytest.mark.parametrize("line", ["", "abc", "%%% 400", "YWFhYWFhYWE= x", "YQ== 400 1"])
def test_a_bad_line_is_named_by_its_number(folder, line):
    with (folder / RANKS_FILE).open("a") as file:
        file.write(line + "\n" if line else "\xff 400\n")
    with pytest.raises(TokenizerError, match="line 401"):
        read_ranks(folder / RANKS_FILE)


def test_ranks_with_a_hole_and_missing_bytes(folder):
    with (folder / RANKS_FILE).open("a") as file:
        file.write(base64.b64encode(b"zzzzzz").decode() + " 402\n")
    with pytest.raises(TokenizerError, match="without holes"):
        read_ranks(folder / RANKS_FILE)
    (folder / RANKS_FILE).write_text("YQ== 0\n")
    with pytest.raises(TokenizerError, match="256 single bytes"):
        read_ranks(folder / RANKS_FILE)


def test_a_file_that_is_not_text(folder):
    (folder / RANKS_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TokenizerError, match="cannot be read"):
        TextTokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("<|image token|>\n<|image start|>\n<|visual token 000000|>", r"lacks <\|image end\|>"),
        ("<|image token|>\n<|image start|>\n<|image end|>\n", "in order"),
        ("<|image token|>\n<|image start|>\n<|image end|>\n<|visual token 000001|>", "in order"),
        ("<|image token|>\n<|image token|>\n<|image start|>\n<|image end|>", "twice"),
        (
            "<|image token|>\n<|image start|>\n<|image end|>\n"
            "<|visual token 000000|>\n<|other|>\n<|visual token 000001|>",
            "in order",
        ),
    ],
)
def test_a_bad_list_of_vision_tokens(folder, names, message):
    (folder / VISION_TOKENS_FILE).write_text(names)
    with pytest.raises(TokenizerError, match=message):
        TextTokenizer.from_folder(folder)
