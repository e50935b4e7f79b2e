"""`earl verify SOURCE EDITED "instruction"`: the scene verifier's verdict on one edit."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earl.records import Verdict


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="the world image before the edit")
    parser.add_argument("edited", help="the image after it")
    parser.add_argument("instruction", help="what was asked")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")


def run(options: argparse.Namespace) -> int:
    from earl.errors import VerifierError
    from earl.records import SCORE_PARTS, Attempt
    from earl.sequence import check_instruction
    from earl.vision import open_image
    from earl.world.verifier.scene import SceneVerifier

    attempt = Attempt(
        source=open_image(options.source),
        instruction=check_instruction(options.instruction),
        edited=open_image(options.edited),
    )
    verdict = asyncio.run(SceneVerifier().judge([attempt]))[0]
    if not verdict.ok:
        raise VerifierError(f"no scores ({verdict.status}): {verdict.reason}")
    scores = scores_of(verdict)
    if options.json:
        print(json.dumps(scores, ensure_ascii=False))
        return 0
    for name in (*SCORE_PARTS, "semantic_consistency", "perceptual_quality", "overall"):
        print(f"{name.replace('_', ' '):<22}{scores[name]:5.2f}")
    if verdict.why:
        print(verdict.why)
    return 0


def scores_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON types."""
    scores = verdict.to_json()
    scores["semantic_consistency"] = verdict.semantic_consistency
    scores["perceptual_quality"] = verdict.perceptual_quality
    scores["overall"] = verdict.overall
    return scores
