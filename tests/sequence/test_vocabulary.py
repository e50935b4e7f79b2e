import numpy as np
import pytest

from earl.errors import SequenceError, TokenizerError
from earl.sequence.vocabulary import Vocabulary


def test_released_ids():
    vocabulary = Vocabulary.released()
    assert vocabulary.to_dict() == {
        "size": 184_622,
        "first_visual": 151_854,
        "codebook_size": 32_768,
        "pad": 151_643,
        "bos": 151_849,
        "eos": 151_850,
        "img": 151_851,
        "boi": 151_852,
        "eoi": 151_853,
        "eol": 151_846,
        "eof": 151_847,
    }
    assert vocabulary.first_special == 151_643


def test_compact_puts_text_then_specials_then_visual():
    vocabulary = Vocabulary.compact(300, 16)
    roles = [getattr(vocabulary, role) for role in ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")]
    assert roles == list(range(300, 308))
    assert (vocabulary.first_special, vocabulary.first_visual, vocabulary.size) == (300, 308, 324)


def test_ids_of_codes():
    vocabulary = Vocabulary.compact(300, 16)
    codes = np.arange(16, dtype=np.uint16).reshape(4, 4)
    ids = vocabulary.visual_ids(codes)
    assert ids.shape == (4, 4) and ids.dtype == np.int64
    assert (ids - vocabulary.first_visual == codes).all()


@pytest.mark.parametrize("codes", [[16], [-1], [0.5]])
def test_codes_outside_the_codebook_are_refused(codes):
    with pytest.raises(SequenceError, match="codes must"):
        Vocabulary.compact(300, 16).visual_ids(np.array(codes))


def test_dict_roundtrip_and_its_errors():
    values = Vocabulary.compact(300, 16).to_dict()
    assert Vocabulary.from_dict(values) == Vocabulary.compact(300, 16)
    with pytest.raises(TokenizerError, match="lacks boi"):
        Vocabulary.from_dict({name: value for name, value in values.items() if name != "boi"})
    with pytest.raises(TokenizerError, match="unknown entries: bogus"):
        Vocabulary.from_dict({**values, "bogus": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eol": 300}, "share the id 300"),
        ({"eof": 308}, "below first_visual"),
        ({"size": 323}, "do not fit"),
        ({"codebook_size": 0}, "do not fit"),
        ({"pad": -1}, "at least 0"),
        ({"pad": 1.5}, "integer"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(change, message):
    values = {**Vocabulary.compact(300, 16).to_dict(), **change}
    with pytest.raises(TokenizerError, match=message):
        Vocabulary.from_dict(values)


@pytest.mark.parametrize(
    ("token_id", "words"),
    [(5, "text id 5"), (304, "boi (304)"), (310, "visual token 2 (310)"), (324, "outside"), (-1, "outside")],
)
def test_ids_in_words(token_id, words):
    assert words in Vocabulary.compact(300, 16).describe(token_id)
