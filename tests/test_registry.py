"""Names that a registry does not have."""

from __future__ import annotations

import pytest

from earl.errors import ConfigError
from earl.registry import Registry


@pytest.mark.parametrize(
    "own,hint",
    [
        ({}, "there are none."),
        ({"judge": "a:b"}, "there are judge."),
        ({"reds": "a:b"}, "did you mean 'reds'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(own, hint):
    with pytest.raises(ConfigError) as caught:
        Registry("verifier", "earl.nothing", own).load("red")
    other = "One of another package is named 'package.module:attribute'"
    assert str(caught.value) == f"no verifier 'red'; {hint} {other}"
