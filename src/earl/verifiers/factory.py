"""Verifiers as a recipe asks for them (`earl.config.verifier`)."""

from __future__ import annotations

from earl.config.verifier import Asking, Choice, Verifying
from earl.registry import VERIFIERS
from earl.verifiers.combined import Weighted, WeightedSum
from earl.verifiers.noise import Blind, Noisy
from earl.verifiers.protocol import Verifier


def create_verifier(choice: Choice) -> Verifier:
    """The verifier that a section describes.

    Raises:
        ConfigError: settings or question templates that do not fit.
        VerifierError: the environment variable of a key is empty.
        MissingExtraError: a judge, and the openai package is not installed.
    """
    if choice.kind == "sum":
        parts = [
            Weighted(name, _one(part.kind, part.judge), part.weight) for name, part in choice.parts.items()
        ]
        verifier: Verifier = WeightedSum(parts)
    else:
        verifier = _one(choice.kind, choice.judge)
    if isinstance(choice, Verifying):
        if choice.blind is not None:
            verifier = Blind(verifier, choice.blind)
        if choice.noise:
            verifier = Noisy(verifier, choice.noise, seed=choice.noise_seed)
    return verifier


def _one(kind: str, asking: Asking | None) -> Verifier:
    if kind not in ("judge", "ground"):
        verifier: Verifier = VERIFIERS.load(kind)()
        return verifier
    assert asking is not None, "the recipe's check guarantees it"
    from earl.endpoints.client import JudgeSettings
    from earl.verifiers.judge import JudgeVerifier
    from earl.verifiers.reference import GroundVerifier

    settings = asking.model_dump()
    if settings.pop("server_temperature"):
        settings["temperature"] = None
    return (JudgeVerifier if kind == "judge" else GroundVerifier)(JudgeSettings(**settings))
