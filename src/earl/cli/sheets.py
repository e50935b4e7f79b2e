"""Pictures for people: before and after side by side, and many of them on one sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIDE = 288  # px, of a shown picture
GAP = 12  # px
FONT_SIZE = 17  # px
LINE = 22  # px
PAPER, INK, FAINT = (255, 255, 255), (24, 24, 27), (113, 113, 122)

Row = tuple[str, Sequence[Image.Image]]


def enlarged(image: Image.Image, side: int = SIDE) -> Image.Image:
    """A picture scaled so that its longer side has `side` pixels."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def side_by_side(
    title: str, images: Sequence[Image.Image], labels: Sequence[str] = (), note: str = ""
) -> Image.Image:
    """Pictures in a row under a title, each with its label below, and a faint note at the end."""
    shown = [enlarged(image) for image in images]
    width = sum(image.width for image in shown) + GAP * (len(shown) + 1)
    lines = _wrapped(title, width)
    top = GAP + LINE * len(lines) + GAP // 2
    below = LINE if labels else 0
    height = top + max(image.height for image in shown) + below + (LINE if note else 0) + GAP
    paper = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(FONT_SIZE)
    for i, line in enumerate(lines):
        pen.text((GAP, GAP // 2 + LINE * i), line, INK, font)
    left, bottom = GAP, top + max(image.height for image in shown)
    for i, image in enumerate(shown):
        paper.paste(image, (left, top))
        if i < len(labels):
            pen.text((left, bottom + 2), labels[i], FAINT, font)
        left += image.width + GAP
    if note:
        pen.text((GAP, bottom + below + 2), note, FAINT, font)
    return paper


def contact_sheet(rows: Sequence[Row], columns: int = 2) -> Image.Image:
    """One cell per row, its pictures side by side under its title; `columns` cells across."""
    cells = [side_by_side(title, images) for title, images in rows]
    across = min(columns, len(cells))
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    sheet = Image.new("RGB", (width * across, height * -(-len(cells) // across)), PAPER)
    for i, cell in enumerate(cells):
        sheet.paste(cell, (width * (i % across), height * (i // across)))
    return sheet


def _wrapped(text: str, width: int) -> list[str]:
    letters = max(8, int((width - 2 * GAP) / (FONT_SIZE * 0.55)))
    return textwrap.wrap(text, letters) or [""]
