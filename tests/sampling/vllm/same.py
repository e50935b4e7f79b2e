"""What the tests of both engines share."""

import pytest

SIZE = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}


def assert_same(found, wanted):
    """The same completions; log-probabilities up to the rounding of other batch shapes."""
    for mine, theirs in zip(found, wanted, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert (one.ids, one.finish_reason, one.seed) == (other.ids, other.finish_reason, other.seed)
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
