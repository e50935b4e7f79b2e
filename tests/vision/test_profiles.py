"""Embedded colour profiles: applied once, and never a reason to fail."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from earl.vision.images import open_image


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """A profile in which the first channel is green and the second red, otherwise sRGB."""
    data = bytearray(srgb())
    (count,) = struct.unpack_from(">I", data, 128)
    other = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    for place in range(132, 132 + 12 * count, 12):
        tag = bytes(data[place : place + 4])
        data[place : place + 4] = other.get(tag, tag)
    return bytes(data).replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))


def linear_grey() -> bytes:
    """A grey profile whose values are light itself (gamma 1), written by hand after ICC.1:2001."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)  # D50, s15Fixed16
    words = b"Linear grey\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(words)) + words + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    parts = [(b"desc", text), (b"wtpt", white), (b"kTRC", curve)]
    table, body, at = struct.pack(">I", len(parts)), b"", 132 + 12 * len(parts)
    for tag, content in parts:
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">2I", at + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + body


def saved(image: Image.Image, profile: bytes, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, icc_profile=profile, **options)
    return file.getvalue()


def corner(image: Image.Image) -> tuple[int, ...]:
    return tuple(int(v) for v in np.asarray(image)[0, 0])


def near(image: Image.Image, expected: tuple[int, int, int], by: int = 3) -> bool:
    return max(abs(a - b) for a, b in zip(corner(image), expected, strict=True)) <= by


RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_colours_are_what_the_profile_means(form):
    data = saved(Image.new("RGB", (16, 16), RED), swapped(), form)
    opened = open_image(data)
    assert opened.mode == "RGB" and near(opened, GREEN, by=8)


def test_it_is_applied_once():
    once = open_image(saved(Image.new("RGB", (8, 8), RED), swapped()))
    assert "icc_profile" not in once.info
    assert near(open_image(once), GREEN)


def test_a_given_image_is_not_changed():
    given = Image.open(io.BytesIO(saved(Image.new("RGB", (8, 8), RED), swapped())))
    assert near(open_image(given), GREEN)
    assert corner(given) == RED and given.info["icc_profile"]


def test_srgb_leaves_every_value():
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    opened = open_image(saved(Image.fromarray(values), srgb()))
    np.testing.assert_array_equal(np.asarray(opened), values)


def test_alpha_palette_and_a_transparent_colour():
    clear = Image.new("RGBA", (8, 8), (*RED, 0))
    assert corner(open_image(saved(clear, swapped()))) == (255, 255, 255)
    assert near(open_image(saved(Image.new("RGBA", (8, 8), (*RED, 255)), swapped())), GREEN)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *RED] + [0] * 762)
    assert near(open_image(saved(palette, swapped())), GREEN)
    keyed = saved(Image.new("RGB", (8, 8), RED), swapped(), transparency=RED)
    assert corner(open_image(keyed)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_has_profiles_too(mode):
    image = Image.new(mode, (8, 8), 128 if mode == "L" else (128, 255))
    assert near(open_image(saved(image, linear_grey())), (188, 188, 188)), "half the light is 188 in sRGB"


def test_grey_pixels_under_an_rgb_profile():
    assert near(open_image(saved(Image.new("L", (8, 8), 128), swapped())), (128, 128, 128))


def test_the_turn_of_exif_and_the_profile_go_together():
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_image(saved(Image.new("RGB", (16, 8), RED), swapped(), exif=exif))
    assert opened.size == (8, 16) and near(opened, GREEN)


@pytest.mark.parametrize(
    "profile",
    [b"not a profile", srgb()[:100], swapped()[:200] + bytes(50), linear_grey()],
    ids=["no profile", "cut short", "broken", "grey"],  # bytes hold the time of their making
)
def test_profiles_of_no_use_are_ignored(profile):
    assert corner(open_image(saved(Image.new("RGB", (8, 8), RED), profile))) == RED


def test_sixteen_bits_keep_their_values():
    deep = Image.fromarray(np.full((8, 8), 257 * 100, np.uint16))
    assert corner(open_image(saved(deep, linear_grey()))) == (100, 100, 100)
