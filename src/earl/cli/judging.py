"""Options that name a verifier, and the verifier that they name."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from earl.cli import options as shared
from earl.errors import ConfigError

if TYPE_CHECKING:
    from earl.verifiers.protocol import Verifier

KINDS = ("judge", "reference", "scene")
_JUDGE_ONLY = ("url", "model", "key_env", "prompts")


def add_verifier(
    parser: argparse.ArgumentParser, *, default: str = "judge", prefix: str = "judge", flag: str = "verifier"
) -> None:
    """`--verifier` and `--judge-…`; another prefix for a second verifier of the same command."""
    group = parser.add_argument_group(f"{flag.replace('-', ' ')}")
    add = group.add_argument
    add(
        f"--{flag}",
        choices=KINDS,
        default=default or None,
        help="judge: a model over HTTP; reference: the same, against the target; scene: the world's own",
    )
    add(f"--{prefix}-url", metavar="URL", help="base of an OpenAI-compatible API, as http://host:8000/v1")
    add(f"--{prefix}-model", metavar="MODEL", help="the model's name there (default: the only one)")
    add(
        f"--{prefix}-key-env",
        metavar="VARIABLE",
        help="environment variable with the key; none is sent without",
    )
    add(f"--{prefix}-prompts", metavar="DIR", help="own questions")
    add(f"--{prefix}-concurrency", type=shared.integer(1), default=32, help="questions in flight")
    add(
        f"--{prefix}-timeout", type=shared.number(0, above=True), default=60.0, help="seconds for one request"
    )
    add(
        f"--{prefix}-deadline",
        type=shared.number(0, above=True),
        default=180.0,
        help="seconds with all retries",
    )
    add(f"--{prefix}-retries", type=shared.integer(0), default=4, help="after 429, 5xx and time-outs")
    add(
        f"--{prefix}-samples", type=shared.integer(1), default=1, help="answers averaged; needs a temperature"
    )
    add(f"--{prefix}-temperature", type=shared.number(0, 2), default=0.0)


def verifier_of(
    options: argparse.Namespace, *, prefix: str = "judge", flag: str = "verifier"
) -> tuple[Verifier, dict[str, Any], int]:
    """The verifier, what fixes its verdicts, and how many edits it may look at at once.

    A judge is asked for its model's name, so that a mistake is found before any work.

    Raises:
        ConfigError: options that do not fit.
        VerifierError: the judge cannot be reached.
    """
    kind = getattr(options, flag.replace("-", "_"))
    given = {name: getattr(options, f"{prefix}_{name}".replace("-", "_")) for name in _JUDGE_ONLY}
    if kind == "scene":
        named = [name for name, value in given.items() if value is not None]
        if named:
            option = f"--{prefix}-{named[0].replace('_', '-')}"
            raise ConfigError(f"{option} is for --{flag} judge or reference, not scene")
        from earl.world.verifier.scene import SceneVerifier

        return SceneVerifier(), {"kind": "scene", "model": None}, 4
    if not given["url"]:
        raise ConfigError(f"--{flag} {kind} needs --{prefix}-url: the API of the model that judges")
    from earl.config.endpoint import JudgeSettings
    from earl.verifiers.judge import JudgeVerifier, ReferenceVerifier

    more = ("concurrency", "timeout", "deadline", "retries", "samples", "temperature")
    rest = {name: getattr(options, f"{prefix}_{name}".replace("-", "_")) for name in more}
    judge = (JudgeVerifier if kind == "judge" else ReferenceVerifier)(JudgeSettings(**given, **rest))
    model = asyncio.run(judge.check())
    identity = {
        "kind": kind,
        "model": model,
        "questions": judge.prompts.hash,
        "samples": rest["samples"],
        "temperature": rest["temperature"],
    }
    return judge, identity, rest["concurrency"]
