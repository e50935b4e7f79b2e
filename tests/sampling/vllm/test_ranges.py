"""The batched grammar against the automaton, id by id, on walks that take every way it has."""

import random

import pytest
import torch
from tokenizers import decoders

from earl.errors import SequenceError, TokenizerError
from earl.records import Grid
from earl.sampling.vllm.ranges import NO_LIMIT, GrammarTable, keep_within_, size_characters
from earl.sequence.grammar import Grammar
from earl.sequence.layout import parse_size
from earl.sequence.tokenizer import TextTokenizer

GRIDS = [Grid(1, 1), Grid(2, 3), Grid(5, 1), Grid(12, 12)]
SIZES = ["2*3", "12*1", "03*3", "3*", "3*3*3", "1*65536", "128*128", "129*128", "", "3 *3", "100000*1", "é*2"]


def expected(state, vocabulary):
    kind, forced = state.allowed
    if kind == "text":
        return 0, vocabulary.first_visual
    if kind == "visual":
        return vocabulary.first_visual, vocabulary.first_visual + vocabulary.codebook_size
    token = vocabulary.eos if kind == "done" else forced
    return token, token + 1


def choose(state, rng, tokenizer, plan):
    """The next id: what is forced, a random one of the kind, or what the plan says to write."""
    kind, forced = state.allowed
    vocabulary = tokenizer.vocabulary
    if kind == "forced":
        return forced
    if kind == "visual":
        return vocabulary.first_visual + rng.randrange(vocabulary.codebook_size)
    if plan:
        return plan.pop(0)
    return rng.randrange(vocabulary.first_visual)


def walks(tokenizer):
    """(grammar, what is written where text is due): every prefill with and without a grid, sizes well
    and badly formed, special ids where none may be, text that runs on."""
    v, encode = tokenizer.vocabulary, tokenizer.encode
    for grid in GRIDS:
        for prefill in ("size", "direct"):
            yield Grammar(tokenizer, prefill, grid), []
        for prefill in ("reasoning", "free"):
            yield Grammar(tokenizer, prefill, grid, 12), [*encode("red"), v.boi]
            yield Grammar(tokenizer, prefill, grid, 3), [7] * 3
            yield Grammar(tokenizer, prefill, grid, 3), [7] * 2 + [v.boi]
    for size in SIZES:
        yield Grammar(tokenizer, "direct"), [*encode(size), v.img]
        yield Grammar(tokenizer, "free"), [v.boi, *encode(size), v.img]
        yield Grammar(tokenizer, "reasoning", None, 9), [*encode("cube"), v.boi, *encode(size), v.img]
    for special in (v.pad, v.eos, v.boi, v.eol, v.img):
        yield Grammar(tokenizer, "direct"), [*encode("2*3"), special]
        yield Grammar(tokenizer, "free"), [5, special, *encode("2*2"), v.img]
    star, one = encode("*")[0], encode("1")[0]
    yield Grammar(tokenizer, "direct"), [one] * 20
    yield Grammar(tokenizer, "direct"), [one] * 13 + [star, one, v.img]
    long = [tokenizer.tokenizer.token_to_id(sign) for sign in ("12", "*3", "3*3", "00", "128*128")]
    for pieces in ([0, 1], [2], [4], [0, 2], [3, 1], [1], [0, 3, 1], [2, 2], [4, 3]):
        yield Grammar(tokenizer, "direct"), [*(long[piece] for piece in pieces), v.img]
    nothing = v.first_special - 1  # an id without text
    yield Grammar(tokenizer, "direct"), [nothing, long[2], nothing, v.img]
    for _ in range(40):  # anything
        yield Grammar(tokenizer, "direct"), []
        yield Grammar(tokenizer, "free", None, 20), []


def test_every_step_of_every_walk_allows_what_the_automaton_allows(tokenizer):
    rng = random.Random(0)
    cases = [(grammar, list(plan)) for grammar, plan in walks(tokenizer)]
    table = GrammarTable(tokenizer, len(cases) + 5, "cpu")
    slots = rng.sample(range(len(cases) + 5), len(cases))
    histories, states, endings = [], [], set()
    for (grammar, plan), slot in zip(cases, slots, strict=True):
        table.put(slot, grammar)
        state, ids, seen = grammar.start(), [], []
        for _ in range(400):
            seen.append((list(ids), expected(state, tokenizer.vocabulary)))
            if state.done:
                break
            token = choose(state, rng, tokenizer, plan)
            state.advance(token)
            ids.append(token)
        histories.append(seen)
        states.append(state)
        endings.add((grammar.prefill, state.done, state.problem is None))
    table.flush()
    assert {(p, True, True) for p in ("size", "direct", "reasoning", "free")} <= endings
    assert {(p, True, False) for p in ("direct", "reasoning", "free")} <= endings
    width = max(table.window([slot]) for slot in slots)
    steps = max(map(len, histories))
    for step in range(steps):
        rows = [(slot, seen[step]) for slot, seen in zip(slots, histories, strict=True) if step < len(seen)]
        ids = torch.full((len(rows), width), 10**6)  # what is not written yet may be anything
        for row, (_, (written, _)) in enumerate(rows):
            ids[row, : min(width, len(written))] = torch.tensor(written[:width])
        low, high = table.ranges(
            torch.tensor([slot for slot, _ in rows]),
            torch.tensor([len(written) for _, (written, _) in rows]),
            ids,
        )
        assert list(zip(low.tolist(), high.tolist(), strict=True)) == [want for _, (_, want) in rows]


def test_after_the_end_only_eos_is_left(tokenizer):
    table = GrammarTable(tokenizer, 1, "cpu")
    table.put(0, Grammar(tokenizer, "size", Grid(1, 1)))
    table.flush()
    low, high = table.ranges(torch.tensor([0]), torch.tensor([50]), torch.zeros((1, 0)))
    assert (low.item(), high.item()) == (tokenizer.vocabulary.eos, tokenizer.vocabulary.eos + 1)


def test_slots_that_are_not_ours_allow_everything_and_slots_are_used_again(tokenizer):
    table = GrammarTable(tokenizer, 2, "cpu")
    table.put(0, Grammar(tokenizer, "size", Grid(2, 2)))
    table.put(1, None)
    table.flush()
    slots, written, ids = torch.tensor([0, 1]), torch.tensor([0, 3]), torch.zeros((2, 0))
    low, high = table.ranges(slots, written, ids)
    assert (low[1].item(), high[1].item()) == (0, NO_LIMIT)
    logits = torch.randn(2, tokenizer.vocabulary.size)
    before = logits.clone()
    keep_within_(logits, low, high)
    assert torch.equal(logits[1], before[1])
    assert logits[0].isfinite().nonzero().flatten().tolist() == [tokenizer.vocabulary.boi]
    table.put(0, None)
    table.flush()
    assert table.ranges(slots, written, ids)[1].tolist() == [NO_LIMIT, NO_LIMIT]
    assert not table.active_S.any()


def test_a_known_size_needs_no_look_at_the_ids(tokenizer):
    table = GrammarTable(tokenizer, 3, "cpu")
    table.put(0, Grammar(tokenizer, "size", Grid(2, 2)))
    table.put(1, Grammar(tokenizer, "direct"))
    assert table.window([0]) == 0
    assert 16 < table.window([0, 1]) < 24


def test_characters_of_ids_are_what_the_tokenizer_decodes(tokenizer):
    characters, lengths = size_characters(tokenizer)
    for token in range(tokenizer.vocabulary.first_special):
        text = tokenizer.decode([token])
        if lengths[token] < 0:
            with pytest.raises(SequenceError):
                parse_size(text + "3*3")
        else:
            signs = characters[token][: lengths[token]].tolist()
            assert "".join("*" if sign == 10 else str(sign) for sign in signs) == text
    assert (lengths > 1).any(), "the fixture has tokens of several digits"


def test_another_kind_of_tokenizer_is_refused(tokenizer):
    other = TextTokenizer(
        type(tokenizer.tokenizer).from_str(tokenizer.tokenizer.to_str()), tokenizer.vocabulary
    )
    other.tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(TokenizerError, match="byte-level"):
        GrammarTable(other, 1, "cpu")
