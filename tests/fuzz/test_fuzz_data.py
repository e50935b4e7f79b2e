"""Seeded fuzzers of image files and of rows: one sentence for each, never another exception.

The whole runs are marked `long`; a seed of one's own is given by EARL_FUZZ_SEED, and is printed.
"""

from __future__ import annotations

import io
import json
import os
import random
from typing import Any

import numpy as np
import pytest
import source_files as files
from PIL import EpsImagePlugin, Image
from source_files import Marks

from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.sources.opening import open_source
from earl.errors import DataError, ImageError
from earl.vision.images import open_image

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "TGA")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F")
COUNTS = [40, pytest.param(1000, marks=pytest.mark.long)]


def seeded(name: str) -> random.Random:
    seed = int(os.environ.get("EARL_FUZZ_SEED", "0"))
    print(f"{name}: EARL_FUZZ_SEED={seed}")
    return random.Random(f"{name}/{seed}")


def image_file(draw: random.Random) -> bytes:
    """A small image in some form, with some of its bytes changed, cut or doubled."""
    image = Image.effect_noise((draw.randint(1, 40), draw.randint(1, 40)), 60)
    file = io.BytesIO()
    try:
        image.convert(draw.choice(MODES)).save(file, draw.choice(KINDS))
    except (OSError, ValueError, KeyError):  # not every format has every mode
        image.save(file, "PNG")
    data = bytearray(file.getvalue())
    for _ in range(draw.randint(0, 8)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.random() < 0.3:
        data = data[: draw.randrange(1, len(data) + 1)]
    return bytes(data) if draw.random() < 0.95 else draw.randbytes(draw.randint(0, 200))


def cell(draw: random.Random, depth: int = 0) -> Any:
    """A value as a stranger's table may hold it."""
    plain: list[Any] = [None, "", "0.png", 0, -1, 10**30, 1.5, float("nan"), float("inf"), True]
    plain += ["x" * 400, "\ud800", "a\0b", "~nobody/a", "/dev/zero", "..", "[1, 2, 3, 4]", "(", "train"]
    plain += ["data:,", "data:image/png;base64,AAAA"]
    if depth < 3 and draw.random() < 0.3:
        inner = [cell(draw, depth + 1) for _ in range(draw.randint(0, 4))]
        names = ("bytes", "path", "a")
        return inner if draw.random() < 0.5 else dict(zip(names, inner, strict=False))
    return draw.choice(plain)


def program_file(draw: random.Random) -> bytes:
    """PostScript, which Pillow hands to another program, or another file that holds no raster image."""
    box = f"%%BoundingBox: 0 0 {draw.randint(1, 99)} {draw.randint(1, 99)}\n%%EndComments\n"
    heads = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n{box}",
        f"%!PS-Adobe-2.0\n{box}",
        "%PDF-1.4\n",
        "<svg/>",
        "#!/bin/sh\n",
    )
    return (draw.choice(heads) + "{ } loop\n" * draw.randint(1, 3)).encode()


def float_file(draw: random.Random) -> tuple[bytes, bool]:
    """A ramp of floats from 0 to about 1, and whether there is a number in it."""
    ramp = np.linspace(0, draw.choice((0.999, 1.0, 1.02, 1.05)), 64, dtype=np.float32).reshape(8, 8)
    numbers = draw.random() < 0.7
    ramp[:: draw.choice((3, 9)) if numbers else 1, 1:] = draw.choice((np.nan, np.inf, -np.inf))
    if not numbers:
        ramp[:] = np.nan
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "TIFF")
    return file.getvalue(), numbers


@pytest.mark.parametrize("count", COUNTS)
def test_image_files(count: int, monkeypatch) -> None:
    draw, started = seeded("images"), []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **more: started.append(words))
    for _ in range(count):
        how = draw.random()
        try:
            if how < 0.1:
                open_image(program_file(draw))
                pytest.fail("a program is no image")
            elif how < 0.2:
                data, numbers = float_file(draw)
                assert np.asarray(open_image(data)).max() > 200 and numbers
            else:
                assert open_image(image_file(draw)).mode == "RGB"
        except ImageError as error:
            assert "\n" not in str(error)
    assert not started


@pytest.mark.parametrize("count", COUNTS)
def test_rows(count: int, tmp_path) -> None:
    draw = seeded("rows")
    good = {"id": "good", "source": "0.png", "target": "0-after.png", "instruction": "add"}
    names = (
        "id",
        "source",
        "target",
        "instruction",
        "family",
        "group",
        "boxes",
        "mask",
        "reasoning",
        "split",
    )
    rows = [{**good, "split": "train"}]
    for _ in range(count):
        rows.append({**good, **{name: cell(draw) for name in draw.sample(names, draw.randint(1, 4))}})
    files.own_folder(tmp_path / "own", 1)
    lines = [json.dumps(row) for row in rows]
    for place in range(1, len(lines), 9):
        lines[place] = lines[place][: draw.randrange(1, len(lines[place]))]
    (tmp_path / "own" / "metadata.jsonl").write_text("\n".join(lines))
    settings = PreparationSettings(area=32 * 32, max_rejected=1.0)
    source = open_source(str(tmp_path / "own"), split="all")
    counts = prepare_source(source, tmp_path / "out", Marks(), settings)
    assert counts.edits >= 1 and counts.edits + counts.rejected == len(lines)


def test_a_table_of_nothing_but_noise_is_one_sentence(tmp_path) -> None:
    draw = seeded("noise")
    for number in range(40):
        ending = draw.choice(("parquet", "arrow", "tar", "tgz", "jsonl", "json", "csv"))
        head = {"parquet": b"PAR1", "arrow": b"ARROW1\0\0", "tgz": b"\x1f\x8b\x08\0"}.get(ending, b"")
        path = tmp_path / f"{number}.{ending}"
        path.write_bytes(head + draw.randbytes(draw.randint(0, 2000)))
        with pytest.raises(DataError):
            open_source(str(path))
