"""A request's grammar is checked before anything is sampled."""

import pytest

from earl.errors import ConfigError
from earl.sampling.vllm import GrammarArguments


def test_a_request_without_our_keys_is_not_ours():
    assert GrammarArguments.read(None) is None
    assert GrammarArguments.read({"something": 1, "kv_transfer_params": {}}) is None


@pytest.mark.parametrize("grid", ["4*6", [4, 6], (4, 6)])
def test_a_grid_reads_as_text_or_as_two_numbers(grid):
    found = GrammarArguments.read({"earl_grid": grid, "other": 1})
    assert found == GrammarArguments(earl_prefill="size", earl_grid="4*6")
    assert GrammarArguments.read(found.to_extra_args()) == found


def test_the_other_prefills_need_no_grid():
    found = GrammarArguments.read({"earl_prefill": "reasoning", "earl_max_text_tokens": 7})
    assert found == GrammarArguments(earl_prefill="reasoning", earl_max_text_tokens=7)
    assert GrammarArguments.read(found.to_extra_args()) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"earl_prefill": "size"}, "needs earl_grid"),
        ({"earl_prefill": "sizes", "earl_grid": "2*2"}, "'size', 'direct'"),
        ({"earl_prefill": ["size"]}, "'size', 'direct'"),
        ({"earl_grid": "2x2"}, "must read like 32"),
        ({"earl_grid": "0*2"}, "must read like 32"),
        ({"earl_grid": [2]}, "expected text"),
        ({"earl_grid": [2, True]}, "must read like"),
        ({"earl_grid": [2, 2.0]}, "must read like"),
        ({"earl_grid": [0, 2]}, "must read like 32"),
        ({"earl_grid": [1000, 1000]}, "more than 16384 cells"),
        ({"earl_grid": 4}, "expected text"),
        ({"earl_grid": "2*2", "earl_max_text_tokens": 0}, "expected at least 1"),
        ({"earl_grid": "2*2", "earl_max_text_tokens": "9"}, "valid integer"),
        ({"earl_gird": "2*2"}, "did you mean 'earl_grid'"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(given, said):
    with pytest.raises(ConfigError, match=said):
        GrammarArguments.read(given)
