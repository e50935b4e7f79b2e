"""What holds for every text tokenizer: text stays text, files give back the same, errors are clear."""

import json
import random
import unicodedata

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from earl.errors import SequenceError, TokenizerError
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.sequence.vocabulary import SPECIAL_NAMES, Vocabulary, visual_name

NAMES = [*SPECIAL_NAMES.values(), visual_name(0), visual_name(47), "<|im_start|>", "<|extra_0|>"]
FRAGMENTS = [*NAMES, "<|", "|>", "<|image", " start|>", "<|visual token ", "000001", "\n", " ", "cube", "é"]


def adversarial_texts(number, seed):
    rng = random.Random(seed)
    for _ in range(number):
        parts = []
        for _ in range(rng.randrange(1, 8)):
            choice = rng.random()
            if choice < 0.6:
                parts.append(rng.choice(FRAGMENTS))
            elif choice < 0.8:
                name = rng.choice(NAMES)
                parts.append(name[: rng.randrange(len(name))])
            else:
                parts.append(chr(rng.choice([rng.randrange(0x80), rng.randrange(0x110000)])))
        yield "".join(parts)


@pytest.mark.parametrize("which", ["small", "released"])
def test_no_text_becomes_a_special_or_visual_id(which, request):
    tokenizer = request.getfixturevalue(which)
    first_special = tokenizer.vocabulary.first_special
    for text in [*NAMES, "".join(NAMES), *adversarial_texts(3_000, seed=1)]:
        ids = tokenizer.encode(text)
        assert all(0 <= token_id < first_special for token_id in ids), text
        assert ids or not text


@pytest.mark.parametrize("which", ["small", "released"])
def test_typed_names_read_as_plain_text(which, request):
    tokenizer = request.getfixturevalue(which)
    for name in NAMES:
        assert tokenizer.decode(tokenizer.encode(f"add {name} here")) == f"add {name} here"


def test_any_text_comes_back(small, released):
    rng = random.Random(2)
    for text in adversarial_texts(2_000, seed=3):
        if any(0xD800 <= ord(character) < 0xE000 for character in text):
            continue
        assert small.decode(small.encode(text)) == text
        normal = unicodedata.normalize("NFC", text)
        assert released.decode(released.encode(normal)) == normal
    every_byte = bytes(range(256)).decode("latin-1")
    assert small.decode(small.encode(every_byte)) == every_byte
    shuffled = "".join(rng.sample(every_byte, 256))
    assert small.decode(small.encode(shuffled)) == shuffled


def test_unpaired_surrogates_and_empty_text(small):
    assert small.decode(small.encode("a\ud800b")) == "a\ufffdb"
    assert small.encode("") == [] and small.decode([]) == ""


def test_decode_leaves_out_special_and_visual_ids(small):
    vocabulary = small.vocabulary
    ids = [
        vocabulary.bos,
        *small.encode("red"),
        vocabulary.first_visual + 3,
        *small.encode(" cube"),
        vocabulary.eos,
    ]
    assert small.decode(ids) == "red cube"


@pytest.mark.parametrize("token_id", [-1, 10**6])
def test_decode_refuses_ids_outside_the_vocabulary(small, token_id):
    with pytest.raises(SequenceError, match="outside the vocabulary"):
        small.decode([1, token_id])


def test_saved_and_loaded_is_the_same(small, tmp_path):
    small.save(tmp_path / "new" / "folder")
    loaded = TextTokenizer.from_folder(tmp_path / "new" / "folder")
    assert loaded.vocabulary == small.vocabulary
    assert loaded.fingerprint() == small.fingerprint()
    for text in adversarial_texts(300, seed=4):
        assert loaded.encode(text) == small.encode(text)


def test_the_released_form_saved_as_json_is_the_same(released, tmp_path):
    released.save(tmp_path)
    loaded = TextTokenizer.from_folder(tmp_path)
    assert loaded.vocabulary == Vocabulary.released()
    assert loaded.fingerprint() == released.fingerprint()
    for text in adversarial_texts(300, seed=5):
        assert loaded.encode(text) == released.encode(text)


def test_a_padded_vocabulary_keeps_its_size(small, tmp_path):
    values = small.vocabulary.to_dict()
    padded = TextTokenizer(small.tokenizer, Vocabulary.from_dict({**values, "size": values["size"] + 30}))
    padded.save(tmp_path)
    assert TextTokenizer.from_folder(tmp_path).vocabulary == padded.vocabulary


def test_other_libraries_read_our_ids_and_ours_ignores_their_special_tokens(small, tmp_path):
    small.save(tmp_path)
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    vocabulary = small.vocabulary
    for role, name in SPECIAL_NAMES.items():
        assert theirs.token_to_id(name) == getattr(vocabulary, role)
    assert theirs.token_to_id(visual_name(7)) == vocabulary.first_visual + 7
    # there the name is special; a file with more of the kind must not make it so here
    assert theirs.encode("<|image start|>").ids == [vocabulary.boi]
    theirs.add_special_tokens([AddedToken("<|visual token 000001|>", special=True)])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = TextTokenizer.from_folder(tmp_path)
    assert ours.vocabulary == vocabulary
    for name in NAMES:
        assert ours.encode(name) == small.encode(name)


def test_fingerprint_tells_tokenizers_apart(small):
    other_text = train_text_tokenizer(["move the ball"], size=300, codebook_size=48)
    moved = TextTokenizer(small.tokenizer, Vocabulary.compact(small.vocabulary.first_special + 1, 48))
    prints = {small.fingerprint(), other_text.fingerprint(), moved.fingerprint()}
    assert len(prints) == 3 and all(len(text) == 64 for text in prints)


def test_a_tokenizer_that_could_write_special_ids_is_refused(small):
    overlapping = Tokenizer(models.WordLevel({"cube": 300}, unk_token="cube"))
    with pytest.raises(TokenizerError, match="special ids begin at 300"):
        TextTokenizer(overlapping, Vocabulary.compact(300, 16))
    added = Tokenizer.from_str(small.tokenizer.to_str())
    added.add_special_tokens(["<|image start|>"])
    with pytest.raises(TokenizerError, match="added tokens"):
        TextTokenizer(added, small.vocabulary)


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"no text tokenizer in .*tokenizer\.json or emu3\.tiktoken"):
        TextTokenizer.from_folder(tmp_path)


def _saved(tokenizer, folder):
    tokenizer.save(folder)
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def _without_boi(content):
    del content["model"]["vocab"]["<|image start|>"]
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] != "<|image start|>"
    ]
    return content


def _with_a_visual_hole(content):
    del content["model"]["vocab"][visual_name(5)]
    return content


def _listed_without_ids(content):
    content["model"]["vocab"] = [["cube", -1.0]]
    return content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_boi, r"lacks the special tokens <\|image start\|>"),
        (_with_a_visual_hole, "visual tokens are missing"),
        (_listed_without_ids, "not a usable tokenizer file"),
        (lambda content: {"model": 3}, "not a usable tokenizer file"),
        (lambda content: [], "not a usable tokenizer file"),
    ],
)
def test_a_damaged_json_is_named(small, tmp_path, damage, message):
    content = damage(_saved(small, tmp_path))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message):
        TextTokenizer.from_folder(tmp_path)


def test_a_truncated_json_is_named(small, tmp_path):
    _saved(small, tmp_path)
    text = (tmp_path / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(text[: len(text) // 2])
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a usable"):
        TextTokenizer.from_folder(tmp_path)


def test_a_word_level_tokenizer_works_too():
    words = Tokenizer(models.WordLevel({"8": 1, "*": 2}, unk_token="8"))
    words.decoder = decoders.Fuse()
    assert TextTokenizer(words, Vocabulary.compact(10, 4)).decode([1, 2, 1]) == "8*8"
