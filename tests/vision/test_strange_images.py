"""Image files of strangers: formats that are not opened, wide ranges, transparency of 16 bits, silence."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.errors import ImageError
from earl.vision.images import open_image

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n{ } loop\n"


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values) -> bytes:
    return saved(Image.fromarray(np.asarray(values)), "TIFF")


def png(depth: int, colour: int, row: bytes, transparent: bytes, *, width: int = 16) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 8, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 8))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("head", [POSTSCRIPT, b"\xc5\xd0\xd3\xc6" + bytes(26) + POSTSCRIPT, b"%PDF-1.4\n"])
def test_programs_are_not_opened_as_images(head, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", None)  # how Pillow starts Ghostscript
    (tmp_path / "a.png").write_bytes(head)
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "TGA", "MPO"]
)
def test_raster_formats_are_opened(kind):
    image = Image.new("RGB", (32, 32), (200, 0, 0))
    assert np.abs(np.asarray(open_image(saved(image, kind)), int)[3, 3] - (200, 0, 0)).max() <= 2


@pytest.mark.parametrize(
    ("depth", "colour", "row", "transparent", "opaque"),
    [
        (16, 0, struct.pack(">16H", *[0] * 8, *[40_000] * 8), struct.pack(">H", 0), (156, 156, 156)),
        (8, 0, bytes([0] * 8 + [200] * 8), struct.pack(">H", 0), (200, 200, 200)),
        (16, 2, struct.pack(">48H", *[0x1234] * 24, *[50_000, 0, 0] * 8), struct.pack(">3H", *[0x1234] * 3),
         (195, 0, 0)),
        (16, 2, struct.pack(">48H", *[0x0012] * 24, *[50_000, 0, 0] * 8), struct.pack(">3H", *[0x0012] * 3),
         (195, 0, 0)),
        (8, 2, bytes([0, 0, 0] * 8 + [200, 0, 0] * 8), struct.pack(">3H", 0, 0, 0), (200, 0, 0)),
    ],
)  # fmt: skip
def test_a_transparent_colour_is_white(depth, colour, row, transparent, opaque):
    image = open_image(png(depth, colour, row, transparent))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((15, 7)) == opaque


@pytest.mark.parametrize("top", [1.0, 1.05, 255.0, 270.0, 65535.0])
def test_floats_a_little_above_their_range(top):
    ramp = np.linspace(0, top, 128, dtype=np.float32).reshape(8, 16)
    limit = next(limit for limit in (1, 255, 65535) if top <= 1.25 * limit)
    expected = np.clip(np.rint(ramp.astype(float) * 255 / limit), 0, 255)
    assert np.abs(np.asarray(open_image(tiff(ramp)), float)[..., 0] - expected).max() <= 1


def test_values_that_are_not_finite():
    ramp = np.linspace(0, 1, 128, dtype=np.float32).reshape(8, 16)
    ramp[0, 0], ramp[0, 1] = np.inf, np.nan
    image = open_image(tiff(ramp))
    assert [image.getpixel(place)[0] for place in ((0, 0), (1, 0), (15, 7))] == [255, 0, 255]
    with pytest.raises(ImageError, match="no pixel with a value"):
        open_image(tiff(np.full((8, 16), np.nan, np.float32)))


@pytest.mark.parametrize(
    "path", ["x" * 5000, "a\0b", "~no-such-user/a.png", "\ud800.png", "/dev/zero", "/proc/self/maps", "."]
)
def test_paths_that_are_no_files(path):
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert len(str(caught.value)) < 400
    str(caught.value).encode()


def test_libraries_say_nothing_beside_our_sentence(tmp_path):
    noise = Image.effect_noise((40, 40), 50).convert("RGB")
    for number, compression in enumerate(("tiff_lzw", "tiff_deflate", "packbits", "jpeg")):
        data = bytearray(saved(noise, "TIFF", compression=compression))
        data[200:260] = os.urandom(60)
        (tmp_path / f"{number}.tif").write_bytes(data)
    palette = noise.quantize(8)
    (tmp_path / "4.png").write_bytes(saved(palette, "PNG", transparency=bytes([0, 9, 200])))
    code = (
        "import sys, warnings; warnings.simplefilter('always')\n"
        "from earl.vision.images import open_image; from earl.errors import ImageError\n"
        "for path in sys.argv[1:]:\n"
        "    try: open_image(path)\n"
        "    except ImageError as error: print(error)\n"
    )
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert done.stderr == "" and done.returncode == 0


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_may_never_end_is_not_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ImageError, match=r"image\.png is a pipe or a device"):
        open_image(path)


def test_premultiplied_grey() -> None:
    assert open_image(Image.new("La", (4, 4))).getpixel((0, 0)) == (255, 255, 255)
