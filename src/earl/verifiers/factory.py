"""Verifier factory: from settings to a verifier."""

from __future__ import annotations

from earl.config.verifier import OneVerifier, VerifierSettings
from earl.errors import ConfigError, EarlError
from earl.registry import VERIFIERS
from earl.verifiers.combined import Weighted, WeightedSum
from earl.verifiers.protocol import Verifier


def make_verifier(settings: VerifierSettings) -> Verifier:
    """The verifier that settings describe: one of `earl.registry.VERIFIERS`, or a weighted sum of several.

    A verifier that asks a model (`judge`, `reference`) is made from `settings.judge`, any other from
    `settings.options` as keyword arguments.

    Raises:
        ConfigError: no such verifier, settings, options or question templates that do not fit, or the
            environment variable of a key is empty.
        MissingExtraError: a judge, and the httpx2 package is not installed.
    """
    if settings.kind == "sum":
        members = [Weighted(name, _one(member), member.weight) for name, member in settings.parts.items()]
        return WeightedSum(members)
    return _one(settings)


def _one(settings: OneVerifier) -> Verifier:
    factory = VERIFIERS.load(settings.kind)
    if settings.judge is not None:
        made: Verifier = factory(settings.judge)
        return made
    try:
        made = factory(**settings.options)
    except EarlError:
        raise
    except TypeError as error:
        raise ConfigError(f"the verifier {settings.kind!r} does not take these options: {error}") from error
    if not isinstance(made, Verifier):
        raise ConfigError(f"{settings.kind!r} makes a {type(made).__name__}, which has no method `judge`")
    return made
