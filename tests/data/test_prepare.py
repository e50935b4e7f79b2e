"""Sources to shards with a tiny real vision tokenizer; bad samples; killed at any moment."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import source_files as files
from PIL import Image
from source_files import Marks, rejected

from earl.config.data import PreparationSettings
from earl.config.sections import Data
from earl.data.card import read_card
from earl.data.examples import edit_example, whole_example
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.builtin import SCHEMAS
from earl.data.sources.opening import open_source
from earl.data.tokenise import mask_box
from earl.errors import DataError
from earl.records import Box
from earl.sequence.layout import parse_completion
from earl.sequence.trained import train_text_tokenizer
from earl.training.parts import load_sources
from earl.vision.creating import create_vision_tokenizer
from earl.vision.images import resize_pair, target_size
from earl.vision.tokenizer import VisionTokenizer

AREA = 32 * 32
SMALL = PreparationSettings(area=AREA, shard_rows=2, batch=2)


@pytest.fixture(scope="module")
def vision():
    return VisionTokenizer(create_vision_tokenizer(seed=0, codebook_size=32), area=AREA)


@pytest.fixture(scope="module")
def words():
    return train_text_tokenizer(["add a square", "move it"], size=300, codebook_size=32)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_source_from_files_to_a_training_example(name, vision, words, tmp_path):
    files.write_parquet(files.rows_of(name), tmp_path / "in" / "counting-00001.parquet")
    given = {f"e{i}": f"add {i}" for i in range(files.COUNT)} if name == "vismin" else None
    source = open_source(name, path=tmp_path / "in", instructions=given)
    counts = prepare_source(source, tmp_path / "out", vision, SMALL)
    assert (counts.edits, counts.rejected, counts.shards) == (files.COUNT, 0, 3)
    shards = load_shards(tmp_path / "out")
    assert shards.fingerprint == vision.fingerprint()
    assert len(shards) == files.COUNT
    for number in range(files.COUNT):
        edit = shards[number]
        pair = resize_pair(files.picture(number), files.picture(number, edited=True), AREA)
        expected = vision.encode(pair, resize=False)
        assert np.array_equal(edit.source_codes, expected[0])
        assert edit.licence == SCHEMAS[name].licence
        if not edit.has_target:
            with pytest.raises(DataError, match="no target image"):
                edit_example(edit, words)
            with pytest.raises(DataError, match="no target image"):
                whole_example(edit, 1, "identity", words)
            assert len(whole_example(edit, 0, "identity", words))
            continue
        assert np.array_equal(edit.target_codes, expected[1])
        assert edit.changed.any() and not edit.changed.all()
        example = edit_example(edit, words)
        back = parse_completion(example.ids[np.flatnonzero(example.kinds)[0] - 1 :], words)
        assert np.array_equal(back.codes, expected[1])


def test_grids_boxes_and_reasoning_are_scaled_together(tmp_path):
    rows = [
        {"id": "a", "source": "a.png", "target": "b.png", "instruction": "x", "boxes": [[10, 20, 50, 40]]},
        {"id": "b", "source": "a.png", "target": "b.png", "instruction": "x", "boxes": [0.1, 0.25, 0.5, 0.5]},
    ]
    for row in rows:
        row["reasoning"] = "in [10, 20, 50, 40] <|end thinking|> there"
    files.save(files.picture(1, size=(200, 100)), tmp_path / "a.png")
    files.save(files.picture(1, size=(199, 98)), tmp_path / "b.png")
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepare_source(
        open_source(str(tmp_path / "m.jsonl")), tmp_path / "out", Marks(), PreparationSettings(area=64 * 32)
    )
    first, second = load_shards(tmp_path / "out")
    assert first.source_codes.shape == first.target_codes.shape == (4, 8)
    assert first.boxes == (Box(pytest.approx(3.2), pytest.approx(6.4), 16, pytest.approx(12.8)),)
    assert second.boxes == (Box(pytest.approx(6.4), 8, 32, 16),)
    assert first.reasoning == "reasoning: in [3, 6, 16, 13]  there"
    assert first.source == second.source


def test_a_mask_becomes_a_box(tmp_path):
    path = files.write_parquet(files.rows_of("humanedit"), tmp_path / "x.parquet")
    prepare_source(
        open_source("humanedit", path=path), tmp_path / "out", Marks(), PreparationSettings(area=96 * 64)
    )
    assert load_shards(tmp_path / "out")[3].boxes == (Box(8, 8, 32, 32),)


def test_masks_of_every_kind():
    white = Image.new("L", (40, 20))
    white.paste(255, (10, 5, 20, 15))
    assert mask_box(files.png(white), (80, 40)) == (Box(20, 10, 40, 30),)
    assert mask_box(files.png(files.picture(3)), (96, 64)) == ()
    assert mask_box(files.png(Image.new("L", (8, 8))), (8, 8)) == ()
    assert mask_box(files.png(Image.new("L", (8, 8), 255)), (8, 8)) == ()
    assert mask_box(b"no image", (8, 8)) == ()
    turned, upside_down = io.BytesIO(), Image.Exif()
    upside_down[0x0112] = 3
    white.rotate(180).save(turned, "PNG", exif=upside_down)
    assert mask_box(turned.getvalue(), (80, 40)) == (Box(20, 10, 40, 30),)


@pytest.fixture
def bad(tmp_path):
    """40 good samples, and among them one of every kind of bad one."""
    files.own_folder(tmp_path / "bad", 40)
    folder = tmp_path / "bad"
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "none.png").write_bytes(b"")
    files.save(files.picture(1, size=(600, 40)), folder / "long.png")
    files.save(files.picture(1, size=(3, 3)), folder / "tiny.png")
    files.save(files.picture(1, size=(64, 96)), folder / "tall.png")
    good = {"source": "1.png", "target": "1-after.png", "instruction": "x"}
    rows = [
        {**good, "id": "torn", "source": "torn.png"},
        {**good, "id": "gone", "target": "nowhere.png"},
        {**good, "id": "none", "source": "none.png"},
        {**good, "id": "long", "source": "long.png", "target": "long.png"},
        {**good, "id": "tiny", "source": "tiny.png", "target": "tiny.png"},
        {**good, "id": "tall", "target": "tall.png"},
        {**good, "id": "mute", "instruction": "  "},
        {**good, "id": "box", "boxes": [9, 9, 1, 1]},
        {**good, "id": "group", "group": "hard"},
    ]
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    for place, row in enumerate(rows):
        lines.insert(4 * place + 3, json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder, [row["id"] for row in rows]


def test_bad_samples_are_named_with_the_reason(bad, tmp_path):
    folder, names = bad
    settings = PreparationSettings(area=AREA, shard_rows=7, batch=3, max_rejected=0.5)
    counts = prepare_source(open_source(str(folder)), tmp_path / "out", Marks(), settings)
    assert (counts.edits, counts.rejected) == (40, 9)
    found = {entry["id"]: entry["reason"] for entry in rejected(tmp_path / "out")}
    assert list(found) == names
    said = {
        "torn": "source image: .*(damaged|cut short)",
        "gone": "target image: .*nowhere.png",
        "none": "empty",
        "long": "600x40",
        "tiny": "3x3",
        "tall": "target image: 64x96",
        "mute": "no instruction",
        "box": "empty",
        "group": "hard",
    }
    for name, reason in said.items():
        assert re.search(reason, found[name]), (name, found[name])
    assert [e.id for e in load_shards(tmp_path / "out")] == [f"own-{i}" for i in range(40)]


def test_too_many_bad_samples_stop_the_run(bad, tmp_path):
    folder, _ = bad
    settings = PreparationSettings(area=AREA, shard_rows=5, batch=5, max_rejected=0.1)
    with pytest.raises(DataError, match=r"of \d+ rows were refused .*limit 10%.*rejected.jsonl"):
        prepare_source(open_source(str(folder)), tmp_path / "out", Marks(), settings)
    assert len(rejected(tmp_path / "out")) >= 4
    with pytest.raises(DataError, match=r"the first is: .*source image: .*(damaged|cut short)"):
        prepare_source(open_source(str(folder)), tmp_path / "out", Marks(), settings)
    done = len(list((tmp_path / "out").glob("shard-*")))
    assert 0 < done < 9  # it stopped on the way
    more = PreparationSettings(area=AREA, shard_rows=5, batch=5, max_rejected=1.0)
    assert prepare_source(open_source(str(folder)), tmp_path / "out", Marks(), more).edits == 40
    assert len(rejected(tmp_path / "out")) == 9


def test_a_small_side_of_a_holdout_is_not_stopped_by_the_bad_rows_of_the_whole(bad, tmp_path):
    folder, _ = bad
    settings = PreparationSettings(area=AREA, max_rejected=0.2, holdout=0.1)  # 9 of 49 rows are bad
    for split in ("train", "validation"):
        source = open_source(str(folder), split=split)
        counts = prepare_source(source, tmp_path / split, Marks(), settings)
        assert counts.edits and counts.reads == 49
    assert counts.rejected > 0.2 * counts.looked


def test_a_shard_of_bad_samples_only(tmp_path):
    rows = files.rows_of("omniedit")
    rows[2]["edited_prompt_list"] = rows[3]["edited_prompt_list"] = []
    path = files.write_parquet(rows, tmp_path / "x.parquet")
    settings = PreparationSettings(area=AREA, shard_rows=2, max_rejected=0.5)
    counts = prepare_source(open_source("omniedit", path=path), tmp_path / "out", Marks(), settings)
    assert (counts.edits, counts.rejected, counts.shards) == (3, 2, 3)
    assert [edit.id for edit in load_shards(tmp_path / "out")] == ["task_0", "task_1", "task_4"]
    assert prepare_source(open_source("omniedit", path=path), tmp_path / "out", Marks(), settings) == counts


def test_nothing_left_is_an_error(tmp_path):
    rows = [{**row, "edited_prompt_list": []} for row in files.rows_of("omniedit")]
    rows[0]["edited_prompt_list"] = ["x"]
    path = files.write_parquet(rows[:2], tmp_path / "x.parquet")
    source = open_source("omniedit", path=path)
    source.rows.read = lambda start=0, columns=None: iter([] if start else rows[1:2])
    with pytest.raises(DataError, match="no edit at all"):
        prepare_source(source, tmp_path / "out", Marks(), PreparationSettings(area=AREA, max_rejected=1.0))


def test_an_empty_split_of_few_edits_says_so(tmp_path):
    files.save(files.picture(0), tmp_path / "a.png")
    (tmp_path / "m.jsonl").write_text(json.dumps({"id": "a", "source": "a.png", "instruction": "x"}))
    source = open_source(str(tmp_path / "m.jsonl"), split="test")
    settings = PreparationSettings(area=AREA, holdout=0.01, holdout_test=0.01)
    with pytest.raises(DataError, match=r"has no edit in the split 'test'; .*--holdout-test takes none"):
        prepare_source(source, tmp_path / "test", Marks(), settings)
    settings = settings.replace(holdout=0.0, holdout_test=0.0)  # the same folder, as the sentence asks for
    assert prepare_source(source, tmp_path / "test", Marks(), settings).edits == 1


def test_the_holdout_parts_the_sources(tmp_path):
    lines = []
    for i in range(60):  # two edits of each of 30 images
        files.save(files.picture(i // 2), tmp_path / f"{i // 2}.png")
        lines.append(json.dumps({"id": str(i), "source": f"{i // 2}.png", "instruction": "x"}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    found = {}
    for split in ("train", "validation"):
        source = open_source(str(tmp_path / "m.jsonl"), split=split)
        settings = PreparationSettings(area=AREA, holdout=0.3, shard_rows=7)
        prepare_source(source, tmp_path / split, Marks(), settings)
        shards = load_shards(tmp_path / split)
        found[split] = {edit.id for edit in shards}
        assert {edit.split for edit in shards} == {split}
    assert found["train"] | found["validation"] == {str(i) for i in range(60)}
    assert not found["train"] & found["validation"]
    assert 4 <= len(found["validation"]) <= 36
    assert all(str(int(i) ^ 1) in found["validation"] for i in found["validation"])
    card = read_card(tmp_path / "train")
    assert card["splits"] == {"train": len(found["train"])}
    assert card["rows"] == {
        "read": 60,
        "kept": len(found["train"]),
        "refused": 0,
        "left_to_other_splits": len(found["validation"]),
    }
    assert card["holdout"] == {"validation": 0.3}


def test_three_splits_share_the_sources_out(tmp_path):
    lines = []
    for i in range(90):
        files.save(files.picture(i), tmp_path / f"{i}.png")
        lines.append(json.dumps({"id": str(i), "source": f"{i}.png", "instruction": "x"}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    settings = PreparationSettings(area=AREA, holdout=0.2, holdout_test=0.2)
    found = {}
    for split in ("train", "validation", "test"):
        source = open_source(str(tmp_path / "m.jsonl"), split=split)
        prepare_source(source, tmp_path / split, Marks(), settings)
        found[split] = [edit.id for edit in load_shards(tmp_path / split)]
        assert read_card(tmp_path / split)["splits"] == {split: len(found[split])}
    everything = sorted((name for names in found.values() for name in names), key=int)
    assert everything == [str(i) for i in range(90)]
    assert min(map(len, found.values())) > 4 and len(found["train"]) > 30


def test_the_card_says_what_is_there(bad, tmp_path):
    folder, _ = bad
    settings = PreparationSettings(area=AREA, shard_rows=7, max_rejected=0.5)
    source = open_source(str(folder), licence="CC0-1.0")
    out = tmp_path / "out"
    with pytest.raises(DataError, match="not through"):
        read_card(out)
    prepare_source(source, out, Marks(), settings)
    card = read_card(out)
    assert (card["edits"], card["splits"], card["licences"]) == (40, {"train": 40}, {"CC0-1.0": 40})
    assert card["rows"] == {"read": 49, "kept": 40, "refused": 9, "left_to_other_splits": 0}
    assert card["source"] == {"name": "bad", "hub": "", "read_from": "metadata.jsonl"}
    assert card["hashes"]["tokenizer"] == "marks"
    assert card["made_with"]["area"] == AREA
    page = (out / "README.md").read_text()
    assert "| train | 40 |" in page and "CC0-1.0" in page and card["hashes"]["rows"] in page
    assert str(tmp_path) not in page + (out / "card.json").read_text()
    again = tmp_path / "again"
    prepare_source(source, again, Marks(), PreparationSettings(area=AREA, shard_rows=11, max_rejected=0.5))
    assert read_card(again)["hashes"] == card["hashes"]  # other shards, the same rows
    table = folder / "metadata.jsonl"
    table.write_text(table.read_text().replace("add 7", "add seven"))
    prepare_source(open_source(str(folder)), tmp_path / "other", Marks(), settings)
    assert read_card(tmp_path / "other")["hashes"]["rows"] != card["hashes"]["rows"]
    files.save(files.picture(99), folder / "9-after.png")
    prepare_source(open_source(str(folder)), tmp_path / "third", Marks(), settings)
    hashes = [read_card(tmp_path / name)["hashes"]["rows"] for name in ("other", "third")]
    assert hashes[0] != hashes[1], "another target"


def odd_pair(folder, source=(61, 40), target=(61, 40)):
    """An edit of images whose sides are no multiples of 8; the target's lower half is another colour."""
    before = Image.linear_gradient("L").resize(source).convert("RGB")
    after = before.resize(target)
    after.paste((200, 30, 30), (0, target[1] // 2, *target))
    for name, image in (("a.png", before), ("b.png", after)):
        image.save(folder / name)
    row = {"source": "a.png", "target": "b.png", "instruction": "paint it"}
    (folder / "edits.jsonl").write_text(json.dumps(row))
    return before, after, open_source(str(folder / "edits.jsonl"))


@pytest.mark.parametrize("target", [(61, 40), (63, 40), (55, 40)])
def test_the_release_rule_floors_grids_and_keeps_pairs_equal(vision, tmp_path, target):
    released = VisionTokenizer(vision.model, area=60 * 60, rule="release")
    before, after, source = odd_pair(tmp_path, target=target)
    prepare_source(source, tmp_path / "out", released, SMALL.replace(area=60 * 60))
    shards = load_shards(tmp_path / "out")
    assert shards.size_rule == "release"
    (edit,) = shards
    assert target_size(61, 40, 3600, "release") == (74, 49)
    assert edit.source_codes.shape == edit.target_codes.shape == edit.changed.shape == (6, 9)
    pair = resize_pair(before, after, 3600, "release")
    for codes, image in zip((edit.source_codes, edit.target_codes), pair, strict=True):
        assert np.array_equal(codes, released.encode([image], resize=False)[0])
    assert edit.changed[3:].all() and not edit.changed[0].any()


def test_shards_of_two_size_rules_are_refused_together(vision, tmp_path):
    *_, source = odd_pair(tmp_path)
    for rule in ("snap", "release"):
        one = VisionTokenizer(vision.model, area=60 * 60, rule=rule)
        prepare_source(source, tmp_path / rule, one, SMALL.replace(area=60 * 60))
    words = train_text_tokenizer(["paint it"], size=300, codebook_size=32)
    paths = {rule: {"path": str(tmp_path / rule)} for rule in ("snap", "release")}
    with pytest.raises(DataError, match="release by the rule 'release' and snap by the rule 'snap'"):
        load_sources(Data(sources=paths).sources, words)
    with pytest.raises(DataError, match="size_rule"):  # nor is a folder continued under another rule
        prepare_source(source, tmp_path / "snap", one, SMALL.replace(area=60 * 60))
    release = Data(sources={"release": paths["release"]}).sources
    with pytest.raises(DataError, match="rule 'release', the model's is 'snap'"):
        load_sources(release, words, "snap")
