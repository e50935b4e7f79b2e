"""Image files: written in the form their names say, side by side, on contact sheets, with boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from earl.errors import OutputError
from earl.files import claim, write_bytes
from earl.records import Box
from earl.vision.saving import Provenance, encode_image

TYPES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

SIDE = 288  # px, of a shown image
GAP = 12  # px
FONT_SIZE = 17  # px
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
LINE = 22  # px
BOXED = 512  # px, longer side of an image with boxes
MARKS = ((220, 38, 38), (37, 99, 235), (22, 163, 74), (202, 138, 4))
PAPER, INK, FAINT = (255, 255, 255), (24, 24, 27), (113, 113, 122)

Row = tuple[str, Sequence[Image.Image]]


def claim_images(path: str | Path, count: int, *, force: bool) -> list[Path]:
    """The files of `count` images, not yet written: the path itself for one, else NAME-1.png, NAME-2.png, …

    Raises:
        OutputError: as `claim` does, and for a file type that is no image.
    """
    path = Path(path)
    if path.suffix.lower() not in TYPES:
        raise OutputError(f"{path} does not end in an image type; use one of {', '.join(TYPES)}")
    names = [path] if count == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(count)]
    return claim(names, force=force)


def write_image(image: Image.Image, path: Path, provenance: Provenance | None = None) -> Path:
    """Write an image in the form its name says. Raises OutputError; an older file stays intact."""
    return write_bytes(path, encode_image(image, TYPES[path.suffix.lower()], provenance=provenance))


def shown_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) in px at which an image is shown: its longer side has `SIDE`."""
    scale = SIDE / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def enlarged(image: Image.Image) -> Image.Image:
    """An image scaled to its shown size."""
    return image.convert("RGB").resize(shown_size(image), Image.Resampling.LANCZOS)


def side_by_side(
    title: str, images: Sequence[Image.Image], labels: Sequence[str] = (), *, title_lines: int = 1
) -> Image.Image:
    """Images in a row under a title of at least `title_lines` lines, each with its label below."""
    shown = [enlarged(image) for image in images]
    width = _row_width(images)
    lines = _wrapped(title, width)
    lines += [""] * (title_lines - len(lines))
    top = GAP + LINE * len(lines) + GAP // 2
    below = LINE if labels else 0
    height = top + max(image.height for image in shown) + below + GAP
    paper = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(paper), font_for("".join([title, *labels]))
    for i, line in enumerate(lines):
        pen.text((GAP, GAP // 2 + LINE * i), line, INK, font)
    left, bottom = GAP, top + max(image.height for image in shown)
    for i, image in enumerate(shown):
        paper.paste(image, (left, top))
        if i < len(labels):
            pen.text((left, bottom + 2), labels[i], FAINT, font)
        left += image.width + GAP
    return paper


def font_for(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; for letters beyond ASCII, which it lacks, one of the system's where there is one."""
    if not text.isascii():
        for name in FONTS:
            try:
                return ImageFont.truetype(name, FONT_SIZE)
            except OSError:
                continue
    return ImageFont.load_default(FONT_SIZE)


def with_boxes(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """An image, enlarged to `BOXED` where it is smaller, with numbered boxes drawn on it.

    Boxes are in pixels of `image`; what reaches over its edge is cut.
    """
    scale = max(1.0, BOXED / max(image.size))
    size = round(image.width * scale), round(image.height * scale)
    paper = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(FONT_SIZE)
    for number, box in enumerate(boxes, 1):
        sides = [box.left * scale, box.top * scale, box.right * scale - 1, box.bottom * scale - 1]
        left, top, right, bottom = (min(max(side, 0), size[i % 2] - 1) for i, side in enumerate(sides))
        colour = MARKS[(number - 1) % len(MARKS)]
        pen.rectangle((left, top, right, bottom), outline=colour, width=3)
        pen.text((left + 6, top + 3), str(number), colour, font, stroke_width=2, stroke_fill=PAPER)
    return paper


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """One cell per row, its images side by side under its title; two cells across."""
    lines = max(len(_wrapped(title, _row_width(images))) for title, images in rows)
    cells = [side_by_side(title, images, title_lines=lines) for title, images in rows]
    across = min(2, len(cells))
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    sheet = Image.new("RGB", (width * across, height * -(-len(cells) // across)), PAPER)
    for i, cell in enumerate(cells):
        sheet.paste(cell, (width * (i % across), height * (i // across)))
    return sheet


def _wrapped(text: str, width: int) -> list[str]:
    letters = max(8, int((width - 2 * GAP) / (FONT_SIZE * 0.55)))
    return textwrap.wrap(text, letters) or [""]


def _row_width(images: Sequence[Image.Image]) -> int:
    return sum(shown_size(image)[0] for image in images) + GAP * (len(images) + 1)
