import random

import pytest

from earl.errors import TokenizerError
from earl.sequence.reasoning import CLOSING, OPENING
from earl.sequence.trained import train_text_tokenizer

from .conftest import INSTRUCTIONS


def test_ids_come_in_order_and_fit_the_size(small):
    vocabulary = small.vocabulary
    assert vocabulary.pad == vocabulary.first_special <= 380
    assert vocabulary.first_visual == vocabulary.pad + 8
    assert vocabulary.size == vocabulary.first_visual + 48


def test_a_known_word_is_one_id(small):
    for text in set(INSTRUCTIONS):
        assert len(small.encode(text)) == len(text.split())
    assert len(small.encode("remove the two yellow cubes")) == 5


def test_a_size_is_one_id_a_character(small):
    assert len(small.encode("32*32")) == 5


def test_the_markers_are_short_though_no_text_holds_them(small):
    assert len(small.encode(OPENING)) <= 14
    assert len(small.encode(CLOSING)) <= 4


def test_unknown_words_are_shorter_than_their_letters():
    words = ["remove", "moving", "stove", "lover", "over"] * 3
    tokenizer = train_text_tokenizer([*words, "cube " * 50], size=320, codebook_size=4)
    assert len(tokenizer.encode("drover")) < 6


def test_the_order_of_the_texts_does_not_matter(small):
    shuffled = random.Random(0).sample(INSTRUCTIONS, len(INSTRUCTIONS))
    again = train_text_tokenizer(shuffled, size=380, codebook_size=48)
    assert again.fingerprint() == small.fingerprint()


def test_a_large_size_is_used_as_far_as_the_texts_go():
    assert train_text_tokenizer(["ab"], size=5_000, codebook_size=4).vocabulary.first_special < 300


def test_bytes_alone_will_do():
    tokenizer = train_text_tokenizer([], size=256, codebook_size=4)
    assert tokenizer.vocabulary.first_special == 256
    assert len(tokenizer.encode("cube 中")) == len("cube 中".encode())
    assert tokenizer.decode(tokenizer.encode("cube 中")) == "cube 中"


def test_exactly_the_size_where_texts_are_rich():
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdefgh") for _ in range(rng.randrange(2, 9))) for _ in range(500)]
    tokenizer = train_text_tokenizer([" ".join(words)], size=400, codebook_size=4)
    assert tokenizer.vocabulary.first_special == 400


def test_special_names_in_the_texts_stay_text():
    tokenizer = train_text_tokenizer(
        ["<|image start|>", "<|visual token 000001|>"] * 99, size=320, codebook_size=4
    )
    assert (
        max(tokenizer.encode("<|image start|><|visual token 000001|>")) < tokenizer.vocabulary.first_special
    )


@pytest.mark.parametrize(
    ("size", "codebook_size", "message"), [(255, 4, "size=255"), (300, 0, "codebook_size")]
)
def test_bad_sizes(size, codebook_size, message):
    with pytest.raises(TokenizerError, match=message):
        train_text_tokenizer(["a"], size=size, codebook_size=codebook_size)
