"""Reading `POST /v1/images/edits`: multipart or JSON to one checked request.

What cannot be honoured is refused with its field's name, never ignored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from earl.config.service import ServiceSettings
from earl.config.settings import Temperature
from earl.service.limits import Take, check_pixels, decode_image, read_data_url, read_json
from earl.service.wire import ApiError
from earl.vision.images import upright

MOST_IMAGES = 10
_IMAGE_FIELDS = ("image", "image[]", "images", "images[]", "mask")
Words = Annotated[str, Field(max_length=64)]


class EditFields(BaseModel):
    """The fields of a request besides its images. Multipart sends text: "3" is 3, "true" is true."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    model: str | None = None
    n: int = Field(default=1, ge=1, le=MOST_IMAGES)
    size: Words = "auto"
    quality: Literal["auto"] = "auto"
    background: Literal["auto", "opaque"] = "auto"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = Field(default=100, ge=0, le=100)
    response_format: Literal["b64_json"] = "b64_json"
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=3)
    user: Annotated[str, Field(max_length=1024)] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63 - MOST_IMAGES)
    temperature: Temperature = Field(default=1.0, allow_inf_nan=False)
    top_k: int = Field(default=2048, ge=0, le=2**31)
    top_p: float = Field(default=1.0, gt=0, le=1)
    guidance: float = Field(default=1.0, ge=1, le=100, allow_inf_nan=False)
    best_of: int | None = Field(default=None, ge=1, le=MOST_IMAGES)
    reasoning: bool | None = None
    keep_outside: bool = False

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One request, checked and decoded.

    Attributes:
        fields: everything besides images.
        image: the source, RGB and upright.
        mask: True where the edit may change the source, at the source's size; None without a mask.
    """

    fields: EditFields
    image: Image.Image
    mask: Image.Image | None

    @property
    def draws(self) -> int:
        """Images to sample: `n`, or `best_of`."""
        return self.fields.best_of or self.fields.n


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request whose images are still bytes."""

    fields: EditFields
    image: bytes
    mask: bytes | None


async def read_raw(request: Request, settings: ServiceSettings) -> RawRequest:
    """Read and check everything but the images' pixels.

    Raises:
        ApiError: 400 with the field in `param`; 415 for a body that is neither multipart nor JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        values, images = await _read_form(request)
    elif kind == "application/json":
        values, images = _split(await read_json(request))
    else:
        raise ApiError(
            f"the content type is {kind[:80]!r}; send multipart/form-data or application/json",
            415,
            code="unsupported_content_type",
        )
    fields = check_fields(values, settings)
    sources = images.get("image", [])
    if len(sources) != 1:
        raise ApiError(
            f"{len(sources) or 'no'} images; this model edits exactly one source image",
            param="image",
            code="invalid_number_of_images" if sources else "missing_image",
        )
    masks = images.get("mask", [])
    if len(masks) > 1:
        raise ApiError("more than one mask; give one", param="mask", code="invalid_value")
    return RawRequest(fields, sources[0], masks[0] if masks else None)


def decode(raw: RawRequest, settings: ServiceSettings, take: Take) -> EditRequest:
    """Decode the images; slow, so it runs in a thread.

    Raises:
        ApiError: 400 for bytes that are no image, too many pixels, or a mask of another size; 429, no room.
    """
    image = decode_image(raw.image, "image", settings.max_pixels, take)
    return EditRequest(raw.fields, image, _open_mask(raw.mask, image, settings, take))


def check_fields(values: Mapping[str, Any], settings: ServiceSettings) -> EditFields:
    """The fields of a request. Raises ApiError 400 with the name of the one that cannot be honoured."""
    fields = _parse_fields(values)
    length = len(fields.prompt)
    if not fields.prompt.strip():
        raise ApiError("prompt is empty; say what to change", param="prompt", code="missing_prompt")
    if length > settings.max_prompt:
        raise ApiError(
            f"prompt has {length:,} characters, at most {settings.max_prompt:,} are accepted",
            param="prompt",
            code="string_above_max_length",
        )
    if fields.best_of is not None and fields.best_of < fields.n:
        raise ApiError(
            f"best_of is {fields.best_of} and n is {fields.n}; best_of is the number of draws that n are "
            "chosen from",
            param="best_of",
            code="invalid_value",
        )
    if fields.output_format == "png" and fields.output_compression != 100:
        raise ApiError(
            "output_compression is for jpeg and webp; png is lossless",
            param="output_compression",
            code="unsupported_value",
        )
    if fields.partial_images and not fields.stream:
        raise ApiError(
            "partial_images are streamed; ask for stream=true as well",
            param="partial_images",
            code="unsupported_value",
        )
    return fields


def _parse_fields(values: Mapping[str, Any]) -> EditFields:
    try:
        return EditFields.model_validate(dict(values))
    except ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        name = ".".join(str(part) for part in first["loc"])[:80]
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(EditFields.model_fields))
            raise ApiError(
                f"unknown parameter {name!r}; there are {known}, image, mask",
                param=name,
                code="unknown_parameter",
            ) from error
        code = "missing_required_parameter" if first["type"] == "missing" else "unsupported_value"
        raise ApiError(f"{name}: {first['msg']}", param=name, code=code) from error


async def _read_form(request: Request) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    try:
        form: FormData = await request.form(max_files=18, max_fields=64, max_part_size=256 * 1024)
    except ApiError:
        raise
    except Exception as error:  # the parsers of multipart have many errors for a malformed body
        detail = getattr(error, "detail", error)
        raise ApiError(f"the form cannot be read: {str(detail)[:200]}", code="invalid_form") from error
    values: dict[str, Any] = {}
    images: dict[str, list[bytes]] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name not in _IMAGE_FIELDS:
                    raise ApiError(
                        f"unknown file field {name[:80]!r}; files are image, image[] and mask",
                        param=name[:80],
                        code="unknown_parameter",
                    )
                images.setdefault(_image_field(name), []).append(await value.read())
            elif name in _IMAGE_FIELDS:
                images.setdefault(_image_field(name), []).append(read_data_url(value, _image_field(name)))
            elif name in values:
                raise ApiError(f"{name[:80]} stands twice", param=name[:80], code="duplicate_parameter")
            else:
                values[name] = value
    finally:
        await form.close()
    return values, images


def _split(body: Any) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    if not isinstance(body, dict):
        raise ApiError(f"the body is a JSON {type(body).__name__}, expected an object", code="invalid_json")
    values = {name: value for name, value in body.items() if name not in _IMAGE_FIELDS}
    images: dict[str, list[bytes]] = {}
    for name in _IMAGE_FIELDS:
        given = body.get(name)
        for item in given if isinstance(given, list) else [given] if given is not None else []:
            url = item.get("image_url", item.get("url")) if isinstance(item, dict) else item
            images.setdefault(_image_field(name), []).append(read_data_url(url, _image_field(name)))
    return values, images


def _image_field(name: str) -> str:
    return "mask" if name == "mask" else "image"


def _open_mask(
    data: bytes | None, image: Image.Image, settings: ServiceSettings, take: Take
) -> Image.Image | None:
    """The mask of where the edit may change the source: transparent there, as OpenAI's are."""
    if data is None:
        return None
    check_pixels(data, "mask", settings.max_pixels, take)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as opened:
            alpha = upright(opened).convert("RGBA").getchannel("A")
            mask = alpha.point([255 if value < 128 else 0 for value in range(256)]).convert("1")
    except Exception as error:  # decoders fail in many ways
        raise ApiError(
            "mask is not a PNG or WebP that can be read", param="mask", code="invalid_image"
        ) from error
    if not mask.getbbox():
        raise ApiError(
            "mask has no transparency; what may change is marked by transparent pixels",
            param="mask",
            code="invalid_mask",
        )
    if mask.size != image.size:
        raise ApiError(
            f"mask has {mask.width}x{mask.height} pixels, image {image.width}x{image.height}; give them "
            "one size",
            param="mask",
            code="invalid_mask",
        )
    return mask


def check_size(size: str, allowed: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The output size that is asked for, None for the source's own.

    Args:
        size: "auto" or "WIDTHxHEIGHT".
        allowed: (width, height) that can be given: the source's, and what the model works at.

    Raises:
        ApiError: 400, any other size.
    """
    if size == "auto":
        return None
    for width, height in allowed:
        if size == f"{width}x{height}":
            return width, height
    known = " or ".join(dict.fromkeys(f"{width}x{height}" for width, height in allowed))
    raise ApiError(
        f"size {size!r} cannot be given for this image; leave it out, or ask for auto or {known}",
        param="size",
        code="unsupported_value",
    )
