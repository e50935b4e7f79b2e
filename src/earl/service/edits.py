"""The edit service: `POST /v1/images/edits` in OpenAI's format, models, health, metrics, documentation.

Source: OpenAI's API reference for image edits; metric names as vLLM's.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image

from earl.config.service import ServiceSettings
from earl.errors import EarlError, ImageError
from earl.pipeline import EditResult
from earl.pipeline.result import check_answered
from earl.records import Verdict
from earl.service.edit_request import EditFields, EditRequest, check_size, decode, read_raw
from earl.service.limits import Room, bounded
from earl.service.metrics import Metrics
from earl.service.scheduler import Job, Scheduler
from earl.service.server import Server
from earl.service.session import Session
from earl.service.wire import ApiError, check_key, event, with_errors
from earl.vision.saving import Provenance, encode_image

_MAX_SEED = 2**53  # whole numbers that JSON readers keep exactly
Judge = Callable[[EditResult], Awaitable[list[Verdict]]]


class EditService(Server):
    """The application and what it holds.

    Args:
        session: what samples.
        name: of the model that clients name.
        settings: address, queue, deadlines, limits.
        keys: accepted API keys; none are asked for where there are none.
        judge: gives a verdict for each image of a result; None where nothing can judge, and then
            `best_of` is refused.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        settings: ServiceSettings | None = None,
        *,
        keys: Sequence[str] = (),
        judge: Judge | None = None,
    ) -> None:
        self.session, self.judge = session, judge
        self.settings = settings or ServiceSettings()
        metrics = Metrics(name)
        self.scheduler = Scheduler(session, self.settings, metrics)
        super().__init__(name, self.scheduler, metrics, Room(self.settings.max_pixels), keys)

    def app(self) -> FastAPI:
        """The ASGI application."""

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield
            await asyncio.to_thread(self.scheduler.stop)

        app = self._app("Edits images from instructions.", lifespan)
        app.add_api_route(
            "/v1/images/edits", self._edits, methods=["POST"], openapi_extra=_described(), response_model=None
        )
        if origins := self.settings.origins:
            every, shown = ("*",), ("x-request-id", "retry-after")
            app.add_middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=every,
                allow_headers=every,
                expose_headers=shown,
            )
        return app

    async def _edits(self, request: Request) -> Response:
        """Edit an image from an instruction."""
        arrived = time.monotonic()
        check_key(request, self.keys)
        held = ExitStack()
        try:
            places = held.enter_context(self.scheduler.reserve())
            take = held.enter_context(self.room.holding())
            raw = await read_raw(bounded(request, self.settings, take), self.settings)
            self._check_model(raw.fields.model)
            if raw.fields.best_of is not None and self.judge is None:
                raise ApiError(
                    "best_of needs a verifier; start the service with one, as --best-by judge",
                    param="best_of",
                    code="unsupported",
                )
            places.take(raw.fields.best_of or raw.fields.n)
            edit = await asyncio.to_thread(decode, raw, self.settings, take)
            warning = await asyncio.to_thread(self.session.lacking, edit)
            size = check_size(edit.fields.size, [edit.image.size, self._model_size(edit.image)])
            seed = secrets.randbelow(_MAX_SEED) if edit.fields.seed is None else edit.fields.seed
            partials = edit.fields.partial_images if edit.fields.stream else 0
            job = self.scheduler.submit(edit, tuple(range(seed, seed + edit.draws)), arrived, partials)
        except BaseException:
            held.close()
            raise
        answer = _Answer(self, edit, job, size, warning)
        if edit.fields.stream:

            async def events() -> AsyncIterator[bytes]:
                try:
                    async for item in with_errors(answer.events()):
                        yield item
                finally:  # also where the client has left, and this generator is closed
                    self.scheduler.cancel(job)
                    held.close()

            return StreamingResponse(events(), media_type="text/event-stream")
        try:
            return JSONResponse(await _unless_gone(request, self.scheduler, job, answer.whole()))
        finally:
            held.close()

    def _model_size(self, image: Image.Image) -> tuple[int, int]:
        """Width and height that the model works at; 400 for an image of a shape that it cannot take."""
        try:
            return self.session.size_of(image)
        except ImageError as error:
            raise ApiError(str(error), param="image", code="invalid_image") from error


class _Answer:
    """The answer to a request."""

    def __init__(
        self, service: EditService, edit: EditRequest, job: Job, size: tuple[int, int] | None, warning: str
    ) -> None:
        self.service, self.edit, self.job, self.size, self.warning = service, edit, job, size, warning

    async def whole(self) -> dict[str, Any]:
        """The JSON body of a request that is not streamed."""
        result, verdicts = await self._result()
        images = await asyncio.to_thread(self._encode_all, result, verdicts)
        return {"created": int(time.time()), "data": images, **self._common(result)}

    async def events(self) -> AsyncIterator[bytes]:
        """Partial images as rows are sampled, then each whole one."""
        number = 0
        async for partial in self.service.scheduler.partials(self.job):
            image = partial.image if self.size is None else partial.image.resize(self.size)
            yield event(
                "image_edit.partial_image",
                {
                    "type": "image_edit.partial_image",
                    "b64_json": await asyncio.to_thread(self._encode, image, self.job.seeds[partial.index]),
                    "partial_image_index": number,
                    "image_index": partial.index,
                    "rows": partial.rows,
                    **self._shown(image),
                },
            )
            number += 1
        result, verdicts = await self._result()
        common = self._common(result)
        for item in await asyncio.to_thread(self._encode_all, result, verdicts):
            about = {"type": "image_edit.completed", "created_at": int(time.time())}
            yield event("image_edit.completed", {**about, **item, **common})

    async def _result(self) -> tuple[EditResult, list[Verdict] | None]:
        """The result with the images that were asked for; best first where a verifier chose."""
        result = await self.job.done
        if not any(result.images):
            raise ApiError(
                f"the model wrote no image ({result.problems[0]}); try another seed", 422, code="no_image"
            )
        if self.service.judge is None or self.edit.fields.best_of is None:
            return result, None
        try:
            verdicts = await self.service.judge(result)
            check_answered(verdicts)
        except EarlError as error:
            raise ApiError(f"the images could not be judged: {error}", 502, code="judge_failed") from error
        order = sorted(  # best first; equal scores stay in the order drawn
            range(len(verdicts)), key=lambda place: 1.0 if (s := verdicts[place].overall) is None else -s
        )[: self.edit.fields.n]
        return result.keep(order), [verdicts[place] for place in order]

    def _encode_all(self, result: EditResult, verdicts: list[Verdict] | None) -> list[dict[str, Any]]:
        images = []
        for place, image in enumerate(result.images):
            if image is None:
                continue
            shown = self.service.session.finish(image, result, self.edit, self.size)
            seed = result.seeds[place]
            item: dict[str, Any] = {"b64_json": self._encode(shown, seed), "seed": seed}
            item["unchanged"] = result.unchanged[place]
            if result.reasoning[place] is not None:
                item["reasoning"] = result.reasoning[place]
            if verdicts is not None:
                item["score"] = verdicts[place].overall
            images.append(item)
        return images

    def _encode(self, image: Image.Image, seed: int) -> str:
        fields, service = self.edit.fields, self.service
        content = encode_image(
            image,
            fields.output_format.upper(),
            quality=fields.output_compression,
            provenance=Provenance(service.name, seed, [fields.prompt])
            if service.settings.provenance
            else None,
        )
        return base64.b64encode(content).decode("ascii")

    def _shown(self, image: Image.Image) -> dict[str, Any]:
        return {
            "background": "opaque",
            "output_format": self.edit.fields.output_format,
            "quality": "auto",
            "size": f"{image.width}x{image.height}",
            "created_at": int(time.time()),
        }

    def _common(self, result: EditResult) -> dict[str, Any]:
        first = next(image for image in result.images if image is not None)
        full = self.edit.fields.keep_outside or self.edit.mask is not None  # at the source's own size
        size = self.size or (self.edit.image.size if full else first.size)
        sampled = sum(len(completion.ids) for completion in result.completions)
        text, image = self.service.session.prompt_lengths(result)
        return {
            "background": "opaque",
            "output_format": self.edit.fields.output_format,
            "quality": "auto",
            "size": f"{size[0]}x{size[1]}",
            "warnings": list(filter(None, (self.warning, *result.notes))),
            "usage": {
                "input_tokens": text + image,
                "input_tokens_details": {"text_tokens": text, "image_tokens": image},
                "output_tokens": sampled,
                "total_tokens": text + image + sampled,
            },
        }


async def _unless_gone(
    request: Request, scheduler: Scheduler, job: Job, answer: Awaitable[dict[str, Any]]
) -> dict[str, Any]:
    """The answer; where the client leaves before it is there, the job is cancelled."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(answer), asyncio.ensure_future(watch())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError("the client left", 499, code="client_closed_request")
        return working.result()
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
        scheduler.cancel(job)


def _described() -> dict[str, Any]:
    """The request for `/docs`: the form is read by hand, within bounds."""
    schema = EditFields.model_json_schema()
    file = {"type": "string", "format": "binary"}
    url = {"type": "string", "format": "data-url", "description": "a base64 data URL"}
    form = {**schema, "properties": {"image": file, "mask": file, **schema["properties"]}}
    body = {**schema, "properties": {"image": url, "mask": url, **schema["properties"]}}
    for described in (form, body):
        described["required"] = ["image", "prompt"]
    kinds = {"image": {"contentType": "image/png, image/jpeg"}, "mask": {"contentType": "image/png"}}
    content = {
        "multipart/form-data": {"schema": form, "encoding": kinds},
        "application/json": {"schema": body},
    }
    return {"requestBody": {"required": True, "content": content}}
