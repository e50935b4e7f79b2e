"""Writing results: never over an existing file unasked, never half a file."""

import errno
import os

import pytest
from PIL import Image

from earl import files
from earl.errors import OutputError
from earl.pages import sheets


def test_an_existing_file_is_refused_before_any_work(tmp_path):
    there = tmp_path / "a.png"
    there.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"a\.png exists already.*--force"):
        files.claim([there], force=False)
    assert files.claim([there], force=True) == [there]
    assert there.read_bytes() == b"precious"


def test_a_claim_leaves_nothing(tmp_path):
    files.claim([tmp_path / "x" / "y" / "a.json"], force=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        files.claim([tmp_path], force=True)


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="is a file where a folder is needed"):
        files.claim([tmp_path / "a" / "b.png"], force=False)


def test_several_images_are_numbered(tmp_path):
    names = [path.name for path in sheets.claim_images(tmp_path / "a.png", 3, force=False)]
    assert names == ["a-1.png", "a-2.png", "a-3.png"]
    (tmp_path / "a-2.png").write_bytes(b"")
    with pytest.raises(OutputError, match=r"a-2\.png"):
        sheets.claim_images(tmp_path / "a.png", 3, force=False)


def test_an_unknown_image_type(tmp_path):
    with pytest.raises(OutputError, match=r"\.png"):
        sheets.claim_images(tmp_path / "a.gifv", 1, force=False)


@pytest.mark.parametrize("suffix", sheets.TYPES)
def test_every_image_type_is_written(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    sheets.write_image(Image.new("RGB", (8, 16), "red"), path)
    with Image.open(path) as image:
        assert image.size == (8, 16)
        assert image.format == sheets.TYPES[suffix]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    sheets.write_image(Image.new("RGB", (8, 8), "red"), path)
    before = path.read_bytes()

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        sheets.write_image(Image.new("RGB", (8, 8), "blue"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_written_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    sheets.write_image(Image.new("RGB", (8, 8)), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_side_by_side_and_sheet_have_room_for_all():
    pictures = [Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 32), "blue")]
    shown = sheets.side_by_side("make it blue", pictures, ["before", "after"])
    assert shown.width == 2 * sheets.SIDE + 3 * sheets.GAP
    assert shown.getpixel((sheets.GAP + 5, shown.height // 2)) == (255, 0, 0)
    sheet = sheets.contact_sheet([("a", pictures), ("a long title " * 9, pictures), ("c", pictures)])
    assert sheet.width == 2 * shown.width
    assert sheet.height > 2 * sheets.SIDE


def test_letters_that_pillow_lacks_are_drawn_with_a_font_of_the_system(monkeypatch):
    asked = []

    def truetype(name, size):
        asked.append(name)
        if name != sheets.FONTS[1]:
            raise OSError("cannot open resource")
        return "found"

    monkeypatch.setattr(sheets.ImageFont, "truetype", truetype)
    assert sheets.font_for("M\u00e4dchen") == "found"
    assert asked == list(sheets.FONTS[:2])


def test_without_fonts_of_the_system_a_sheet_is_drawn_all_the_same(monkeypatch):
    image = Image.new("RGB", (32, 32))
    plain = sheets.side_by_side("red", [image])

    def truetype(name, size):
        raise OSError("cannot open resource")

    default = sheets.ImageFont.load_default(sheets.FONT_SIZE)
    monkeypatch.setattr(sheets.ImageFont, "load_default", lambda size: default)
    monkeypatch.setattr(sheets.ImageFont, "truetype", truetype)
    assert sheets.side_by_side("r\u00e4d", [image]).size == plain.size
