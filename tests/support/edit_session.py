"""An edit service, its client, and a session whose edits are inverted sources."""

from __future__ import annotations

import io
import time
from contextlib import contextmanager

import openai
from PIL import Image, ImageOps

from earl.config.service import ServiceSettings
from earl.errors import InstructionError, ModelFormatError
from earl.pipeline import EditResult
from earl.records import Completion
from earl.service.edits import EditService
from earl.service.http import served

ROWS = 8


class Inverter:
    """Inverts images, one row a step; counts what is in progress."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.running, self.steps, self.removed = pause, {}, 0, 0
        self.most = 0

    def insert(self, edits):
        return [self._insert(*edit) for edit in edits]

    def _insert(self, request, seeds, on_row):
        if "unreadable" in request.fields.prompt:
            return InstructionError("the instruction is too long for the model; shorten it")
        ticket = self.steps * 1000 + len(self.running) + self.removed
        self.running[ticket] = [request, seeds, on_row, 0]
        self.most = max(self.most, len(self.running))
        return ticket

    def remove(self, ticket):
        del self.running[ticket]
        self.removed += 1

    def step(self, hand_back=True):
        time.sleep(self.pause)
        self.steps += 1
        done = []
        for ticket, entry in list(self.running.items()):
            request, seeds, on_row, row = entry
            entry[3] = row + 1
            leave = "leave" in request.fields.prompt
            image = request.image if leave else ImageOps.invert(request.image)
            for index in range(len(seeds)):
                on_row(index, row + 1, lambda image=image: image)
            if "crash" in request.fields.prompt:
                raise RuntimeError("a mistake of ours")
            if entry[3] >= ROWS and hand_back:
                del self.running[ticket]
                count = len(seeds)
                completion = Completion((1,) * 10, (0.0,) * 10, "stop")
                if "diverge" in request.fields.prompt:
                    done.append((ticket, ModelFormatError("the likelihoods are not numbers")))
                    continue
                result = EditResult(
                    (image,) * count,
                    (completion,) * count,
                    seeds,
                    request.image,
                    request.fields.prompt,
                    0.1,
                    (None,) * count,
                    (None,) * count,
                    (leave,) * count,
                )
                done.append((ticket, result))
        return done

    def has_room(self, requests):
        return len(self.running) + len(requests) <= 4

    def lacking(self, request):
        return "it never saw a dragon" if "dragon" in request.fields.prompt else ""

    def rows_of(self, ticket):
        return ROWS

    def size_of(self, image):
        return image.size

    def finish(self, image, result, request, size):
        return image if size is None else image.resize(size)

    def prompt_lengths(self, result):
        return 5, 66


def png(size=(40, 24), color=(10, 200, 30), fmt="PNG", **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, fmt, **options)
    return buffer.getvalue()


@contextmanager
def serving(session=None, **options):
    settings = ServiceSettings(**options.pop("settings", {}))
    service = EditService(session or Inverter(), "tiny", settings, **options)
    try:
        with served(service.app()) as url:
            yield service, url
    finally:
        service.scheduler.stop()


def client(url, **options):
    return openai.OpenAI(base_url=url, api_key="none", **{"max_retries": 0, **options})
