"""`earl verify SOURCE EDITED "instruction"`: the scene verifier's verdict on one edit."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earl.records import Verdict

PARTS = ("edit_success", "over_editing", "naturalness", "artifacts")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="the world image before the edit")
    parser.add_argument("edited", help="the image after it")
    parser.add_argument("instruction", help="what was asked")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")


def run(options: argparse.Namespace) -> int:
    from earl.errors import VerifierError
    from earl.pipeline import check_instruction
    from earl.records import Attempt
    from earl.vision import open_image
    from earl.world.verifier.scene import SceneVerifier

    attempt = Attempt(
        source=open_image(options.source),
        instruction=check_instruction(options.instruction),
        edited=open_image(options.edited),
    )
    verdict = asyncio.run(SceneVerifier().judge([attempt]))[0]
    if not verdict.ok:
        raise VerifierError(f"no scores ({verdict.status}): {verdict.raw or 'the verifier gave no reason'}")
    scores = scores_of(verdict)
    if options.json:
        print(json.dumps(scores, ensure_ascii=False))
        return 0
    for name in (*PARTS, "semantic_consistency", "perceptual_quality", "overall"):
        print(f"{name.replace('_', ' '):<22}{scores[name]:5.2f}")
    if verdict.raw:
        print(verdict.raw)
    return 0


def scores_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON types."""
    scores: dict[str, Any] = {name: getattr(verdict, name) for name in PARTS}
    scores["semantic_consistency"] = verdict.semantic_consistency
    scores["perceptual_quality"] = verdict.perceptual_quality
    scores["overall"] = verdict.overall
    return scores | {"status": verdict.status, "notes": dict(verdict.notes)}
