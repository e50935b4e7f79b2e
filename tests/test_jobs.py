"""`earl edit` with chains, lists of jobs and folders: resumable, the same images as one by one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from said import one_sentence

from earl.cli import main
from earl.jobs import RESULTS, chains_of, read_jobs
from earl.pipeline import EditPipeline
from earl.store import only_one


@pytest.fixture
def place(tmp_path, monkeypatch, model_folder) -> list[str]:
    """A folder with three images; the words that choose the small untrained model."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        small = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(f"{number}.png")
    return ["--model", str(model_folder), "--device", "cpu"]


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def edit(*words: str) -> int:
    return main(["edit", *words])


def write_jobs(*jobs: dict) -> None:
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))


def test_a_chain_edits_the_last_result(place):
    assert edit("0.png", "paint it", "move it", "-o", "both.png", "--before-after", *place) == 0
    assert edit("0.png", "paint it", "-o", "first.png", *place) == 0
    assert edit("first.png", "move it", "-o", "second.png", *place) == 0
    assert np.array_equal(pixels("both-step-1.png"), pixels("first.png"))
    assert np.array_equal(pixels("both.png"), pixels("second.png"))
    assert Image.open("both-before-after.png").width > 500


def test_jobs_are_the_edits_one_by_one_and_go_on_where_they_stopped(place, capsys):
    jobs = [
        {"image": "0.png", "instruction": ["paint it", "move it"]},
        {"image": "1.png", "instruction": "paint it", "seed": 7, "n": 2},
        {"image": "gone.png", "instruction": "paint it"},
    ]
    write_jobs(*jobs[:1])
    assert edit("jobs.jsonl", "-o", "out", *place) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("0-*.png")}
    write_jobs(*jobs)
    assert edit("jobs.jsonl", "-o", "out", *place) == 1, "one of them failed"
    said = capsys.readouterr().out
    assert "1 of 4 are in out already" in said and "3 of 4 images" in said and "gone.png" in said
    assert len(before) == 2 and all(path.stat().st_mtime_ns == then for path, then in before.items())
    records = [json.loads(line) for line in (Path("out") / RESULTS).read_text().splitlines()]
    assert [(record["source"], record["seed"]) for record in records] == [
        ("0.png", 0),
        ("1.png", 7),
        ("1.png", 8),
    ]
    assert edit("1.png", "paint it", "--seed", "8", "-o", "alone.png", *place) == 0
    together = pixels(Path("out") / records[2]["images"][0])
    assert np.abs(together.astype(int) - pixels("alone.png")).max() <= 1  # a decoded batch rounds otherwise
    assert Image.open("out/sheet.png").size == (
        1824,
        680,
    )  # two rows of two chains, the longest of three images


def test_one_that_cannot_be_edited_ends_alone_and_is_named(place, capsys):
    Image.new("RGB", (4000, 3)).save("long.png")
    most = 2**63 - 1
    write_jobs(
        {"image": "0.png", "instruction": "paint it", "seed": 5},
        {"image": "long.png", "instruction": "paint it"},
        {"image": "1.png", "instruction": "paint it", "seed": most, "n": 2},
    )
    assert edit("jobs.jsonl", "-o", "out", *place) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and "long.png, 'paint it': an image of 4000x3" in failed[0]
    assert "1.png, 'paint it': a seed must lie in" in failed[1]
    records = [json.loads(line) for line in (Path("out") / RESULTS).read_text().splitlines()]
    assert [(record["source"], record["seed"]) for record in records] == [("0.png", 5), ("1.png", most)]


def made_by(path: str | Path) -> dict:
    with Image.open(path) as image:
        return json.loads(image.text["Description"]) if "Description" in image.text else {}


def test_images_say_what_made_them_unless_told_not_to(place):
    assert edit("0.png", "paint it", "move it", "-o", "a.png", "--seed", "5", "--before-after", *place) == 0
    assert edit("0.png", "paint it", "-o", "b.png", "--num-images", "2", "--seed", "5", *place) == 0
    write_jobs({"image": "0.png", "instruction": ["paint it", "move it"], "seed": 5})
    assert edit("jobs.jsonl", "-o", "out", *place) == 0
    both, one = (hashlib.sha256(text).hexdigest() for text in (b"paint it\nmove it", b"paint it"))
    model = Path(place[1]).name
    last = {"model": model, "seed": 5, "instruction_sha256": both}
    assert made_by("a.png") == made_by("a-before-after.png") == last
    assert made_by("a-step-1.png") == made_by("b-1.png") == {**last, "instruction_sha256": one}
    assert made_by("b-2.png")["seed"] == 6
    key = json.loads(Path("out", RESULTS).read_text())["key"]
    assert made_by(f"out/{key}.png") == last
    assert made_by(f"out/{key}-step-1.png")["instruction_sha256"] == one

    assert edit("0.png", "paint it", "-o", "c.png", "--no-provenance", *place) == 0
    assert edit("jobs.jsonl", "-o", "out2", "--no-provenance", *place) == 0
    assert not made_by("c.png") and not made_by(f"out2/{key}.png")
    assert np.array_equal(pixels(f"out2/{key}.png"), pixels(f"out/{key}.png"))


def test_a_folder_of_images_and_one_instruction(place):
    assert edit(".", "paint it", "-o", "out", "--keep-outside", *place) == 0
    records = [json.loads(line) for line in Path("out", RESULTS).read_text().splitlines()]
    assert [record["source"] for record in records] == ["0.png", "1.png", "2.png"]


def test_where_every_image_failed_no_results_are_named(place, capsys):
    write_jobs({"image": "gone.png", "instruction": "paint it"})
    assert edit("jobs.jsonl", "-o", "out", *place) == 1
    assert re.search(r"^0 of 1 images in out, ", capsys.readouterr().out, re.MULTILINE)
    assert edit("jobs.jsonl", "-o", "out", "--json", *place) == 1
    assert json.loads(capsys.readouterr().out)["results"] is None


def sources_of(folder: str) -> list[str]:
    return [json.loads(line)["source"] for line in Path(folder, RESULTS).read_text().splitlines()]


def test_several_images_as_a_shell_gives_them(place, capsys):
    Path("more").mkdir()
    Path("3.PNG").write_bytes(Path("0.png").read_bytes())
    Path("more/deep").write_bytes(Path("1.png").read_bytes())
    assert edit("0.png", "3.PNG", "more/deep", "paint it", "move it", "-o", "out/", *place) == 0
    assert sources_of("out") == ["0.png", "3.PNG", "more/deep"]
    assert len(list(Path("out").glob("*-step-1.png"))) == 3, "two instructions are a chain"
    assert edit("2.png", "paint it", "-o", "one/", *place) == 0, "a glob may match one image"
    assert sources_of("one") == ["2.png"]
    Path("night").mkdir()
    Path("night/4.png").write_bytes(Path("0.png").read_bytes())
    assert edit("0.png", "night", "1.png", "paint it", *place) == 0
    assert sources_of("edited") == ["0.png", "night/4.png", "1.png"], "a folder between images"
    capsys.readouterr()
    assert edit("0.png", "night", "-o", "night", "--json", *place) == 0, "the last word is an instruction"
    record = json.loads(capsys.readouterr().out)
    assert record["done"] == 1 and record["results"] == "night/results.jsonl" and record["failed"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["0.png", "1.png"], "no instruction was given"),
        (["make it night", "1.png"], "no instruction was given"),
        (["0.png", "paint it", "1.png"], "'1.png' stands behind an instruction; images come first"),
        (["0.png", "1.png", "paint it", "-o", "a.png"], "--out names one, not the image a.png"),
        (["0.png", "1.png", "paint it", "-o", "-"], "standard output takes one image"),
        (["-", "1.png", "paint it"], "standard input is one image"),
    ],
)
def test_images_in_the_wrong_place_are_one_sentence(place, capsys, words, said):
    assert edit(*words, *place) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_table_of_jobs(place):
    Path("jobs.csv").write_text('image,instruction,seed,n\n0.png,"paint it, please",7,2\n1.png,,,\n')
    assert edit("jobs.csv", "move it", "-o", "out", "--seed", "3", *place) == 0
    records = [json.loads(line) for line in Path("out", RESULTS).read_text().splitlines()]
    assert [(r["source"], r["instructions"], r["seed"]) for r in records] == [
        ("0.png", ["paint it, please"], 7),
        ("0.png", ["paint it, please"], 8),
        ("1.png", ["move it"], 3),
    ]


def test_an_unquoted_comma_in_a_table_of_jobs_is_one_sentence(place, capsys):
    Path("jobs.csv").write_text("image,instruction\n0.png,paint it, please\n")
    assert edit("jobs.csv", "-o", "out", *place) == 2
    error = capsys.readouterr().err
    assert "jobs.csv:2 has more cells than the head line; put quotes around commas" in error
    assert error.count("\n") == 1 and not Path("out").exists()


def test_a_head_that_stands_twice_is_one_sentence(place, capsys):
    Path("jobs.csv").write_text("image,instruction, instruction,,\n0.png,paint it,move it,,\n")
    assert edit("jobs.csv", "-o", "out", *place) == 2
    error = capsys.readouterr().err
    assert "jobs.csv has several columns 'instruction'; rename or remove all but one" in error
    assert error.count("\n") == 1 and not Path("out").exists()


def test_ctrl_c_says_how_to_go_on(place, capsys, monkeypatch):
    """What is done stays, and the next call makes the rest."""
    from earl.jobs import JobFolder

    finish, ended = JobFolder.finish, []

    def once(folder, chain):
        if ended:
            raise KeyboardInterrupt
        finish(folder, chain)
        ended.append(chain)

    with monkeypatch.context() as patched:
        patched.setattr(JobFolder, "finish", once)
        assert edit("0.png", "1.png", "paint it", "-o", "out", *place) == 130
    said = capsys.readouterr().err
    assert "1 of 2 are in out; the same command goes on" in said and "Traceback" not in said
    assert edit("0.png", "1.png", "paint it", "-o", "out", *place) == 0
    assert sources_of("out") == ["0.png", "1.png"]


def test_a_table_without_the_columns_says_which_are_expected(place, capsys):
    Path("jobs.csv").write_text("file,prompt\n0.png,paint it\n")
    assert edit("jobs.csv", *place) == 2
    assert 'jobs.csv, line 2: expected {"image"' in capsys.readouterr().err


def test_other_settings_are_other_images(place, capsys):
    """A folder that is continued has no image of other settings in the place of what was asked."""
    for words in ([], ["--temperature", "0.5"], ["--keep-outside"], ["--device", "cpu"]):
        assert edit("0.png", "paint it", "-o", "out", *place, *words) == 0
    assert "1 of 1 are in out already" in capsys.readouterr().out
    assert len(list(Path("out").glob("0-*.png"))) == 3, "the device alone makes no other image"


def test_standard_input_and_output(place, monkeypatch):
    out = SimpleNamespace(buffer=io.BytesIO(), write=lambda text: len(text), flush=lambda: None)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(Path("0.png").read_bytes())))
    monkeypatch.setattr("sys.stdout", out)
    assert edit("-", "paint it", "-o", "-", *place) == 0
    monkeypatch.undo()
    written = Image.open(io.BytesIO(out.buffer.getvalue()))
    assert written.size == (64, 64) and "edited by EARL" in written.text["Software"]


def test_streams_that_are_full_or_closed_are_one_sentence(place, monkeypatch, capsys):
    with monkeypatch.context() as patched, open("/dev/full", "w") as full:
        patched.setattr("sys.stdout", full)
        assert edit("0.png", "paint it", "-o", "-", *place) == 2
    assert "earl: cannot write to standard output: No space left" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", None)
    assert edit("-", "paint it", "-o", "out.png", *place) == 2
    assert "earl: standard input cannot be read; pipe" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["²", "7" * 5000, "٣"])
def test_a_seed_in_a_table_that_is_no_number(place, capsys, seed):
    Path("jobs.csv").write_text(f"image,instruction,seed\n0.png,paint it,{seed}\n", encoding="utf-8")
    assert edit("jobs.csv", *place) == 2
    said = capsys.readouterr().err
    assert "jobs.csv, line 2: seed is" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"instruction": "x"}', "line 1: expected"),
        ('{"image": "0.png", "instruction": 3}', "instruction is 3"),
        ('{"image": "0.png", "instruction": ["a", 3]}', "expected a text or a list of texts"),
        ('{"image": "0.png", "instruction": "x", "n": 0}', "n is 0"),
        ('{"image": "0.png", "instruction": "x", "seed": "a"}', "seed is 'a'"),
        ('{"image": "0.png", "instruction": "x", "seed": -1}', "seed is -1"),
        ('{"image": "0.png"}', "no instruction for 0"),
        ("{", "jobs.jsonl"),
        ("", "holds no jobs"),
    ],
)
def test_a_list_that_is_none_is_refused_in_one_sentence(place, capsys, line, said):
    Path("jobs.jsonl").write_text(line)
    assert edit("jobs.jsonl", *place) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not Path("jobs-edited").exists()


def test_keys_tell_jobs_apart_and_equal_jobs_are_one(tmp_path):
    lines = [
        {"image": "a.png", "instruction": "x"},
        {"image": "a.png", "instruction": "x"},
        {"image": "a.png", "instruction": "y"},
        {"image": "b/a.png", "instruction": "x"},
    ]
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    keys = [chain.key for chain in chains_of(read_jobs([path], ()))]
    assert len(keys) == len(set(keys)) == 3


def test_another_image_under_the_same_name_is_another_job(tmp_path):
    image, keys = tmp_path / "a.png", []
    for colour in ("red", "red", "blue"):
        Image.new("RGB", (8, 8), colour).save(image)
        keys.append(chains_of(read_jobs([image], ["x"]))[0].key)
    assert keys[0] == keys[1] != keys[2]


def test_boxes_are_drawn_for_a_model_that_reasons_unasked(place, model_folder, capsys, monkeypatch):
    edit_many, asked = EditPipeline.edit_many, []
    model = Path(shutil.copytree(model_folder, "reasons"))
    meta = json.loads((model / "earl.json").read_text())
    (model / "earl.json").write_text(json.dumps({**meta, "reasoning": True}))

    def said_for_it(self, pairs, sampling, **options):
        asked.append(self.thinks(sampling.reasoning))
        plain = edit_many(self, pairs, sampling.replace(reasoning=False), **options)
        return [replace(result, reasoning=("the region is [8, 16, 40, 48]",)) for result in plain]

    monkeypatch.setattr(EditPipeline, "edit_many", said_for_it)
    assert edit("0.png", "paint it", "-o", "out.png", "--model", str(model), "--device", "cpu") == 0
    assert asked == [True] and Path("out-boxes.png").exists()
    assert "its boxes on the source: out-boxes.png" in capsys.readouterr().out


def test_what_is_in_the_place_of_the_folder_is_kept(place, capsys):
    assert edit("0.png", "1.png", "paint it", "-o", "new.gif", *place) == 2
    assert "--out names one, not the image new.gif" in one_sentence(capsys)
    Path("file").write_bytes(b"mine")
    assert edit("0.png", "paint it", "-o", "file", *place) == 2
    assert "file is a file where a folder is needed" in one_sentence(capsys)
    mine = Path(shutil.copy("0.png", "sheet.png")).read_bytes()
    assert edit("0.png", "1.png", "paint it", "-o", ".", *place) == 2
    assert "sheet.png exists already" in one_sentence(capsys)
    assert Path("sheet.png").read_bytes() == mine and not Path(RESULTS).exists()
    for again in (["--force"], []):
        assert edit("0.png", "1.png", "paint it", "-o", ".", *again, *place) == 0


def test_images_that_were_removed_are_made_anew(place):
    Path(name := "n" * 250 + ".png").write_bytes(Path("0.png").read_bytes())
    assert edit(name, "1.png", "paint it", "-o", "out", *place) == 0
    (lost,) = Path("out").glob("n*.png")
    before = pixels(lost).astype(int)
    lost.unlink()
    assert edit(name, "1.png", "paint it", "-o", "out", *place) == 0
    assert np.abs(pixels(lost) - before).max() <= 1 and len(sources_of("out")) == 2


@pytest.mark.parametrize("fields", [{}, {"images": []}, {"images": 3}, {"images": ["a.png"], "unchanged": 3}])
def test_a_line_that_is_no_result_is_named(place, capsys, fields):
    Path("out").mkdir()
    Path("out", RESULTS).write_text(json.dumps({"key": "a", "instructions": ["x"], **fields}) + "\n")
    assert edit("0.png", "paint it", "-o", "out", *place) == 2
    assert "has a line that is not one of its records ('a':" in one_sentence(capsys)


def test_results_are_read_by_the_process_that_holds_the_folder(place, capsys):
    write_jobs({"image": "0.png", "instruction": "paint it"})
    assert edit("jobs.jsonl", "-o", "out", *place) == 0
    torn = Path("out", RESULTS).read_bytes()[:20]  # as another process is about to write it
    Path("out", RESULTS).write_bytes(torn)
    capsys.readouterr()
    with only_one("out"):
        assert edit("jobs.jsonl", "-o", "out", *place) == 2
    assert "another process works in out" in one_sentence(capsys)
    assert Path("out", RESULTS).read_bytes() == torn


def gives_back(monkeypatch, *words: str) -> None:
    """Let the model give the image back for these instructions, from even seeds."""
    edit_many = EditPipeline.edit_many

    def edited(*given, **options):
        return [
            replace(made, unchanged=tuple(made.instruction in words and seed % 2 == 0 for seed in made.seeds))
            for made in edit_many(*given, **options)
        ]

    monkeypatch.setattr(EditPipeline, "edit_many", edited)


def test_an_image_that_was_given_back_is_told(place, capsys, monkeypatch):
    gives_back(monkeypatch, "leave it")
    words = ["-o", "out.png", "--seed", "4", "--force", *place]
    assert edit("0.png", "leave it", *words, "--num-images", "3", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["unchanged"] == [True, False, True]
    assert told.err.startswith("earl: warning: nothing was changed (seed 4, 6): the model gave")
    assert edit("0.png", "paint it", "leave it", *words) == 0
    assert capsys.readouterr().err.startswith("earl: warning: 'leave it': nothing was changed (seed 4)")
    assert edit("0.png", "paint it", *words) == 0 and capsys.readouterr().err == ""


def test_images_that_were_given_back_are_told_of_many(place, capsys, monkeypatch):
    gives_back(monkeypatch, "leave it")
    write_jobs(
        {"image": "0.png", "instruction": ["paint it", "leave it"], "n": 2},
        {"image": "1.png", "instruction": "paint it"},
    )
    assert edit("jobs.jsonl", "-o", "out", "--json", *place) == 0
    told = capsys.readouterr()
    records = [json.loads(line) for line in (Path("out") / RESULTS).read_text().splitlines()]
    assert [record["unchanged"] for record in records] == [[False, True], [False, False], [False]]
    assert json.loads(told.out)["unchanged"] == [records[0]["images"][-1]]
    assert "nothing was changed at a step of 1 of 3 images" in told.err
    assert records[0]["images"][-1] in told.err
    assert edit("jobs.jsonl", "-o", "out", *place) == 0
    assert "a step of 1 of 3 images" in capsys.readouterr().err, "told of what was there already too"


def test_a_draw_without_an_image_keeps_its_place_in_every_list(place, capsys, monkeypatch):
    edit_many = EditPipeline.edit_many
    monkeypatch.setattr(
        EditPipeline,
        "edit_many",
        lambda *a, **k: [
            replace(made, images=(None, *made.images[1:]), reasoning=("first", "second"))
            for made in edit_many(*a, **k)
        ],
    )
    words = ["0.png", "paint it", "-o", "out.png", "--num-images", "2", "--seed", "5", *place]
    assert edit(*words) == 0
    told = capsys.readouterr()
    assert "out-2.png (64x64, seed 6)" in told.out and "wrote no image (seed 5: " in told.err
    assert edit(*words, "--json", "--force") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == [None, "out-2.png"] and record["seeds"] == [5, 6]
    assert record["reasoning"] == ["first", "second"]
