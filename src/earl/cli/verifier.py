"""`earl verifier serve` and `earl verifier check`: verifiers over HTTP, from both ends."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

from earl.cli import options as shared
from earl.errors import ConfigError, VerifierError

if TYPE_CHECKING:
    from earl.config.endpoint import JudgeSettings
    from earl.verifiers.protocol import Verifier

KINDS = ("scene", "judge", "reference")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kind", choices=KINDS, default="scene", help="scene: the world's own, from pixels")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is reachable from other machines")
    add("--port", type=shared.integer(0, 65535), default=8001, help="0 takes a free one")
    add("--name", metavar="MODEL", help="what clients call it (default: earl-KIND)")
    add("--serve-key-env", metavar="VARIABLE", help="ask clients for the key that this variable holds")
    _add_judge(parser, "the model behind --kind judge or reference", required=False)


def add_options_check(parser: argparse.ArgumentParser) -> None:
    _add_judge(parser, "judge", required=True)


def _add_judge(parser: argparse.ArgumentParser, title: str, *, required: bool) -> None:
    add = parser.add_argument_group(title).add_argument
    add("--url", required=required, help="base of an OpenAI-compatible API, such as http://host:8000/v1")
    add("--model", help="the model's name there (default: the only one)")
    add(
        "--key-env",
        metavar="VARIABLE",
        help="the environment variable that holds the key; none is sent without",
    )
    add("--prompts", metavar="DIR", help="own questions: semantic.txt, perceptual.txt, reference.txt")
    add("--concurrency", type=shared.integer(1), default=32, help="questions in flight")
    add("--timeout", type=shared.number(0, above=True), default=60.0, help="seconds for one request")
    add("--deadline", type=shared.number(0, above=True), default=180.0, help="seconds with all retries")
    add("--retries", type=shared.integer(0), default=4, help="after 429, 5xx and time-outs")


def run(options: argparse.Namespace) -> int:
    from earl.service.http import serve
    from earl.service.verifier import verifier_app
    from earl.verifiers.protocol import check
    from earl.verifiers.questions import load_prompts

    verifier = _verifier(options)
    judge = asyncio.run(check(verifier)) if options.kind != "scene" else ""
    name = options.name or f"earl-{options.kind}"
    app = verifier_app(verifier, name=name, prompts=load_prompts(options.prompts), key=_serve_key(options))

    def ready(url: str) -> None:
        print(f"{name}{f' ({judge})' if judge else ''} at {url}; Ctrl-C ends it", flush=True)

    serve(app, host=options.host, port=options.port, ready=ready)
    return 0


def run_check(options: argparse.Namespace) -> int:
    from earl.verifiers.judge import JudgeVerifier

    judge = JudgeVerifier(_settings(options))
    model = asyncio.run(judge.check())
    print(f"{model} at {options.url}, questions {judge.prompts.version} ({judge.prompts.hash})")
    return 0


def _verifier(options: argparse.Namespace) -> Verifier:
    if options.kind == "scene":
        given = [
            name for name in ("url", "model", "key_env", "prompts") if getattr(options, name) is not None
        ]
        if given and given != ["prompts"]:
            raise ConfigError(f"--{given[0].replace('_', '-')} is for --kind judge or reference, not scene")
        from earl.world.verifier.scene import SceneVerifier

        return SceneVerifier()
    if not options.url:
        raise ConfigError(f"--kind {options.kind} needs --url: the API of the model that judges")
    from earl.verifiers.judge import JudgeVerifier, ReferenceVerifier

    return (JudgeVerifier if options.kind == "judge" else ReferenceVerifier)(_settings(options))


def _settings(options: argparse.Namespace) -> JudgeSettings:
    from earl.config.endpoint import JudgeSettings

    names = ("url", "model", "key_env", "prompts", "concurrency", "timeout", "deadline", "retries")
    return JudgeSettings(**{name: getattr(options, name) for name in names})


def _serve_key(options: argparse.Namespace) -> str:
    if not options.serve_key_env:
        return ""
    key = os.environ.get(options.serve_key_env, "")
    if not key:
        raise VerifierError(
            f"the environment variable {options.serve_key_env} holds no key to ask clients for"
        )
    return key
