"""`earl serve`, `earl verifier serve`, `earl verifier check`: edits and verifiers over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from earl.config import JudgeSettings, ModelSettings, Settings, VerifierSettings
from earl.config.options import BEST_BY, POSITIONAL, Group, Option, verifier_group
from earl.config.service import Port, ServerSettings, ServiceSettings
from earl.errors import ConfigError, MissingExtraError, VerifierError
from earl.progress import say
from earl.records import SCORE_PARTS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from earl.service.server import Server


def edits(
    options: ServiceSettings, model: ModelSettings, best_by: Annotated[VerifierSettings | None, BEST_BY]
) -> None:
    """Serve edits until Ctrl-C or SIGTERM."""
    from earl.service.opening import open_service

    service = open_service(options, model, best_by)
    _serve(service.app(), options, service, lambda url: f"{model.model} at {url}")


def _serve(app: FastAPI, options: ServerSettings, service: Server, described: Callable[[str], str]) -> None:
    from earl.service.http import serve

    serve(
        app,
        host=options.host,
        port=options.port,
        ready=lambda url: say(f"{described(url)}; Ctrl-C ends it"),
        drain=options.drain,
        places=service.places,
    )


class PageOptions(ServiceSettings):
    examples: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None,
        description="JSON Lines with image and instruction to choose from, as `earl edit` takes them "
        "(default: drawn ones, where the model edits drawn scenes)",
    )
    choices: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None,
        description="JSON Lines that keeps thumbs, up and down, as pairs for `earl prepare` (default: none)",
    )


def page(
    options: PageOptions, model: ModelSettings, best_by: Annotated[VerifierSettings | None, BEST_BY]
) -> None:
    """Serve a page to edit on, and edits over HTTP, until Ctrl-C or SIGTERM."""
    if find_spec("gradio") is None:
        raise MissingExtraError("the page needs the extras: pip install 'earl-edit[serve,ui]'")
    # Gradio's own folder, /tmp/gradio, is that of the first user of the machine who has a page
    with TemporaryDirectory(prefix="earl-ui-", ignore_cleanup_errors=True) as uploads:
        os.environ.setdefault("GRADIO_TEMP_DIR", uploads)
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folder goes
        _page(options, model, best_by)


def _page(options: PageOptions, model: ModelSettings, best_by: VerifierSettings | None) -> None:
    from earl.data.tasks import EditTask
    from earl.jobs import read_jobs
    from earl.pipeline.domain import domain_of
    from earl.service.opening import open_service
    from earl.service.page import PATH, mount_page
    from earl.service.page_edits import EXAMPLES, PageEdits
    from earl.service.thumbs import Thumbs
    from earl.vision.images import open_image

    jobs = read_jobs([options.examples], ())[:EXAMPLES] if options.examples else []
    examples = [EditTask(job.name, open_image(job.image), job.instructions[0]) for job in jobs]
    thumbs = Thumbs(options.choices) if options.choices else None
    domain = domain_of(model.model)
    if best_by is None and domain is not None:
        best_by = VerifierSettings(kind=domain.verifier)
    service = open_service(options, model, best_by)
    app = mount_page(service.app(), PageEdits(service, examples, thumbs))
    _serve(app, options, service, lambda url: f"{model.model}: page at {url.removesuffix('/v1')}{PATH}")


class VerifierOptions(ServerSettings):
    port: Port = Field(default=8001, description="port to listen at; 0 takes a free one")
    name: str | None = Field(default=None, description="what clients call it (default: earl-KIND)")
    prompts: Annotated[str | None, Option(metavar="FOLDER")] = Field(
        default=None, description="own questions, which requests are recognised by"
    )


def verifier(
    options: VerifierOptions, verifier: Annotated[VerifierSettings, verifier_group("scene")]
) -> None:
    """Serve a verifier until Ctrl-C or SIGTERM."""
    from earl.service.server import read_keys
    from earl.service.verifier import VerifierService
    from earl.verifiers.factory import make_verifier
    from earl.verifiers.protocol import check
    from earl.verifiers.questions import load_prompts

    keys = read_keys(options.keys_env)
    served = make_verifier(verifier)
    judge = f" ({asyncio.run(check(served))})" if verifier.judge else ""
    name = options.name or f"earl-{verifier.kind}"
    asked = verifier.judge.prompts if verifier.judge and verifier.judge.protocol == "earl" else None
    prompts = load_prompts(options.prompts or asked)
    service = VerifierService(served, name=name, prompts=prompts, keys=keys, settings=options)
    _serve(service.app(), options, service, lambda url: f"{name}{judge} at {url}")


class AskOptions(Settings):
    source: Annotated[Path, POSITIONAL] = Field(description="source image")
    edited: Annotated[Path, POSITIONAL] = Field(description="edited image")
    instruction: Annotated[str, POSITIONAL] = Field(description="what was asked for")
    target: Path | None = Field(default=None, description="target image: the reference question is asked")
    family: str = Field(default="", description="of the edit, for questions in words of each")
    dry_run: bool = Field(default=False, description="send nothing; print each request (images shortened)")


class AskedJudge(JudgeSettings):
    url: str = Field(default="", description="base of the API, as http://host:8000/v1; --dry-run needs none")

    def problems(self) -> Iterator[str]:
        yield from (found for found in super().problems() if self.url or not found.startswith("url"))


def ask(options: AskOptions, judge: Annotated[AskedJudge, Group(prefix="judge-")]) -> None:
    """Judge one edit, or print exactly what a judge would be sent."""
    from earl.records import Attempt
    from earl.verifiers.judge import JudgeVerifier, ReferenceVerifier
    from earl.vision.images import open_image

    target = open_image(options.target) if options.target else None
    source, edited = open_image(options.source), open_image(options.edited)
    if not (judge.url or options.dry_run):
        raise ConfigError("whom to ask? Give --judge-url, as http://host:8000/v1; --dry-run only prints")
    attempt = Attempt(source, options.instruction, edited, target=target, family=options.family)
    verifier = (ReferenceVerifier if target else JudgeVerifier)(judge)
    if options.dry_run:
        requests = verifier.requests(attempt)
        shown = re.sub(r"(;base64,.{16})[^\"]*", r"\1…", json.dumps(requests, indent=1, ensure_ascii=False))
        say(shown)
        return
    verdict = asyncio.run(verifier.judge([attempt]))[0]
    if not verdict.ok:
        raise VerifierError(f"{verdict.status}: {verdict.why}")
    say(f"overall {verdict.overall:.2f}: " + ", ".join(f"{n} {verdict.score(n):g}" for n in SCORE_PARTS))
    say(verdict.raw)


def check(judge: Annotated[JudgeSettings, Group(prefix="judge-")]) -> None:
    """Say which model judges, and with which questions."""
    from earl.verifiers.judge import JudgeVerifier

    verifier = JudgeVerifier(judge)
    model = asyncio.run(verifier.check())
    say(f"{model} at {judge.url}, questions {verifier.prompts.version} ({verifier.prompts.hash})")
