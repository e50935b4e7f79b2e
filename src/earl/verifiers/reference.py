"""The judge with a target image to compare with, as the release's "ground score" does."""

from __future__ import annotations

from earl.verifiers.judge import JudgeVerifier
from earl.verifiers.questions import Question


class GroundVerifier(JudgeVerifier):
    """Is the edited image what the target shows?

    Edit success and over-editing are read against the target (the verdict of an attempt without one
    is "unusable"); naturalness and artifacts from the edited image alone, as the judge does.
    """

    pair: Question = "ground"
