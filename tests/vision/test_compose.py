"""What an edit changed, and the source's own pixels outside it."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image, ImageDraw

from earl.errors import ImageError
from earl.vision.compose import cells_inside, changed_cells, given_codes, keep_outside, mask_of, open_mask


def noisy(size=(64, 64), level=4, seed=0):
    rng = np.random.default_rng(seed)
    values = 120 + rng.integers(-level, level + 1, (size[1], size[0], 3))
    return Image.fromarray(values.astype(np.uint8))


def test_a_drawn_square_is_found_with_its_neighbours_and_noise_is_not():
    before, after = noisy(seed=0), noisy(seed=1)
    assert not changed_cells(before, after).any()
    ImageDraw.Draw(after).rectangle((24, 16, 39, 31), fill=(250, 0, 0))  # columns 3-4, rows 2-3
    expected = np.zeros((8, 8), bool)
    expected[1:5, 2:6] = True
    np.testing.assert_array_equal(changed_cells(before, after), expected)


def test_a_lone_faint_cell_is_chance_and_a_strong_one_is_not():
    before = Image.new("RGB", (64, 64), (100, 100, 100))
    faint, strong = before.copy(), before.copy()
    ImageDraw.Draw(faint).rectangle((8, 8, 15, 15), fill=(115, 115, 115))
    ImageDraw.Draw(strong).rectangle((8, 8, 15, 15), fill=(140, 140, 140))
    assert not changed_cells(before, faint).any()
    assert changed_cells(before, strong).sum() == 9


def test_outside_the_seam_the_pixels_are_the_sources_own():
    rng = np.random.default_rng(3)
    source = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    edited = Image.new("RGB", (64, 48), (0, 255, 0))
    cells = np.zeros((6, 8), bool)
    cells[2:4, 3:5] = True
    out = np.asarray(keep_outside(source, edited, mask_of(cells)))
    assert out.shape == (300, 400, 3)
    far = np.ones((300, 400), bool)
    far[50:250, 100:300] = False  # one cell is 50 px
    np.testing.assert_array_equal(out[far], np.asarray(source)[far])
    assert (out[140:160, 190:210] == (0, 255, 0)).all()


def test_a_mask_touches_every_cell_that_it_reaches_into():
    mask = Image.new("L", (640, 480), 0)
    ImageDraw.Draw(mask).rectangle((75, 70, 165, 90), fill=255)
    found = cells_inside(mask, rows=6, columns=8)
    expected = np.zeros((6, 8), bool)
    expected[0:2, 0:3] = True  # 80 px a cell
    np.testing.assert_array_equal(found, expected)


def test_images_of_two_sizes_are_refused():
    with pytest.raises(ImageError, match="one size"):
        changed_cells(noisy((64, 64)), noisy((64, 72)))


def test_masks_are_transparent_or_white_where_the_edit_may_change_the_image(tmp_path):
    wanted = np.zeros((8, 16), bool)
    wanted[:, :8] = True
    white = Image.fromarray(wanted.astype(np.uint8) * 255)
    holed = Image.new("RGBA", (16, 8), (255, 255, 255, 255))  # opaque white is not "may change"
    holed.paste((0, 0, 0, 0), (0, 0, 8, 8))
    holed.save(tmp_path / "holed.png")
    white.save(tmp_path / "white.png")
    turned = Image.Exif()
    turned[0x0112] = 3  # by 180 degrees
    holed.rotate(180).save(tmp_path / "turned.png", exif=turned)
    opaque = white.convert("RGBA")  # as programs for drawing save it
    for mask in (
        white,
        opaque,
        holed,
        tmp_path / "white.png",
        str(tmp_path / "holed.png"),
        tmp_path / "turned.png",
        np.asarray(white),
    ):
        assert (np.asarray(open_mask(mask, (16, 8))) == wanted).all()
    assert (np.asarray(open_mask((tmp_path / "holed.png").read_bytes(), (16, 8))) == wanted).all()
    taken, given = os.pipe()  # as a shell's <(…)
    os.write(given, (tmp_path / "holed.png").read_bytes())
    os.close(given)
    assert (np.asarray(open_mask(f"/dev/fd/{taken}", (16, 8))) == wanted).all()
    os.close(taken)
    with pytest.raises(ImageError, match="the mask has 16x8 pixels, the image 8x8"):
        open_mask(white, (8, 8))
    assert given_codes(np.array([[5, 7]]), white) == (-1, 7) and given_codes(np.array([[5, 7]]), None) is None
