import json

import pytest
from tokenizers import Tokenizer

from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.sequence.vocabulary import Vocabulary

TEXTS = ["make the cube red", "12*12 32*32 4*6 3*3 12*1", "Let's think step by step"] * 4
LONG_SIGNS = ("12", "*3", "3*3", "00", "128*128")


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level; beside what it learnt it has text ids of several digits and stars."""
    content = json.loads(train_text_tokenizer(TEXTS, size=290, codebook_size=64).tokenizer.to_str())
    ids = content["model"]["vocab"]
    for sign in LONG_SIGNS:
        ids[sign] = len(ids)
    vocabulary = Vocabulary.compact(len(ids) + 2, 64)  # and two text ids that no text has
    return TextTokenizer(Tokenizer.from_str(json.dumps(content)), vocabulary)
