"""The language of requests: what is written is read back, and the held-out part stays out."""

import re
from collections import Counter

import numpy as np
import pytest

from earl.errors import DataError, InstructionError
from earl.world.families import FAMILIES
from earl.world.goals import check
from earl.world.language import grammar
from earl.world.language.drawing import draw_wording
from earl.world.language.naming import from_json, name_solids, to_json, vary
from earl.world.language.other import other_sentences, plain_text
from earl.world.language.reading import parse
from earl.world.language.request import OTHER, Request
from earl.world.language.tables import CONSTRUCTIONS, CORES, FRAMES, HELDOUT, WORDS
from earl.world.language.tables import texts as texts_of
from earl.world.language.writing import Writer, equal, held_out_pair, phrase
from earl.world.tasks import sample_task
from earl.world.wordings import WORDINGS, reword

WORD = re.compile(r"[a-z0-9']+")


def words_of(texts) -> set[str]:
    return {word for text in texts for word in WORD.findall(re.sub(r"\{\w+\}", " ", text))}


def trained_words() -> set[str]:
    texts = [*texts_of(WORDS), *texts_of(FRAMES), *texts_of(CORES)]
    texts += [
        grammar.gerund(core) for cores in CORES.values() for t in cores["do"] for core in grammar.expand(t)
    ]
    found = words_of(texts)
    return found | {word + "s" for word in found} | {"a", "an", "the"}


def named(seed: int, split="train", families=None):
    task = sample_task(seed, split, families)
    return task, name_solids(task.request, task.source, task.target)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_read_back(family):
    rng = np.random.default_rng(1)
    wrong = Counter()
    for seed in range(60):
        _, names = named(seed, families=[family])
        request = vary(names, rng, plain=0.3)
        for _ in range(3):
            try:
                text = Writer(rng).sentence(request)
                wrong["unread"] += not equal(parse(text), request)
                assert equal(parse(phrase(request, rng)), request)
            except InstructionError:
                wrong["refused"] += (
                    1  # a slip of the keyboard beyond reading, or a word order that is refused
                )
    assert wrong["unread"] == 0 and wrong["refused"] <= 20


@pytest.mark.parametrize("wordings", WORDINGS)
def test_reworded_tasks_keep_their_target_and_are_read_back(wordings):
    for seed in range(80):
        task = reword(sample_task(seed, "test"), wordings, seed=4)
        assert check(task.request, task.source, task.target).exact, task.instruction
        assert equal(parse(task.instruction), task.request), task.instruction
        assert task == reword(sample_task(seed, "test"), wordings, seed=4)


def test_unknown_wordings_are_refused():
    with pytest.raises(DataError, match="unknown wordings"):
        reword(sample_task(0, "test"), "strange")


def test_no_pattern_has_two_meanings():
    for symbols, readings in grammar.table().items():
        for one in readings:
            for two in readings:
                if (one.op, one.slots) != (two.op, two.slots):
                    fixed = zip(one.slots, two.slots, strict=True)
                    assert any(a[0] == "=" and b[0] == "=" and a != b for a, b in fixed), (symbols, one, two)


def test_every_operation_has_many_constructions():
    for op in CORES:
        assert len({grammar.symbols_of(text) for text in grammar.sentences(op, framed=False)}) >= 25, op
        assert len(HELDOUT["sentences"][op]) >= 8, op
    assert len(trained_words()) >= 500


def test_held_out_constructions_are_new_and_their_words_are_not():
    trained = {grammar.symbols_of(text)[0] for op in CORES for text in grammar.sentences(op)}
    for templates in CONSTRUCTIONS.values():
        for text in (text for template in templates for text in grammar.expand(template)):
            assert grammar.symbols_of(text)[0] not in trained, text
    tables = [HELDOUT[name] for name in ("sentences", "greetings", "farewells", "joints")]
    assert words_of(texts_of(tables)) <= trained_words()
    assert not any(set(HELDOUT[name]) & set(FRAMES[name]) for name in ("greetings", "joints"))


def test_unseen_words_are_in_no_sentence_of_training():
    known, unseen = trained_words(), HELDOUT["words"]
    assert not words_of(unseen["adjectives"] + unseen["adverbs"]) & known
    for template in texts_of([unseen["shape"], unseen["color"], HELDOUT["verbs"]]):
        for text in grammar.expand(template):
            assert len(words_of([text]) - known) == 1, text


def test_pairs_that_are_held_out_are_not_drawn_in_training():
    rng = np.random.default_rng(2)
    pairs = (("shape", "sphere"), ("color", "blue"))
    held = [w for table, value in pairs for w in WORDS[table][value][1:] if held_out_pair("color", w)]
    assert held, "the test needs a pair"
    writer, evaluator = Writer(rng), Writer(rng, "pairs")
    for table, value in pairs:
        drawn = {writer.word(table, value, "color") for _ in range(400)}
        assert drawn == set(WORDS[table][value]) - set(held)
        others = {evaluator.word(table, value, "color") for _ in range(400)}
        assert others <= set(held) or drawn == set(WORDS[table][value])


def test_sentences_that_ask_for_nothing():
    train, held = (set(map(plain_text, other_sentences(heldout))) for heldout in (False, True))
    assert not train & held and len(train) > 1000 and len(held) > 500
    assert parse("add a dragon").op == OTHER and parse("Wie geht es dir?").op == OTHER
    task = reword(sample_task(3, "test"), "other")
    assert check(task.request, task.source, task.source).exact
    assert not check(task.request, task.source, sample_task(3, "test").target).exact


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("the red box should be gone", "remove"),
        ("please colour the ball blue", "color"),
        ("let a tiny orange cylinder appear", "add"),
        ("Could you get rid of the grene cone?", "remove"),
        ("I'd like the purple chest to be yellow", "color"),
        ("delete the second object from the right", "remove_nth"),
        ("make the thing in front of the green ball blue", "color_related"),
        ("cover the ball on the left with stripes", "stripe"),
    ],
)
def test_everyday_sentences(text, op):
    assert parse(text).op == op


@pytest.mark.parametrize(
    "text", ["", "remove", "remove the zebra", "the", "a cube the", "blue " * 300, "and then " * 200]
)
def test_what_is_no_request_is_refused(text):
    with pytest.raises(InstructionError, match="wordings"):
        parse(text)


def test_a_request_survives_its_json_and_is_worded_anew():
    rng = np.random.default_rng(3)
    for seed in range(60):
        task, names = named(seed)
        assert from_json(to_json(names)) == names
        drawn = {draw_wording(to_json(names), rng) for _ in range(6)}
        assert len(drawn) > 2, task.instruction
    assert draw_wording(to_json(name_solids(Request(OTHER), task.source, task.source)), rng)
    assert draw_wording("find the red cube", rng).startswith("find ")


def test_descriptions_name_one_solid():
    for seed in range(80):
        task, names = named(seed)
        for refs in (names.names[field] for field in ("ref", "ref2", "ref3") if field in names.names):
            found = {tuple(ref.find(task.source)) for ref in refs}
            assert len(found) == 1 and len(next(iter(found))) == 1
