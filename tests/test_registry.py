"""Names that a registry does not have."""

from __future__ import annotations

import pytest

from earl.errors import ConfigError
from earl.registry import VERIFIERS, Registry


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


def test_an_installation_older_than_the_checkout_is_named(monkeypatch):
    """Its metadata lacks entry points that pyproject.toml has; the name is right and not to be doubted."""
    monkeypatch.setattr("earl.registry.entry_points", lambda group: ())
    registry = Registry("verifier", VERIFIERS.group, VERIFIERS.own)
    assert registry.load("judge")
    with pytest.raises(
        ConfigError, match=r"'scene' was added after this package was installed; .* pip install"
    ):
        registry.load("scene")
    with pytest.raises(ConfigError, match="'scene' was added"):
        assert "scene" in registry
    with pytest.raises(ConfigError, match="no verifier 'scenes'"):
        registry.load("scenes")
