"""Images made elsewhere: matched by exact ids first, never by a name that two tasks share."""

from __future__ import annotations

import json
import unicodedata

import pytest
from PIL import Image

from earl.errors import DataError
from earl.evaluation.benchmark import file_name, open_benchmark
from earl.evaluation.editors import PredictionsEditor
from earl.evaluation.run import evaluate

from .evaluation_parts import judging

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
LONG = "https_images_example_org_photos_2024_collection_of_edited_pictures_set_number_one_of_many_item_"


def data(folder, ids):
    """Own data whose targets are COLOURS in turn."""
    folder.mkdir()
    rows = []
    for i, (id, colour) in enumerate(zip(ids, COLOURS, strict=False)):
        Image.new("RGB", (64, 64), (100, 100, 100)).save(folder / f"s{i}.png")
        Image.new("RGB", (64, 64), colour).save(folder / f"t{i}.png")
        rows.append({"id": id, "source": f"s{i}.png", "target": f"t{i}.png", "instruction": "paint it"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_benchmark(str(folder))


def listed(folder, ids):
    folder.mkdir()
    rows = [{"id": id, "image": f"{i}.png"} for i, id in enumerate(ids)]
    for i, colour in enumerate(COLOURS[: len(ids)]):
        Image.new("RGB", (64, 64), colour).save(folder / f"{i}.png")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "predictions.jsonl").write_text("\ufeff" + lines, encoding="utf-8")
    return folder


def named(folder, names):
    folder.mkdir()
    for name, colour in zip(names, COLOURS, strict=False):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    return folder


def exact(tmp_path, ids, folder):
    """Whether every task was scored with its own image."""
    results = evaluate(tmp_path / "run", data(tmp_path / "data", ids), PredictionsEditor(folder), judging())
    assert results.all.judged == len(ids)
    return results.metrics["psnr"].mean == 100


@pytest.mark.parametrize(
    "ids",
    [
        ["猫", "犬", "鳥"],
        [LONG + "1", LONG + "2", LONG + "3"],
        ["Cat", "cat", "CAT"],
        ["a/1", "a:1", "a_1"],
        ["..", "../x", "."],
        ["x\u2028y", "x y", "x\ty"],
    ],
)
def test_a_list_is_matched_by_exact_ids(tmp_path, ids):
    assert exact(tmp_path, ids, listed(tmp_path / "theirs", ids))


@pytest.mark.parametrize(
    "ids",
    [["猫", "犬", "鳥"], [LONG + "1", LONG + "2", LONG + "3"], ["Cat", "cat", "CAT"], ["my edit 1", "e (2)"]],
)
def test_files_are_matched_by_exact_ids(tmp_path, ids):
    assert exact(tmp_path, ids, named(tmp_path / "theirs", ids))


def test_files_may_carry_the_key_or_the_id_with_underscores(tmp_path):
    ids = ["a/1", "b/2", "c:3"]
    names = [file_name("a/1"), "b_2", "c_3"]
    assert exact(tmp_path, ids, named(tmp_path / "theirs", names))


def test_accents_match_in_either_spelling(tmp_path):
    ids = ["café", "naïve"]
    assert exact(tmp_path, ids, named(tmp_path / "theirs", [unicodedata.normalize("NFD", id) for id in ids]))


def test_a_name_that_two_tasks_share_is_refused_with_both(tmp_path):
    benchmark = data(tmp_path / "data", ["a/1", "a:1"])
    with pytest.raises(DataError, match=r"'a_1'.*'a/1' and of 'a:1'"):
        evaluate(tmp_path / "run", benchmark, PredictionsEditor(named(tmp_path / "p", ["a_1"])), judging())


def test_a_repeated_id_is_refused_with_both_images(tmp_path):
    with pytest.raises(DataError, match=r"two images of 'x', .*0\.png and .*1\.png"):
        PredictionsEditor(listed(tmp_path / "theirs", ["x", "x", "y"]))
    folder = named(tmp_path / "files", ["x"])
    Image.new("RGB", (8, 8)).save(folder / "x.jpg")
    with pytest.raises(DataError, match=r"two images of 'x', .*x\.jpg and .*x\.png"):
        PredictionsEditor(folder)


def test_tasks_of_one_id_are_counted_up(tmp_path):
    assert exact(tmp_path, ["x", "x", "y"], listed(tmp_path / "theirs", ["x", "x~2", "y"]))


def test_what_has_no_image_is_missing(tmp_path):
    benchmark = data(tmp_path / "data", ["猫", "犬"])
    results = evaluate(
        tmp_path / "run", benchmark, PredictionsEditor(named(tmp_path / "p", ["犬"])), judging()
    )
    assert results.all.left_out == {"missing": 1} and results.metrics["psnr"].count == 1


def test_sides_follow_the_size_rule(tmp_path):
    """4:3 gives 296 x 224 by multiples of 8; by the release 296 x 222, which a model decodes as 296 x 216."""
    (tmp_path / "data").mkdir()
    Image.new("RGB", (640, 480)).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "metadata.jsonl").write_text('{"id": "a", "source": "a.png", "instruction": "go"}\n')
    task = next(open_benchmark(str(tmp_path / "data")).tasks())
    sizes = {}
    for rule in ("snap", "release"):
        for side in ((512, 384), (296, 216)):
            folder = tmp_path / f"{rule}-{side[0]}"
            folder.mkdir()
            Image.new("RGB", side).save(folder / "a.png")
            editor = PredictionsEditor(folder, rule=rule)
            (edited,) = editor.edit([(task, Image.open(task.source))])
            sizes[rule, side[0]] = edited.source.size, edited.candidates[0].image.size
            assert editor.describe().get("size", "snap") == rule
    assert sizes == {
        ("snap", 512): ((296, 224), (296, 224)),
        ("snap", 296): ((296, 224), (296, 224)),
        ("release", 512): ((296, 222), (296, 222)),
        ("release", 296): ((296, 222), (296, 216)),
    }
