"""Provenance in image files: written in each format, read back, and no word of the instruction in it."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from PIL import Image
from PIL.ExifTags import Base

import earl
from earl.vision.saving import Provenance, encode_image

MADE = Provenance("owner/name@main", 2**53 - 1, ["make it night", "add a \N{SNOWMAN}"])


def stored(content: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "PNG":
            return dict(image.text)
        exif = image.getexif()
        return {"Software": exif[Base.Software], "Description": exif[Base.ImageDescription]}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_what_is_stored_is_read_back(kind):
    fields = stored(encode_image(Image.new("RGB", (16, 8), "red"), kind, provenance=MADE))
    assert fields["Software"] == f"edited by EARL {earl.__version__}"
    words = "make it night\nadd a \N{SNOWMAN}".encode()
    assert json.loads(fields["Description"]) == {
        "model": "owner/name@main",
        "seed": 2**53 - 1,
        "instruction_sha256": hashlib.sha256(words).hexdigest(),
    }


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pixels_are_the_same_with_and_without(kind):
    image = Image.effect_noise((32, 24), 60).convert("RGB")
    plain, marked = encode_image(image, kind), encode_image(image, kind, provenance=MADE)
    first, second = (Image.open(io.BytesIO(content)).convert("RGB") for content in (plain, marked))
    assert first.tobytes() == second.tobytes() and plain != marked
    assert b"EARL" not in plain and b"night" not in marked


def test_folders_of_this_machine_are_not_told():
    assert json.loads(Provenance("/home/someone/models/mine", 0, ["x"]).fields()["Description"])["model"] == (
        "mine"
    )


def test_a_format_without_a_place_for_it_is_written_all_the_same():
    assert Image.open(io.BytesIO(encode_image(Image.new("RGB", (8, 8)), "BMP", provenance=MADE))).size == (
        8,
        8,
    )
