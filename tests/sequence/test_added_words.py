"""Whole-word ids added to a small tokenizer: old ids stay, any text still comes back."""

import pytest

from earl.errors import TokenizerError
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import add_words, train_text_tokenizer

TEXTS = ["remove the red cube", "paint the cube blue"] * 4


@pytest.fixture(scope="module")
def pair() -> tuple[TextTokenizer, TextTokenizer]:
    old = train_text_tokenizer(TEXTS, size=300, codebook_size=16)
    return old, add_words(old, ["Erase the scarlet cube!", "erase the scarlet cube"] * 3, count=20, least=2)


def test_old_ids_stay_and_new_words_are_one_id(pair):
    old, new = pair
    assert new.encode("remove the red cube") == old.encode("remove the red cube")
    assert len(new.encode(" scarlet")) == 1 < len(old.encode(" scarlet"))
    assert new.encode(" scarlet")[0] >= old.vocabulary.first_special
    assert new.vocabulary.first_special > old.vocabulary.first_special
    assert new.vocabulary.codebook_size == old.vocabulary.codebook_size


@pytest.mark.parametrize(
    "text", ["erase the scarlet cube", "Zwölf Boxkämpfer", "", "  a\n\n b", "<|image start|>"]
)
def test_text_comes_back(pair, text):
    assert pair[1].decode(pair[1].encode(text)) == text


def test_rare_words_and_more_than_asked_get_none(pair):
    old, _ = pair
    grown = add_words(old, [*TEXTS, "seldom seen"], count=1, least=2)
    assert grown.vocabulary.first_special - old.vocabulary.first_special <= 1


def test_a_tokenizer_without_whole_words_is_refused(pair):
    from tokenizers import Tokenizer, models

    plain = TextTokenizer(Tokenizer(models.BPE({"a": 0}, [])), pair[0].vocabulary)
    with pytest.raises(TokenizerError, match="whole words"):
        add_words(plain, TEXTS, count=3)
