"""Every source from small real files of its real columns to samples; own data; what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import source_files as files

from earl.data.sources.builtin import SCHEMAS
from earl.data.sources.cells import read_boxes
from earl.data.sources.opening import open_source
from earl.data.sources.own import own_schema, parse_map
from earl.errors import ConfigError, DataError
from earl.records import Box
from earl.vision.images import open_image

INSTRUCTIONS = {f"e{i}": f"add a square {i}" for i in range(files.COUNT)}
LATER = {"gedit-bench-en", "gedit-bench-cn", "imgedit-bench", "rise-bench", "pie-bench"}
WITHOUT_TARGET = {"emu-edit", "aurora-bench", "i2ebench", *LATER}


def opened(name, path, **options):
    given = INSTRUCTIONS if name == "vismin" else None
    return open_source(name, path=path, instructions=given, **options)


def samples(source, start=0):
    reads = list(source.read(start))
    assert not [read.problem for read in reads if read.sample is None]
    return [read.sample for read in reads]


def pixels(image):
    return np.asarray(open_image(image))


def check(name, found):
    assert len(found) == files.COUNT
    assert len({sample.id for sample in found}) == files.COUNT
    for number, sample in enumerate(found):
        assert np.array_equal(pixels(sample.source), np.asarray(files.picture(number)))
        assert (sample.target is None) == (name in WITHOUT_TARGET)
        if sample.target is not None:
            assert np.array_equal(pixels(sample.target), np.asarray(files.picture(number, edited=True)))
        assert str(number) in sample.instruction
        assert sample.family
        assert sample.licence
        assert sample.split == ("test" if SCHEMAS[name].benchmark else "train")


def test_there_are_the_seven_and_the_six():
    assert sum(not schema.benchmark for schema in SCHEMAS.values()) == 7
    assert sum(schema.benchmark for schema in SCHEMAS.values()) == 6 + len(LATER)


@pytest.mark.parametrize("name", SCHEMAS)
def test_parquet_of_every_source(name, tmp_path):
    files.write_parquet(files.rows_of(name), tmp_path / "data" / "counting-00001.parquet")
    found = samples(opened(name, tmp_path))
    check(name, found)


@pytest.mark.parametrize("name", SCHEMAS)
def test_arrow_of_every_source(name, tmp_path):
    path = files.write_arrow(files.rows_of(name), tmp_path / "part.arrow")
    check(name, samples(opened(name, path)))


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name != "vismin"])
def test_webdataset_of_every_source(name, tmp_path):
    path = files.write_tar(files.rows_of(name), tmp_path / "part-000.tar")
    found = samples(opened(name, path))
    check(name, [replace(s, family=s.family or "x") for s in found])


def test_vismin_cannot_be_paired_in_a_tar(tmp_path):
    path = files.write_tar(files.rows_of("vismin"), tmp_path / "part-000.tar")
    with pytest.raises(DataError, match="parquet or Arrow"):
        opened("vismin", path)


@pytest.mark.parametrize("name", SCHEMAS)
def test_saved_by_datasets(name, tmp_path):
    from datasets import Dataset, DatasetDict

    split = SCHEMAS[name].hub_split
    DatasetDict({split: Dataset.from_list(files.rows_of(name))}).save_to_disk(tmp_path / "saved")
    check(name, samples(opened(name, tmp_path / "saved")))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("magicbrush", files.magicbrush_folder),
        ("magicbrush-test", files.magicbrush_folder),
        ("aurora-kubric", lambda folder: files.aurora_folder(folder, "kubric")),
        ("aurora-ag", lambda folder: files.aurora_folder(folder, "ag")),
        ("something-something-v2", lambda folder: files.aurora_folder(folder, "something")),
    ],
)
def test_folder_layouts(name, make, tmp_path):
    check(name, samples(opened(name, make(tmp_path / "copy"))))


def test_frames_of_the_publisher(tmp_path):
    found = samples(opened("something-something-v2", files.frames_folder(tmp_path)))
    assert [sample.instruction for sample in found] == [f"moving {i} up" for i in range(files.COUNT)]
    assert all(pixels(sample.target).shape == (64, 96, 3) for sample in found)


def test_i2ebench_as_it_is_laid_out(tmp_path):
    found = samples(opened("i2ebench", files.i2ebench_folder(tmp_path), draw=0))
    assert [sample.id for sample in found][:3] == ["Counting-1", "Counting-2", "Counting-3"]
    assert [sample.group for sample in found] == ["complex"] * 3 + ["simple"] * 3


def test_metadata_beside_any_source(tmp_path):
    files.own_folder(tmp_path)
    columns = parse_map("source=source,target=target,instruction=instruction,id=id")
    found = samples(opened("humanedit", tmp_path, columns=columns))
    assert [sample.id for sample in found] == [f"own-{i}" for i in range(files.COUNT)]


def test_details_of_the_columns(tmp_path):
    def first(name):
        path = files.write_parquet(files.rows_of(name), tmp_path / name / "x-0.parquet")
        return samples(opened(name, path))[0]

    assert first("omniedit").instruction == "add square 0"
    assert first("omniedit").group == "simple"
    assert first("humanedit").mask is not None
    assert first("humanedit").family == "Counting"
    assert first("magicbrush").id == "1000-1"
    assert first("vismin").source_caption == "a wall"
    assert first("vismin").target_caption == "a wall with a square"
    assert first("vismin").boxes == (Box(8, 8, 32, 32),)
    assert first("vismin").id == "e0"
    assert first("aurora-bench").family == "whatsup"
    assert first("emu-edit").target_caption == "a red wall"


def test_vismin_dev_takes_the_family_from_its_file(tmp_path):
    for kind in ("counting", "relation"):
        files.write_parquet(
            files.rows_of("vismin-dev"), tmp_path / "data" / "train" / f"{kind}-00001.parquet"
        )
    found = samples(opened("vismin-dev", tmp_path))
    assert [sample.family for sample in found] == ["counting"] * 5 + ["relation"] * 5


def test_vismin_without_instructions_says_so(tmp_path):
    path = files.write_parquet(files.rows_of("vismin"), tmp_path / "x.parquet")
    reads = list(open_source("vismin", path=path).read())
    assert [read.id for read in reads] == [f"e{i}" for i in range(files.COUNT)]
    assert all("no instruction" in read.problem for read in reads)


def test_vismin_whose_original_is_gone(tmp_path):
    rows = [row for row in files.rows_of("vismin") if row["image_id"] != "o1"]
    path = files.write_parquet(rows, tmp_path / "x.parquet")
    problems = {read.id: read.problem for read in opened("vismin", path).read()}
    assert "o1" in problems.pop("e1")
    assert not any(problems.values())


def test_one_part_of_a_file_with_several(tmp_path):
    rows = [{**row, "source": part} for row in files.rows_of("aurora-ag") for part in ("kubric", "ag")]
    path = files.write_parquet(rows, tmp_path / "x.parquet")
    assert [read.number for read in opened("aurora-ag", path).read()] == [1, 3, 5, 7, 9]
    assert [read.number for read in opened("aurora-kubric", path).read()] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("writer", [files.write_parquet, files.write_arrow, files.write_tar])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 5])
def test_reading_from_any_row_on(writer, start, tmp_path):
    ending = {"write_parquet": "parquet", "write_arrow": "arrow", "write_tar": "tar"}[writer.__name__]
    path = writer(files.rows_of("omniedit"), tmp_path / f"x.{ending}")
    reads = list(opened("omniedit", path).read(start))
    assert [(read.number, read.id) for read in reads] == [(i, f"task_{i}") for i in range(start, 5)]


def test_several_parquet_files_are_one_source(tmp_path):
    rows = files.rows_of("omniedit")
    files.write_parquet(rows[:3], tmp_path / "train-00000-of-2.parquet")
    files.write_parquet(rows[3:], tmp_path / "train-00001-of-2.parquet")
    files.write_parquet(rows[:1], tmp_path / "dev-00000-of-1.parquet")
    source = opened("omniedit", tmp_path)
    assert [read.id for read in source.read()] == [f"task_{i}" for i in range(5)]
    assert [read.id for read in source.read(4)] == ["task_4"]
    assert source.count() == 5
    assert [read.id for read in opened("omniedit-dev", tmp_path).read()] == ["task_0"]


def test_a_draw_is_what_datasets_would_shuffle_to_the_front(tmp_path):
    from datasets import Dataset

    rows = [{**files.rows_of("emu-edit")[0], "idx": i} for i in range(12)]
    path = files.write_parquet(rows, tmp_path / "x.parquet")
    expected = Dataset.from_dict({"i": list(range(12))}).shuffle(seed=42).select(range(4))["i"]
    source = opened("emu-edit", path, draw=4)
    assert [read.id for read in source.read()] == [str(i) for i in sorted(expected)]
    assert [read.number for read in source.read(6)] == [i for i in sorted(expected) if i >= 6]
    assert source.count() == 4
    assert SCHEMAS["emu-edit"].draw == SCHEMAS["i2ebench"].draw == 1000


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "json", "parquet"])
def test_own_data_in_a_table(ending, tmp_path):
    import csv

    files.own_folder(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        files.write_parquet(rows, path)
    elif ending == "json":
        path.write_text(json.dumps(rows))
    elif ending == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if ending == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    found = samples(open_source(str(path), licence="mine", group="complex"))
    assert [sample.id for sample in found] == [f"own-{i}" for i in range(files.COUNT)]
    assert {(sample.group, sample.licence) for sample in found} == {("complex", "mine")}
    assert np.array_equal(pixels(found[2].target), np.asarray(files.picture(2, edited=True)))


def test_own_folder_and_what_its_rows_say(tmp_path):
    more = {"family": "swap", "group": "complex", "reasoning": "at [8, 8, 32, 32]", "boxes": [8, 8, 32, 32]}
    found = samples(open_source(str(files.own_folder(tmp_path, licence="CC0", split="test", **more))))
    sample = found[0]
    assert (sample.family, sample.group, sample.licence, sample.split) == ("swap", "complex", "CC0", "test")
    assert sample.boxes == (Box(8, 8, 32, 32),)
    assert sample.reasoning == "reasoning: at [8, 8, 32, 32]"


def test_a_mapping_names_the_columns(tmp_path):
    rows = [{"a": 1, "b": i, "vorher": files.cell(i), "nachher": None, "text": f"t{i}"} for i in range(3)]
    path = files.write_parquet(rows, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"no column for the source .* it has a, b, vorher.*--map source="):
        open_source(str(path))
    found = samples(open_source(str(path), columns=parse_map("source=vorher, id=a+b,target=nachher")))
    assert [sample.id for sample in found] == ["1-0", "1-1", "1-2"]
    assert all(sample.target is None for sample in found)


@pytest.mark.parametrize("text", ["source", "source=", "sauce=x", "=x"])
def test_mappings_that_are_none(text):
    with pytest.raises(ConfigError):
        parse_map(text)


def test_own_ids_are_not_joined_by_guess():
    schema = own_schema("x")
    assert schema.identify({"key": "k", "id": "i"}, 0) == "i"
    assert schema.identify({"__key__": "k"}, 0) == "k"
    assert schema.identify({"id": ""}, 7) == "x-00000007"


def test_the_hub_is_read_only_when_named(tmp_path, monkeypatch):
    import datasets

    path = files.write_parquet(files.rows_of("magicbrush"), tmp_path / "x.parquet")
    calls = []
    load = datasets.load_dataset

    def fake(name, *, split, streaming, revision=None, **options):
        calls.append((name, split, streaming))
        stream = load("parquet", data_files={split: str(path)}, split=split, streaming=True)
        return stream.cast_column("source_img", datasets.Image())

    monkeypatch.setattr(datasets, "load_dataset", fake)
    with pytest.raises(DataError, match="--hub"):
        open_source("magicbrush")
    assert not calls
    check("magicbrush", samples(open_source("magicbrush", hub=True)))
    assert calls[0] == ("osunlp/MagicBrush", "train", True)
    found = samples(open_source("hub:me/mine", columns=parse_map("source=source_img,target=target_img")), 2)
    assert len(found) == 3
    assert calls[-1][0] == "me/mine"
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **k: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(DataError, match="no network"):
        open_source("magicbrush", hub=True)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(DataError, match="did you mean 'magicbrush'"):
        open_source("magicbrsh", path=tmp_path)
    with pytest.raises(DataError, match="nothing at"):
        open_source("magicbrush", path=tmp_path / "none")
    with pytest.raises(DataError, match=r"metadata\.jsonl"):
        open_source(str(tmp_path))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="no rows"):
        open_source(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text('{"source": \n')
    with pytest.raises(DataError, match=r"a\.jsonl:1"):
        open_source(str(tmp_path / "a.jsonl"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"b\.parquet"):
        open_source(str(tmp_path / "b.parquet"))
    (tmp_path / "c.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"c\.tar"):
        open_source(str(tmp_path / "c.tar"))
    (tmp_path / "d.arrow").write_bytes(b"no arrow" * 200)
    with pytest.raises(DataError, match=r"d\.arrow"):
        open_source(str(tmp_path / "d.arrow"))
    (tmp_path / "e.txt").write_text("x")
    with pytest.raises(DataError, match=r"e\.txt"):
        open_source(str(tmp_path / "e.txt"))


@pytest.mark.parametrize(
    ("value", "boxes"),
    [
        (None, ()),
        ("", ()),
        ([1, 2, 3, 4], (Box(1, 2, 3, 4),)),
        ([[1, 2, 3, 4], [0, 0, 1, 1]], (Box(1, 2, 3, 4), Box(0, 0, 1, 1))),
        ("[[1, 2, 3, 4]]", (Box(1, 2, 3, 4),)),
        ("(1, 2, 3, 4)", (Box(1, 2, 3, 4),)),
        ({"dog": [1, 2, 3, 4]}, (Box(1, 2, 3, 4),)),
        ([], ()),
    ],
)
def test_boxes(value, boxes):
    assert read_boxes(value) == boxes


@pytest.mark.parametrize("value", [5, "a dog", [3, 2, 1, 4], [1, 2, 3], "[1, 2", ["dog"]])
def test_boxes_that_are_none(value):
    with pytest.raises(DataError):
        read_boxes(value)


def test_vismin_dev_is_two_files_without_the_prefix(tmp_path):
    """As the release reads it: of each task the first file, and no `edit_instruction: `."""
    rows = files.rows_of("vismin-dev")
    for name in ("counting-00001", "relation-00001", "relation-00002"):
        changed = [
            row | {"id": f"{name}-{n}", "edit_instruction": f"edit_instruction: do {n}"}
            for n, row in enumerate(rows)
        ]
        place = tmp_path / "data" / "train" / f"{name}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_parquet(changed, place)
    reads = list(open_source("vismin-dev", path=str(tmp_path)).read())
    assert len(reads) == 2 * len(rows)
    assert {read.sample.id.rpartition("-")[0] for read in reads} == {"counting-00001", "relation-00001"}
    assert reads[1].sample.instruction == "do 1"
    assert {read.sample.family for read in reads} == {"counting", "relation"}
