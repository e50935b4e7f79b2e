"""Small real files of every source: real image bytes in the publishers' columns and folders."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from earl.data.prepare import REJECTED

Row = dict[str, Any]
COUNT = 5
GOOD = {"source": "0.png", "target": "0-after.png", "instruction": "add"}


def picture(number: int, *, edited: bool = False, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """An image that looks like no other, and its edit: a square more."""
    noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)
    if edited:
        ImageDraw.Draw(image).rectangle((8, 8, 31, 31), fill=(255, 0, 0))
    return image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def cell(number: int, *, edited: bool = False) -> Row:
    """As `datasets` stores an image."""
    return {"bytes": png(picture(number, edited=edited)), "path": None}


def brush(number: int) -> Row:
    """A mask: transparent where the square is."""
    mask = picture(number).convert("RGBA")
    mask.paste((0, 0, 0, 0), (8, 8, 32, 32))
    return {"bytes": png(mask), "path": None}


def rows_of(name: str) -> list[Row]:
    """Rows in the columns of a source's parquet files."""
    if name == "vismin":
        return _vismin()
    makers: dict[str, Callable[[int], Row]] = {
        "omniedit": lambda i: {
            "omni_edit_id": f"task_{i}",
            "task": "addition",
            "src_img": cell(i),
            "edited_img": cell(i, edited=True),
            "edited_prompt_list": [f"add square {i}", "a longer wording"],
        },
        "humanedit": lambda i: {
            "IMAGE_ID": f"h{i}",
            "EDITING_TYPE": "Counting",
            "EDITING_INSTRUCTION": f"two squares {i}",
            "INPUT_IMG": cell(i),
            "MASK_IMG": brush(i),
            "OUTPUT_IMG": cell(i, edited=True),
        },
        "magicbrush": lambda i: {
            "img_id": f"{1000 + i}",
            "turn_index": 1 + i % 2,
            "source_img": cell(i),
            "mask_img": brush(i),
            "instruction": f"put a square {i}",
            "target_img": cell(i, edited=True),
        },
        "aurora": lambda i: {"input": cell(i), "output": cell(i, edited=True), "instruction": f"move it {i}"},
        "emu-edit": lambda i: {
            "instruction": f"make it red {i}",
            "image": cell(i),
            "task": "color",
            "split": "test",
            "idx": i,
            "input_caption": "a wall",
            "output_caption": "a red wall",
        },
        "magicbrush-test": lambda i: {
            "input": cell(i),
            "mask": brush(i),
            "output": cell(i, edited=True),
            "instruction": f"put a square {i}",
        },
        "aurora-bench": lambda i: {"input": cell(i), "instruction": f"turn it {i}", "source": "whatsup"},
        "vismin-dev": lambda i: {
            "id": f"v{i}",
            "source_image": cell(i),
            "edit_instruction": f"one more {i}",
            "edited_image": cell(i, edited=True),
        },
        "i2ebench": lambda i: {
            "image": cell(i),
            "instruction": f"remove it {i}",
            "task": "ObjectRemoval" if i % 2 else "Counting",
            "sample_id": str(i),
        },
    }
    for language in ("en", "cn"):
        makers[f"gedit-bench-{language}"] = lambda i, language=language: {
            "key": f"g{i}",
            "task_type": "ps_human" if i % 2 else "background_change",
            "instruction": f"make it red {i}",
            "instruction_language": language,
            "input_image_raw": cell(i),
            "Intersection_exist": True,
        }
    makers["imgedit-bench"] = lambda i: {
        "key": f"{i}",
        "image": cell(i),
        "prompt": f"remove it {i}",
        "edit_type": "remove",
    }
    makers["rise-bench"] = lambda i: {
        "index": f"temporal_reasoning_{i}",
        "category": "temporal_reasoning",
        "instruction": f"a year later {i}",
        "image": cell(i),
        "reference": "older",
    }
    makers["pie-bench"] = lambda i: {
        "__key__": f"{i:03}",
        "image_path": cell(i),
        "editing_instruction": f"remove it {i}",
        "editing_type": "delete object",
    }
    makers["omniedit-dev"] = makers["omniedit"]
    for aurora in ("aurora-kubric", "aurora-ag", "something-something-v2"):
        makers[aurora] = makers["aurora"]
    return [makers[name](i) for i in range(COUNT)]


def _vismin() -> list[Row]:
    rows = []
    for i in range(COUNT):
        original = {"image_id": f"o{i}", "image": cell(i), "caption": "a wall", "bounding_boxes": None}
        edited = {"image_id": f"e{i}", "image": cell(i, edited=True), "caption": "a wall with a square"}
        rows.append({**original, "source_image_id": None, "category": None})
        boxes = {"bounding_boxes": "[[8, 8, 32, 32]]", "source_image_id": f"o{i}", "category": "object"}
        rows.append({**edited, **boxes})
    return rows


def write_parquet(rows: list[Row], path: Path, *, group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def write_arrow(rows: list[Row], path: Path) -> Path:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def write_tar(rows: list[Row], path: Path) -> Path:
    """A WebDataset tar: an image column is `KEY.COLUMN.png`, everything else is in `KEY.json`."""
    with tarfile.open(path, "w") as tar:
        for number, row in enumerate(rows):
            images = {k: v["bytes"] for k, v in row.items() if isinstance(v, dict)}
            texts = {k: v for k, v in row.items() if not isinstance(v, dict)}
            members = {f"{column}.png": content for column, content in images.items()}
            members["json"] = json.dumps(texts).encode()
            for ending, content in members.items():
                member = tarfile.TarInfo(f"{number:05d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def magicbrush_folder(folder: Path) -> Path:
    turns = []
    for i in range(COUNT):
        name = str(1000 + i)
        for part, image in (("input", picture(i)), ("output1", picture(i, edited=True))):
            save(image, folder / "images" / name / f"{name}-{part}.png")
        (folder / "images" / name / f"{name}-mask1.png").write_bytes(brush(i)["bytes"])
        files = {"input": f"{name}-input.png", "mask": f"{name}-mask1.png", "output": f"{name}-output1.png"}
        turns.append({**files, "instruction": f"put a square {i}"})
    (folder / "edit_turns.json").write_text(json.dumps(turns))
    return folder


def aurora_folder(folder: Path, part: str) -> Path:
    """A clone of the repository; the folder of one of its parts."""
    rows = []
    for i in range(COUNT):
        names = [f"data/{part}/images/{i}_{side}.png" for side in ("left", "right")]
        save(picture(i), folder / names[0])
        save(picture(i, edited=True), folder / names[1])
        rows.append({"instruction": f"move it {i}", "input": names[0], "output": names[1]})
    (folder / "data" / part / "train.json").write_text(json.dumps(rows))
    return folder / "data" / part


def frames_folder(folder: Path) -> Path:
    rows = []
    for i in range(COUNT):
        save(picture(i), folder / "frames" / str(i) / "first.jpg")
        save(picture(i, edited=True), folder / "frames" / str(i) / "last.jpg")
        rows.append({"id": str(i), "label": f"moving {i} up", "template": "moving [something] up"})
    (folder / "train.json").write_text(json.dumps(rows))
    return folder


def i2ebench_folder(folder: Path) -> Path:
    for task in ("Counting", "ObjectRemoval"):
        entries = {}
        for i in range(1, 4):
            save(picture(i), folder / "EditData" / task / "input" / f"{i}.jpg")
            entries[str(i)] = {"image": f"{i}.jpg", "ori_exp": f"remove it {i}"}
        (folder / "EditData" / task / f"{task}.json").write_text(json.dumps(entries))
        (folder / "EditData" / task / f"{task}_v2.json").write_text("{}")
    return folder


def own_folder(folder: Path, count: int = COUNT, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        save(picture(i), folder / f"{i}.png")
        save(picture(i, edited=True), folder / f"{i}-after.png")
        row = {"id": f"own-{i}", "source": f"{i}.png", "target": f"{i}-after.png", "instruction": f"add {i}"}
        lines.append(json.dumps({**row, **more}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Marks:
    """An encoder for which an image's codes are its mean colour: quick, and different per picture."""

    codebook_size = 256
    rule = "snap"

    def encode(self, images, resize=True):
        assert not resize
        return [np.full((i.height // 8, i.width // 8), int(np.asarray(i).mean()), np.int32) for i in images]

    def fingerprint(self):
        return "marks"


def rejected(folder: Path) -> list[Row]:
    """What a preparation turned down."""
    return [json.loads(line) for line in (folder / REJECTED).read_text().splitlines()]


def ids(source: Any) -> list[str]:
    return [read.id for read in source.read()]


def own_rows(folder: Path, rows: list[Row], name: str = "metadata.jsonl") -> Path:
    """A folder of our own layout with other rows."""
    own_folder(folder)
    (folder / "metadata.jsonl").unlink()
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
