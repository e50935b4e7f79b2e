"""Reading a chat request: which of a judge's questions it is, its images, and the instruction.

The package's own wordings (or those of `--prompts DIR`) are recognised word by word, in both
orders of the images. In any other wording, two images are source and edited image in
that order, and the instruction is what follows the last "instruction:"; one image is the
question of perceptual quality.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earl.endpoints.message import Slot
from earl.sequence.instruction import trimmed
from earl.service.limits import Take, decode_image, read_data_url
from earl.service.wire import ApiError
from earl.verifiers.questions import Prompts

IMAGE = "\n\0\n"  # stands for an image where a question's words are compared
BLANK = "\x01"  # stands for the instruction
FOREIGN_INSTRUCTION = re.compile(r"instructions?\s*:[^\S\n]*(\S.*)", re.I)
ANSWERS = 128  # to one request
MOST_TEXT = 32_000  # characters of a question


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Lenient):
    type: Literal["text"]
    text: str


class ImageUrl(_Lenient):
    url: str


class ImagePart(_Lenient):
    type: Literal["image_url"]
    image_url: ImageUrl


class Message(_Lenient):
    role: str
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None


class ChatRequest(_Lenient):
    """The fields of a chat completion request that matter here; others are ignored."""

    model: str
    messages: list[Message] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=ANSWERS)
    stream: bool | None = False


@dataclass(frozen=True)
class Asked:
    """One question: about a pair of images, or about the edited one alone (`question` "perceptual")."""

    question: str
    images: dict[str, Image]
    instruction: str = ""
    known: bool = True  # its wording is one of ours


def read_request(body: bytes) -> ChatRequest:
    """Raises ApiError (400) for what is not a chat request, or asks for a stream."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the body"
        raise ApiError(f"{place}: {first['msg']}", code="invalid_request") from error
    if request.stream:
        raise ApiError("a verdict is not streamed; leave out `stream`")
    return request


def read_question(request: ChatRequest, prompts: Prompts, max_pixels: int, take: Take) -> Asked:
    """The question that a request asks. Slow, so it runs in a thread.

    Raises:
        ApiError: no image or more than two, one that cannot be read or is too large, no instruction, too
            long a text, no room (429).
    """
    parts = _parts(request)
    shown = [part for part in parts if not isinstance(part, str)]
    if len(shown) not in (1, 2):
        raise ApiError(f"{len(shown)} images; a question shows source and edited image, or one alone")
    if (length := sum(len(part) for part in parts if isinstance(part, str))) > MOST_TEXT:
        raise ApiError(f"the question has {length:,} characters, at most {MOST_TEXT:,} are accepted")
    names = [f"image {number}" for number, _ in enumerate(shown, 1)]
    files = [read_data_url(part.image_url.url, name) for part, name in zip(shown, names, strict=True)]
    images = [decode_image(data, name, max_pixels, take) for data, name in zip(files, names, strict=True)]
    words = [part.strip() if isinstance(part, str) else IMAGE for part in parts]
    text = "".join(word for word in words if word)
    for question in prompts.templates:
        for swapped in (False, True):
            asked = _match(text, images, prompts, question, swapped)
            if asked is not None:
                return asked
    return _foreign(text, images)


def _parts(request: ChatRequest) -> list[str | ImagePart]:
    parts: list[str | ImagePart] = []
    for message in request.messages:
        if isinstance(message.content, str):
            parts.append(message.content)
        else:
            parts += [part.text if isinstance(part, TextPart) else part for part in message.content or ()]
    return parts


def _match(text: str, images: list[Image], prompts: Prompts, question: str, swapped: bool) -> Asked | None:
    """The question, if its words are those of a template."""
    try:
        parts = prompts.parts(question, BLANK, swapped=swapped)
    except ValueError:  # a template without image lines has no swapped order
        return None
    slots = [part.name for part in parts if isinstance(part, Slot)]
    if len(slots) != len(images):
        return None
    pattern = re.escape("".join(IMAGE if isinstance(part, Slot) else part for part in parts))
    match = re.fullmatch(pattern.replace(re.escape(BLANK), "(.*?)"), text, re.S)
    if match is None:
        return None
    instruction = trimmed(match[1]) if match.groups() else ""
    return Asked(question, dict(zip(slots, images, strict=True)), instruction)


def _foreign(text: str, images: list[Image]) -> Asked:
    if len(images) == 1:
        return Asked("perceptual", {"edited": images[0]}, known=False)
    found = [words for line in FOREIGN_INSTRUCTION.findall(text) if (words := trimmed(line))]
    if not found:
        raise ApiError('no instruction; write "Editing instruction: ..." on a line of its own')
    return Asked("semantic", {"source": images[0], "edited": images[1]}, found[-1], known=False)


def answer_json(scores: tuple[float, float], why: Any) -> str:
    """An answer as the VIEScore protocol wants it."""
    return json.dumps({"score": list(scores), "reasoning": str(why)})
