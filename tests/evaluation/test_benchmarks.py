"""Every benchmark, from a made file of its publisher's columns or folders to a table."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image

from earl.config import BenchmarkSettings
from earl.data.sources.builtin import SCHEMAS
from earl.errors import ConfigError, DataError
from earl.evaluation.benchmark import DeclaredBenchmark, TaskNames, file_name, open_benchmark
from earl.evaluation.published import COLUMNS
from earl.evaluation.run import evaluate
from earl.evaluation.tables import family_mean, paper_table, published_rows, score_table, system_rows
from earl.registry import BENCHMARKS

from .evaluation_parts import Inverter, judging, own_data

DECLARED: dict[str, DeclaredBenchmark] = {name: BENCHMARKS.load(name) for name in BENCHMARKS.own}
SCHEMA_OF = {name: declared.schema for name, declared in DECLARED.items()}
LATER = {"gedit-en", "gedit-cn", "imgedit", "risebench", "pie-bench"}
WITH_TARGET = {"omniedit-dev", "magicbrush", "vismin"}


def test_the_six_of_the_paper_are_there():
    assert {declared.column for name, declared in DECLARED.items() if name not in LATER} == {*COLUMNS}
    assert {name for name, declared in DECLARED.items() if SCHEMAS[declared.schema].draw == 1000} == {
        "emuedit",
        "i2ebench",
    }


@pytest.mark.parametrize("name", DECLARED)
def test_from_the_publishers_parquet_to_a_table(name, files, tmp_path):
    path = files.write_parquet(files.rows_of(SCHEMA_OF[name]), tmp_path / "test-00000-of-00001.parquet")
    benchmark = open_benchmark(name, BenchmarkSettings(path=str(path)))
    results = evaluate(tmp_path / "run", benchmark, Inverter(), judging())
    assert results.all.n == results.all.judged == files.COUNT
    assert results.benchmark["column"] in COLUMNS or name in LATER
    assert ("psnr" in results.metrics) == (name in WITH_TARGET)
    assert sum(family.n for family in results.families.values()) == files.COUNT
    assert score_table(results).text().count("\n") > 3
    keys = [json.loads(line)["key"] for line in (tmp_path / "run" / "edits.jsonl").read_text().splitlines()]
    assert len(set(keys)) == files.COUNT
    for key in keys:
        assert Image.open(tmp_path / "run" / "edits" / f"{key}.png").size == (32, 32)


def test_arrow_and_tar_copies_give_the_same_tasks(files, tmp_path):
    rows = files.rows_of("omniedit-dev")
    paths = [
        files.write_parquet(rows, tmp_path / "a.parquet"),
        files.write_arrow(rows, tmp_path / "a.arrow"),
        files.write_tar(rows, tmp_path / "a.tar"),
    ]
    found = [
        [
            (t.key, t.instruction, t.family)
            for t in open_benchmark("omniedit-dev", BenchmarkSettings(path=str(path))).tasks()
        ]
        for path in paths
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == files.COUNT


def test_magicbrush_in_its_folder_tells_turns(files, tmp_path):
    tasks = list(
        open_benchmark("magicbrush", BenchmarkSettings(path=str(files.magicbrush_folder(tmp_path)))).tasks()
    )
    assert {task.family for task in tasks} == {"turn 1"}
    assert all(task.group == "complex" for task in tasks)


def test_i2ebench_in_its_folder_has_groups_and_kinds(files, tmp_path):
    tasks = list(
        open_benchmark(
            "i2ebench", BenchmarkSettings(path=str(files.i2ebench_folder(tmp_path)), draw=0)
        ).tasks()
    )
    by_family = {task.family: (task.group, task.kind) for task in tasks}
    assert by_family == {"Counting": ("complex", "high-level"), "ObjectRemoval": ("simple", "high-level")}


def test_aurora_knows_which_of_its_sources_asks_for_what(files, tmp_path):
    names = ["ag", "clevr", "emu"]
    rows = [row | {"source": names[i]} for i, row in enumerate(files.rows_of("aurora-bench")[:3])]
    path = files.write_parquet(rows, tmp_path / "a.parquet")
    tasks = list(open_benchmark("aurora-bench", BenchmarkSettings(path=str(path))).tasks())
    assert [(t.group, t.kind) for t in tasks] == [
        ("complex", "action"),
        ("complex", "reasoning"),
        ("simple", "global"),
    ]


def test_aurora_in_its_repository_has_targets_for_some(files, tmp_path):
    """`test.json` as it is there: `prompt`, `task`, paths from the root, no `output` for emu and epic."""
    rows = []
    for number, task in enumerate(("kubric", "emu")):
        row = {"prompt": f"turn {number}", "task": task, "input": f"data/{task}/images/{number}.png"}
        files.save(files.picture(number), tmp_path / row["input"])
        if task == "kubric":
            row["output"] = f"data/{task}/images/after.png"
            files.save(files.picture(number, edited=True), tmp_path / row["output"])
        rows.append(row)
    (tmp_path / "test.json").write_text(json.dumps(rows))
    first, second = open_benchmark("aurora-bench", BenchmarkSettings(path=str(tmp_path))).tasks()
    assert (first.instruction, first.family, first.kind) == ("turn 0", "kubric", "reasoning")
    assert (second.family, second.kind, second.group) == ("emu", "global", "simple")
    assert first.target is not None and second.target is None and Image.open(second.source).size == (96, 64)


NAMES = {
    "emuedit": ["add", "remove", "local", "color", "texture", "text", "background", "global", "style"],
    "aurora-bench": ["magicbrush", "ag", "something", "clevr", "whatsup", "emu", "epic", "kubric"],
    "i2ebench": [
        *("BGReplacement", "ColorAlteration", "Counting", "Deblurring", "DirectionPerception", "HazeRemoval"),
        *("Lowlight", "NoiseRemoval", "ObjectRemoval", "RainRemoval", "RegionAccuracy", "Replacement"),
        *("ShadowRemoval", "SnowRemoval", "StyleAlteration", "WatermarkRemoval"),
    ],
}
"""As in the publishers' files; the sources are named in docs/evaluation.md."""


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_publisher_has_a_kind(name, files, tmp_path):
    column = "source" if name == "aurora-bench" else "task"
    row = files.rows_of(SCHEMA_OF[name])[0]
    rows = [row | {column: family} for family in NAMES[name]]
    path = files.write_parquet(rows, tmp_path / "test.parquet")
    tasks = list(open_benchmark(name, BenchmarkSettings(path=str(path), draw=0)).tasks())
    assert [task.family for task in tasks] == NAMES[name]
    assert all(task.kind for task in tasks)
    if name == "i2ebench":
        assert [task.kind for task in tasks].count("high-level") == 8
        simple = {task.family for task in tasks if task.group == "simple"}
        assert simple == {
            *("BGReplacement", "ColorAlteration", "ObjectRemoval", "RegionAccuracy", "Replacement"),
            "StyleAlteration",
        }


def test_a_name_that_nobody_knows_is_a_family_with_a_notice(files, tmp_path):
    rows = [row | {"task": "weather" if i else "add"} for i, row in enumerate(files.rows_of("emu-edit"))]
    path = files.write_parquet(rows, tmp_path / "test.parquet")
    results = evaluate(
        tmp_path / "run", open_benchmark("emuedit", BenchmarkSettings(path=str(path))), Inverter(), judging()
    )
    assert results.families["weather"].judged == files.COUNT - 1
    assert results.kinds["local"].n == 1
    assert results.unknown_families == ("weather",)
    said = "families of their own without a kind: weather"
    assert said in score_table(results).text() and said in (tmp_path / "run" / "table.md").read_text()


def test_the_draw_is_the_same_each_time_and_can_be_changed(files, tmp_path):
    path = files.write_parquet(files.rows_of("emu-edit"), tmp_path / "a.parquet")
    drawn = [
        [
            task.id
            for task in open_benchmark(
                "emuedit", BenchmarkSettings(path=str(path), draw=3, seed=seed)
            ).tasks()
        ]
        for seed in (42, 42, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(ids) for ids in drawn] == [3, 3, 3]
    described = open_benchmark("emuedit", BenchmarkSettings(path=str(path))).describe()
    assert (described["draw"], described["draw_seed"]) == (1000, 42)
    assert "columns" not in described


def test_other_columns_are_another_benchmark(files, tmp_path):
    path = files.write_parquet(files.rows_of("emu-edit"), tmp_path / "a.parquet")
    asked = BenchmarkSettings(path=str(path), columns={"target": ("image",)})
    assert open_benchmark("emuedit", asked).describe()["columns"] == {"target": ["image"]}


def test_the_hub_is_asked_for_the_benchmarks_files_only(files, tmp_path, monkeypatch):
    files.write_parquet(files.rows_of("omniedit-dev"), tmp_path / "data" / "dev-00000-of-00001.parquet")
    asked = {}

    def download(repo, **options):
        asked.update(options, repo=repo)
        return str(tmp_path)

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    tasks = list(open_benchmark("omniedit-dev", BenchmarkSettings(hub=True)).tasks())
    assert len(tasks) == files.COUNT
    assert asked["repo"] == "TIGER-Lab/OmniEdit-Filtered-1.2M"
    assert asked["repo_type"] == "dataset" and asked["allow_patterns"] == ["data/dev-*"]


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
    import huggingface_hub

    def down(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", down)
    with pytest.raises(DataError, match="--path"):
        open_benchmark("emuedit", BenchmarkSettings(hub=True))


def test_where_a_benchmark_is_must_be_said(tmp_path):
    for where in ({}, {"path": str(tmp_path), "hub": True}):
        with pytest.raises(DataError, match="--path"):
            open_benchmark("vismin", BenchmarkSettings(**where))


@pytest.mark.parametrize(("name", "hint"), [("emu-edit", "emuedit"), ("zzz", "magicbrush")])
def test_a_name_that_is_none_gets_a_hint(name, hint):
    with pytest.raises(DataError, match=hint):
        open_benchmark(name)


def test_a_setting_that_a_benchmark_does_not_take_is_refused(tmp_path):
    for name, given, said in (
        ("emuedit", {"families": ("add",)}, "emuedit takes no --families; it takes --path, --hub"),
        (str(own_data(tmp_path / "data", 2)), {"path": "x"}, "own data takes no --path"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_benchmark(name, BenchmarkSettings(**given))


def made_elsewhere(settings, *, area, seed):
    """A benchmark of another package."""
    benchmark = open_benchmark(settings.options["data"])
    benchmark.name = f"elsewhere-{area}-{seed}"
    return benchmark


def test_a_benchmark_of_another_package_is_named_by_where_it_is(tmp_path):
    settings = BenchmarkSettings(options={"data": str(own_data(tmp_path / "data", 3))})
    benchmark = open_benchmark(f"{__name__}:made_elsewhere", settings, area=1024, seed=7)
    assert benchmark.name == "elsewhere-1024-7"
    assert evaluate(None, benchmark, Inverter(), judging()).all.judged == 3
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_benchmark("no_such_package:benchmark")


def test_keys_are_unique_safe_and_keep_letters_of_any_script():
    ids = [
        "a/b",
        "a b",
        "a_b",
        "A/B",
        "..",
        "",
        "x" * 200,
        "x" * 201,
        "猫",
        "犬",
        "кот",
        "Cat",
        "cat",
        "😀" * 80,
    ]
    names = TaskNames()
    taken = [names.take(id) for id in ids]
    keys = [key for key, _ in taken]
    assert [id for _, id in taken] == ids
    assert len({key.casefold() for key in keys}) == len(ids)
    assert all(key and "/" not in key and not key.startswith(".") for key in keys)
    assert all(len(f"{key}.png".encode()) < 200 for key in keys)
    assert [file_name(id) for id in ("task_1~2", "猫", "кот")] == ["task_1~2", "猫", "кот"]
    assert file_name("a/b").startswith("a_b~") and file_name("a/b") != file_name("a b")
    assert names.take("猫") == ("猫~2", "猫~2")


def test_opening_a_benchmark_loads_no_torch():
    import subprocess

    code = "import sys, earl.evaluation.run, earl.evaluation.benchmarks, earl.evaluation.page; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_own_data_are_evaluated_on_their_test_rows(tmp_path):
    folder = own_data(tmp_path / "data", 6)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    splits = ("train", "train", "test", "validation", "test", "train")
    rows = [row | {"split": split} for row, split in zip(rows, splits, strict=True)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for asked, ids in ((None, ["t2", "t4"]), ("validation", ["t3"]), ("train", ["t0", "t1", "t5"])):
        benchmark = open_benchmark(str(folder), BenchmarkSettings(split=asked))
        assert [task.id for task in benchmark.tasks()] == ids
        assert benchmark.describe()["split"] == (asked or "test")
    with pytest.raises(DataError, match="nightly"):
        open_benchmark(str(folder), BenchmarkSettings(split="nightly"))


def test_a_number_of_tasks_is_drawn_among_those_that_are_held_back(tmp_path):
    folder = str(own_data(tmp_path / "data", 12))
    shares = {"split": "test", "holdout_test": 0.5}
    every = [task.id for task in open_benchmark(folder, BenchmarkSettings(**shares)).tasks()]
    assert 4 <= len(every) < 12
    drawn = {}
    for seed in (1, 1, 2):
        benchmark = open_benchmark(folder, BenchmarkSettings(**shares, draw=3, seed=seed))
        tasks = list(benchmark.tasks())
        ids = [task.id for task in tasks]
        assert len(ids) == 3 and ids == [id for id in every if id in ids], "in the order of the rows"
        assert [task.number for task in tasks] == [0, 1, 2]
        assert drawn.setdefault(seed, ids) == ids
        assert benchmark.describe() | {"draw": 3, "draw_seed": seed} == benchmark.describe()
    assert drawn[1] != drawn[2]


def test_gedit_is_one_benchmark_a_language(files, tmp_path):
    """Both languages lie in the same files, with one key for an image's two requests."""
    rows = files.rows_of("gedit-bench-en") + files.rows_of("gedit-bench-cn")
    path = files.write_parquet(
        [row | {"instruction": f"{row['instruction_language']} {row['key']}"} for row in rows],
        tmp_path / "a.parquet",
    )
    for code in ("en", "cn"):
        tasks = list(open_benchmark(f"gedit-{code}", BenchmarkSettings(path=str(path))).tasks())
        assert [task.instruction for task in tasks] == [f"{code} g{i}" for i in range(files.COUNT)]
        assert {(t.family, t.group) for t in tasks} == {
            ("background_change", "simple"),
            ("ps_human", "complex"),
        }


def test_imgedit_in_its_own_table(files, tmp_path):
    """`basic_edit.json`: a key for each edit; its `id` is the image's path."""
    edits = {}
    for number, kind in enumerate(("add", "compose", "action")):
        files.save(files.picture(number), tmp_path / "animal" / f"{number}.png")
        edits[str(number + 7)] = {"id": f"animal/{number}.png", "prompt": f"do {number}", "edit_type": kind}
    (tmp_path / "basic_edit.json").write_text(json.dumps(edits))
    path = str(tmp_path / "basic_edit.json")
    tasks = list(open_benchmark("imgedit", BenchmarkSettings(path=path)).tasks())
    assert [(t.id, t.family, t.group) for t in tasks] == [
        ("7", "add", "simple"),
        ("8", "compose", "complex"),
        ("9", "action", "complex"),
    ]
    assert all(Image.open(task.source).size == (96, 64) for task in tasks)


def test_risebench_in_its_own_table(files, tmp_path):
    """`datav2_total_w_subtask.json` beside the unpacked images."""
    rows = []
    for number, kind in enumerate(("temporal", "logical")):
        place = f"{kind}_reasoning_images/{number}.png"
        files.save(files.picture(number), tmp_path / place)
        row = {"index": f"{kind}_reasoning_{number}", "category": f"{kind}_reasoning", "image": place}
        rows.append(row | {"instruction": f"do {number}", "reference": "so", "subtask": "Puzzle Solving"})
    rows[0] |= {"reasoning_img": "True", "reference_txt": None}
    rows[1] |= {"reference_img": rows[0]["image"], "consistency_free": True}
    (tmp_path / "datav2_total_w_subtask.json").write_text(json.dumps(rows))
    path = str(tmp_path / "datav2_total_w_subtask.json")
    tasks = list(open_benchmark("risebench", BenchmarkSettings(path=path)).tasks())
    assert [(t.id, t.family, t.instruction) for t in tasks] == [
        ("temporal_reasoning_0", "temporal_reasoning", "do 0"),
        ("logical_reasoning_1", "logical_reasoning", "do 1"),
    ]
    assert all(Image.open(task.source).size == (96, 64) for task in tasks)
    assert [task.target for task in tasks] == [None, tmp_path / rows[0]["image"]]
    assert [task.details for task in tasks] == [
        {"reference": "so", "reasoning_img": "True"},
        {"reference": "so", "consistency_free": "True"},
    ]


@pytest.mark.parametrize(("name", "archive"), [("imgedit", "Benchmark.tar"), ("risebench", "data.zip")])
def test_images_in_an_archive_are_not_looked_for_on_the_hub(name, archive):
    with pytest.raises(DataError, match=archive):
        open_benchmark(name, BenchmarkSettings(hub=True))


def test_gedit_means_are_of_the_tasks_means(files, tmp_path):
    """Three edits of one task and one of another: published means weigh the two tasks equally."""
    rows = files.rows_of("gedit-bench-en")
    for number, row in enumerate(rows):
        row["task_type"] = "ps_human" if number == 0 else "text_change"
    path = files.write_parquet(rows, tmp_path / "a.parquet")
    benchmark = open_benchmark("gedit-en", BenchmarkSettings(path=str(path)))
    results = evaluate(tmp_path / "run", benchmark, Inverter(), judging())
    one, rest = (results.families[name].overall.mean for name in ("ps_human", "text_change"))
    assert one != rest and files.COUNT > 2
    mean = family_mean(results)
    assert mean == pytest.approx((one + rest) / 2) and mean != pytest.approx(results.all.overall.mean)
    assert f"{mean:.2f}" in score_table(results).text()
    row = system_rows([results])[0]
    assert row.scores == {"GEdit-Bench-EN": mean} and row.mean is None
    table = paper_table([row, *published_rows(row.scores)]).text()
    assert "GPT-4.1" in table and "7.53" in table
    heads = table.split("\n")[0].split()
    assert heads[:4] == ["model", "GEdit-Bench-CN", "GEdit-Bench-EN", "mean"]
