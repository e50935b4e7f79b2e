"""Images as people have them: every mode, every way a file can be wrong, one resize rule."""

from __future__ import annotations

import io
import os
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from earl.errors import ImageError
from earl.vision import images
from earl.vision.images import image_files, open_image, resize_pair, target_size


def as_bytes(image: Image.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def corner(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def test_path_bytes_and_image_give_the_same(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), as_bytes(image), image):
        np.testing.assert_array_equal(np.asarray(open_image(source)), np.asarray(image))


def test_the_given_image_is_not_the_one_returned():
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    open_image(image).putpixel((0, 0), (9, 9, 9))
    assert corner(image) == (1, 2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    """A red top left corner as the person sees it, whichever way the sensor lay."""
    seen = Image.new("RGB", (16, 8), (0, 0, 255))
    seen.paste((255, 0, 0), (0, 0, 4, 4))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL transposes that lead back to the sensor
    stored = seen if orientation == 1 else seen.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_image(as_bytes(stored, exif=exif))
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(seen))


def test_damaged_exif_leaves_the_pixels():
    data = as_bytes(Image.new("RGB", (8, 8), (10, 200, 30)), "JPEG", exif=b"Exif\x00\x00garbage")
    assert abs(corner(open_image(data))[1] - 200) < 6


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("LA", (8, 8), (0, 0)), (255, 255, 255)),
        (Image.new("L", (8, 8), 77), (77, 77, 77)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 65535, np.uint16)), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)), (100, 100, 100)),
        (Image.fromarray(np.full((8, 8), 257 * 100, np.int32)), (100, 100, 100)),
        (Image.fromarray(np.full((8, 8), 100, np.int32)), (100, 100, 100)),
        (Image.fromarray(np.full((8, 8), 0.2, np.float32)), (51, 51, 51)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("YCbCr", (8, 8), (255, 128, 128)), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb(image, expected):
    assert corner(open_image(image)) == expected


def test_palette_with_a_transparent_entry():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10] + [0] * 762)
    assert corner(open_image(as_bytes(image))) == (200, 10, 10)
    assert corner(open_image(as_bytes(image, transparency=1))) == (255, 255, 255)


def test_rgb_with_a_transparent_colour():
    data = as_bytes(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3))
    assert corner(open_image(data)) == (255, 255, 255)


def test_cmyk_jpeg_and_sixteen_bit_png_through_files():
    red = open_image(as_bytes(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(np.subtract(corner(red), (255, 0, 0))).max() < 12
    deep = Image.fromarray((np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8))
    ramp = np.asarray(open_image(as_bytes(deep)))[..., 0].ravel().astype(int)
    assert ramp[0] == 0 and ramp[-1] == 251 and (np.diff(ramp) >= 3).all()


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    data = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert corner(open_image(data))[0] > 200


def test_files_that_are_no_image(tmp_path):
    (tmp_path / "notes.png").write_text("not an image at all")
    (tmp_path / "empty.png").touch()
    for source, words in [
        (tmp_path / "absent.png", "no image at"),
        (tmp_path, "is a folder"),
        (tmp_path / "notes.png", "not an image"),
        (tmp_path / "empty.png", "empty"),
        (b"", "empty"),
        ("a\0b", "cannot be read"),
        (42, "expected a path"),
    ]:
        with pytest.raises(ImageError, match=words) as caught:
            open_image(source)
        assert "\n" not in str(caught.value)


def test_image_files_of_a_folder(tmp_path):
    for name in ("a/1.png", "a/.hidden/2.png", "a/._3.png", "a/notes.txt", "b/c/4.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "up").symlink_to(tmp_path / "a")  # a circle
    (tmp_path / "a" / "5.png").symlink_to("nowhere")
    (tmp_path / "a" / "6.png").mkdir()
    os.mkfifo(tmp_path / "a" / "7.png")
    names = [str(path.relative_to(tmp_path)) for path in image_files(tmp_path / "a")]
    assert names == ["a/1.png", "a/linked/c/4.JPG"]
    assert image_files(tmp_path / "absent") == []


def test_what_the_first_frame_of_an_animation_does_not_cover_is_white():
    """Encoders cut a frame to what is not clear, and such a WebP then says that it has no alpha."""
    half = Image.new("RGBA", (32, 32))
    half.paste((0, 0, 0, 255), (16, 0, 32, 32))
    buffer = io.BytesIO()
    half.save(buffer, "WEBP", save_all=True, append_images=[half.rotate(180)], lossless=True)
    assert not buffer.getvalue()[20] & 16
    colours, frame = b"\0\0\xff\xff\0\0", struct.pack("<HHHHB", 1, 0, 1, 2, 0)
    gif = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + colours
    gif += b"," + frame + b"\x02\x02\x4c\x0a\0;"  # two pixels of colour 1
    for data, kept in ((buffer.getvalue(), (0, 0, 0)), (gif, (255, 0, 0))):
        image = open_image(data)
        assert image.getpixel((0, 1)) == (255, 255, 255)
        assert image.getpixel((image.width - 1, 1)) == kept


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files(form):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = as_bytes(Image.fromarray(noise), form)
    for share in (0.1, 0.5):
        with pytest.raises(ImageError):
            open_image(data[: int(len(data) * share)])


def test_huge_images_are_refused_before_they_are_decoded(monkeypatch):
    data = as_bytes(Image.new("RGB", (200, 100)))
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="200x100"):
        open_image(data)


def test_a_decompression_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ImageError, match="too many pixels"):
        open_image(as_bytes(Image.new("RGB", (20, 20))))


@pytest.mark.parametrize(
    ("given", "area", "expected"),
    [
        ((256, 256), 65536, (256, 256)),
        ((1024, 768), 65536, (296, 224)),
        ((64, 64), 4096, (64, 64)),
        ((500, 100), 4096, (144, 32)),
        ((100, 500), 4096, (32, 144)),
        ((1, 1), 65536, (256, 256)),
        ((5, 1), 64, (16, 8)),  # 17.9 x 3.6: a side is at least one cell
    ],
)
def test_target_size(given, area, expected):
    assert target_size(*given, area) == expected


def test_sizes_that_cannot_be():
    with pytest.raises(ImageError, match="5 times"):
        target_size(501, 100, 65536)
    with pytest.raises(ImageError, match="empty"):
        target_size(0, 10, 65536)
    with pytest.raises(ImageError, match="one cell"):
        target_size(10, 10, 63)


def test_target_size_is_its_own_fixed_point():
    """An image already at its size stays: tokenising twice never shrinks."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        width, height = (int(n) for n in rng.integers(100, 480, 2))
        area = int(rng.integers(4096, 100_000))
        size = target_size(width, height, area)
        again = target_size(*size, area)
        assert max(abs(a - b) for a, b in zip(size, again, strict=True)) <= 8


def test_a_pair_shares_the_source_s_size():
    source, target = Image.new("RGB", (300, 200)), Image.new("RGB", (301, 199), (9, 9, 9))
    first, second = resize_pair(source, target, 4096)
    assert first.size == second.size == target_size(300, 200, 4096)
    assert corner(second) == (9, 9, 9)


def test_opening_an_image_needs_no_torch():
    import subprocess

    code = "import sys, earl.vision.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
