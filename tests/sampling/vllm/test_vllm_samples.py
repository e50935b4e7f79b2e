"""What vLLM wrote becomes what our engine would have reported."""

from types import SimpleNamespace

import numpy as np
import pytest

from earl.config import SamplingSettings
from earl.errors import ConfigError, EngineError, SequenceError
from earl.records import Completion, Grid
from earl.sampling import Request
from earl.sampling.completions import by_request, checked_grammar
from earl.sampling.vllm.base import VllmBase, VllmSample
from earl.sequence.layout import write_completion


def one(tokenizer, request, on_row=None):
    grammar = checked_grammar(request, tokenizer, 512)
    return VllmSample(0, request.seeds[0], grammar.start(), on_row, request=request)


def feed(sample: VllmSample, ids, step: int = 3):
    for at in range(0, len(ids), step):
        part = ids[at : at + step]
        sample.take(part, [-0.5] * len(part))
    return sample.completion()


def test_forced_ids_have_probability_one_and_rows_are_reported_as_they_end(tokenizer):
    codes, rows = np.array([[1, 2, 3], [4, 5, 6]]), []
    request = Request((1,), (7,), Grid(2, 3))
    ids = write_completion(codes, tokenizer)
    sample = one(tokenizer, request, lambda index, row, found: rows.append((index, row, found.tolist())))
    completion = feed(sample, ids)
    assert completion.ids == tuple(ids)
    assert completion.finish_reason == "stop"
    assert completion.seed == 7
    assert rows == [(0, 0, [1, 2, 3]), (0, 1, [4, 5, 6])]
    drawn = [logprob for logprob in completion.logprobs if logprob]
    assert drawn == [-0.5] * 6


def test_the_eos_that_closes_a_failed_completion_is_left_out(tokenizer):
    v = tokenizer.vocabulary
    failed = [v.boi, *tokenizer.encode("3*"), v.img]
    completion = feed(one(tokenizer, Request((1,), (0,), prefill="direct")), [*failed, v.eos])
    assert completion.ids == tuple(failed)
    assert completion.finish_reason == "stop"
    running_on = feed(
        one(tokenizer, Request((1,), (0,), prefill="free", max_text_tokens=4)), [5] * 4 + [v.eos]
    )
    assert running_on.ids == (5, 5, 5, 5)
    assert running_on.finish_reason == "length"


def test_a_completion_that_a_bound_cut_says_so(tokenizer):
    ids = write_completion(np.zeros((2, 2), dtype=int), tokenizer)[:-4]
    assert feed(one(tokenizer, Request((1,), (0,), Grid(2, 2))), ids).finish_reason == "length"


def test_an_id_outside_the_grammar_is_an_error_that_names_the_plugin(tokenizer):
    with pytest.raises(EngineError, match="install earl into the environment"):
        feed(one(tokenizer, Request((1,), (0,), Grid(2, 2))), [5])


def test_parameters_carry_the_grammar_and_the_bounds(tokenizer):
    sample = one(tokenizer, Request((1, 2), (9,), Grid(2, 3)))
    found = sample.parameters(SamplingSettings(temperature=0.5, top_k=7, top_p=0.9), 512)
    assert found["extra_args"] == {"earl_prefill": "size", "earl_grid": "2*3", "earl_max_text_tokens": 1024}
    assert (found["temperature"], found["top_k"], found["top_p"], found["seed"]) == (0.5, 7, 0.9, 9)
    assert found["max_tokens"] == sample.state.grammar.max_length
    assert found["stop_token_ids"] == [tokenizer.vocabulary.eos]
    assert sample.parameters(SamplingSettings(greedy=True), 512)["temperature"] == 0.0
    free = one(tokenizer, Request((1, 2), (9,), prefill="free"))
    assert free.parameters(SamplingSettings(), 512)["max_tokens"] == 510


def test_completions_are_grouped_by_request(tokenizer):
    requests = [Request((1,), (5, 6), Grid(1, 1)), Request((1,), (7,), Grid(1, 1))]
    finished = {index: Completion((), (), "stop", seed) for index, seed in ((2, 7), (1, 6), (0, 5))}
    assert [[c.seed for c in group] for group in by_request(requests, finished)] == [[5, 6], [7]]


def test_what_cannot_fit_is_refused(tokenizer):
    with pytest.raises(SequenceError, match="512 positions"):
        checked_grammar(Request((1,), (0,), Grid(100, 100)), tokenizer, 512)
    with pytest.raises(SequenceError, match="outside 0 to"):
        checked_grammar(Request((10**6,), (0,), Grid(1, 1)), tokenizer, 512)


class Closed(VllmBase):
    """An engine outside ours that must never be asked."""

    def refresh(self):
        raise AssertionError("asked")

    def _run(self, samples, sampling):
        raise AssertionError("asked")
        yield


def test_given_codes_are_refused_in_a_session_and_in_one_go(tokenizer):
    config = SimpleNamespace(vocab_size=tokenizer.vocabulary.size, max_position_embeddings=512)
    engine = Closed(config, tokenizer, 4)
    masked = Request((1,), (0,), Grid(1, 2), given=(3, -1))
    session = engine.open_session()
    with pytest.raises(ConfigError, match="need engine = 'earl'"):
        session.insert(masked, SamplingSettings())
    assert session.room == 4 and not session.step()
    with pytest.raises(ConfigError, match="need engine = 'earl'"):
        engine.generate([Request((1,), (0,), Grid(1, 2)), masked])
