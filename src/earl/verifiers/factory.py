"""Verifiers as settings ask for them (`earl.config.verifier`)."""

from __future__ import annotations

from earl.config.verifier import OneVerifier, RewardSettings, VerifierSettings
from earl.registry import VERIFIERS
from earl.verifiers.combined import Weighted, WeightedSum
from earl.verifiers.noise import Blind, Noisy
from earl.verifiers.protocol import Verifier


def create_verifier(settings: VerifierSettings) -> Verifier:
    """The verifier that a section describes.

    Raises:
        ConfigError: settings or question templates that do not fit.
        VerifierError: the environment variable of a key is empty.
        MissingExtraError: a judge, and the openai package is not installed.
    """
    if settings.kind == "sum":
        parts = [Weighted(name, _one(part), part.weight) for name, part in settings.parts.items()]
        verifier: Verifier = WeightedSum(parts)
    else:
        verifier = _one(settings)
    if isinstance(settings, RewardSettings):
        if settings.blind is not None:
            verifier = Blind(verifier, settings.blind)
        if settings.noise:
            verifier = Noisy(verifier, settings.noise, seed=settings.noise_seed)
    return verifier


def _one(settings: OneVerifier) -> Verifier:
    if settings.judge is not None:
        from earl.verifiers.judge import JudgeVerifier
        from earl.verifiers.reference import GroundVerifier

        return (JudgeVerifier if settings.kind == "judge" else GroundVerifier)(settings.judge)
    made: Verifier = VERIFIERS.load(settings.kind)(**settings.options)
    return made
