"""Options of the endpoint whose model writes texts about edits. Standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from earl.cli import options as shared
from earl.progress import Progress

if TYPE_CHECKING:
    from earl.reasoning.asking import Asker, Tally


def add_endpoint(parser: argparse.ArgumentParser, title: str, files: str, *, required: bool) -> None:
    """Where the model is and how it is asked; `files` names the templates that --prompts may hold."""
    add = parser.add_argument_group(title).add_argument
    add("--url", required=required, help="base of an OpenAI-compatible API, such as http://host:8000/v1")
    add("--model", help="the model's name there (default: the only one)")
    add("--key-env", metavar="VARIABLE", help="the environment variable that holds the key; none without")
    add("--prompts", metavar="DIR", help=f"own wording: {files}")
    add("--attempts", type=shared.integer(1, 20), default=3, help="answers to one question at most")
    add("--concurrency", type=shared.integer(1), default=32, help="questions in flight")
    add("--timeout", type=shared.number(0, above=True), default=120.0, help="seconds for one request")
    add("--deadline", type=shared.number(0, above=True), default=300.0, help="seconds with all retries")
    add("--retries", type=shared.integer(0), default=4, help="after 429, 5xx and time-outs")
    add("--temperature", type=shared.number(0, 2), default=0.0, help="of the model")


def make_asker(options: argparse.Namespace) -> Asker:
    """The asker that the options describe. Raises ConfigError, VerifierError, MissingExtraError."""
    from earl.config.endpoint import WriterSettings
    from earl.reasoning.asking import Asker

    names = (
        "url",
        "model",
        "key_env",
        "attempts",
        "concurrency",
        "timeout",
        "deadline",
        "retries",
        "temperature",
    )
    settings = WriterSettings(**{name: getattr(options, name) for name in (*names, "temperature")})
    return Asker(settings)


def watcher(show: Progress, what: str) -> Callable[[Tally], None]:
    """Shows how asking goes."""

    def update(tally: Tally) -> None:
        note = f"{tally.rejected} rejected, {tally.unanswered} without an answer ({tally.asked} asked)"
        show(what, tally.accepted, None, note)

    return update
