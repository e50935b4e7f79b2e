"""Shards, mixtures, kinds and batches, with hand-checked answers."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earl.data.changes import changed_cells, stitch
from earl.data.collate import collate
from earl.data.examples import (
    COVER,
    KEEP,
    Example,
    answer_example,
    cover_example,
    edit_example,
    whole_example,
    whole_kinds,
)
from earl.data.shards import Edit, load_shards, start_folder, write_shard
from earl.errors import DataError, OutputError
from earl.sequence.layout import parse_completion, write_prompt
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer
from earl.world.rendering import render
from earl.world.shards import WorldData, prepare_world
from earl.world.tasks import sample_group

F, T, V = 0, 1, 2  # forced, text, visual


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_text_tokenizer(["make it red", "a red cube"], size=300, codebook_size=64)


def edit(name: str = "a", source: str = "s", group: str = "simple", words: str = "make it red") -> Edit:
    return Edit(
        id=name,
        source=source,
        source_codes=np.array([[1, 2], [3, 4]], np.int32),
        target_codes=np.array([[9, 8], [7, 6]], np.int32),
        changed=np.array([[False, True], [False, False]]),
        instruction=words,
        reasoning="look. change.",
        family="color" if group == "simple" else "count",
        group=group,
        source_caption="a red cube",
        target_caption="",
    )


class FakeEncoder:
    """Codes from mean brightness; counts how often it sees a picture."""

    codebook_size = 64
    rule = "snap"

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, images: list, resize: bool = True) -> list[np.ndarray]:
        assert not resize
        self.seen += len(images)
        cells = [np.asarray(i).reshape(i.height // 8, 8, i.width // 8, 8, 3).mean((1, 3, 4)) for i in images]
        return [(cell // 4).astype(np.int32) for cell in cells]

    def fingerprint(self) -> str:
        return "fake"


def test_changed_cells_by_hand() -> None:
    source = np.zeros((32, 40, 3), np.uint8)
    target = source.copy()
    target[8, 39, 1] = 3  # cell (1, 4), at the right edge
    target[31, 0, 0] = 2  # within the tolerance
    expected = np.zeros((4, 5), bool)
    expected[0:3, 3:5] = True
    assert np.array_equal(changed_cells(source, target), expected)
    assert changed_cells(source, target, dilate=0).sum() == 1
    assert not changed_cells(source, source).any()


def test_stitched_target_is_the_source_elsewhere(tokenizer: TextTokenizer) -> None:
    e = edit()
    assert stitch(e.source_codes, e.target_codes, e.changed).tolist() == [[1, 8], [3, 4]]
    ids = edit_example(e, tokenizer, stitched=True).ids.tolist()
    completion = ids[ids.index(tokenizer.vocabulary.boi, 2) :]
    codes = parse_completion(completion, tokenizer).codes
    assert codes is not None and codes.tolist() == [[1, 8], [3, 4]]


def test_kinds_of_an_edit_by_hand(tokenizer: TextTokenizer) -> None:
    size = len(tokenizer.encode("2*2"))
    words = len(tokenizer.encode("make it red"))
    image = 1 + size + 1 + 2 * (2 + 1) + 2
    prompt = 1 + image + words
    body = [V, V, F, V, V, F, F, F, F]  # two rows with EOL, EOF EOI EOS
    direct = edit_example(edit(), tokenizer)
    assert direct.kinds.tolist() == [F] * prompt + [F] + [T] * size + [T] + body
    assert direct.prefix == 1 + image and len(direct.ids) == len(direct.kinds)
    sized = edit_example(edit(), tokenizer, prefill="size")
    assert sized.kinds.tolist() == [F] * prompt + [F] * (size + 2) + body
    scored = edit_example(edit(), tokenizer, prefill="size", score_forced=True)
    assert scored.kinds.tolist() == [F] * prompt + [T] * (size + 2) + [V, V, T, V, V, T, T, T, T]
    visual = np.flatnonzero(direct.kinds == V)
    assert direct.changed[visual].tolist() == [False, True, False, False] and direct.changed.sum() == 1
    thinking = edit_example(edit(), tokenizer, prefill="reasoning")
    assert thinking.kinds[-len(direct.ids) + prompt :].tolist()[1:] == direct.kinds.tolist()[prompt + 1 :]
    assert (thinking.kinds == T).sum() > (direct.kinds == T).sum()
    whole = edit_example(edit(), tokenizer, prefill="reasoning", score_forced=True)
    assert (whole.kinds[prompt:] != F).all() and (whole.kinds[:prompt] == F).all()
    assert whole.ids.tolist() == thinking.ids.tolist()


def test_kinds_of_the_base_stage_by_hand(tokenizer: TextTokenizer) -> None:
    size, words = len(tokenizer.encode("2*2")), len(tokenizer.encode("a red cube"))
    image = [T] + [T] * size + [T] + [V, V, F, V, V, F, F, F]
    assert whole_example(edit(), 0, "caption_to_image", tokenizer).kinds.tolist() == [
        F,
        *[T] * words,
        *image,
        F,
    ]
    assert whole_example(edit(), 0, "image_to_caption", tokenizer).kinds.tolist() == [
        F,
        *image,
        *[T] * words,
        T,
    ]
    identity = whole_example(edit(), 1, "identity", tokenizer)
    lengths = {len(tokenizer.encode(words)) for words in KEEP}
    keep = len(identity) - 2 - 2 * len(image)
    assert keep in lengths and len(lengths) > 3
    assert identity.kinds.tolist() == [F, *image, *[T] * keep, *image, F]
    v = tokenizer.vocabulary
    codes = [i - v.first_visual for i in identity.ids if i >= v.first_visual]
    assert codes == [9, 8, 7, 6] * 2
    with pytest.raises(DataError, match="no caption"):
        whole_example(edit(), 1, "caption_to_image", tokenizer)
    assert whole_kinds(np.array([v.bos, v.pad], np.int32), tokenizer).tolist() == [F, F]


def test_an_answer_is_all_that_is_learnt(tokenizer: TextTokenizer) -> None:
    asked = replace(edit(), questions=("a cube", "cube"), answers=("red", "a red cube"))
    example = answer_example(asked, 1, tokenizer)
    answer = [*tokenizer.encode(" a red cube"), tokenizer.vocabulary.eos]
    assert example.ids[-len(answer) :].tolist() == answer
    assert example.kinds.tolist() == [F] * (len(example.ids) - len(answer)) + [T] * len(answer)
    shared = edit_example(asked, tokenizer)
    assert example.prefix == shared.prefix
    assert example.ids[: shared.prefix].tolist() == shared.ids[: shared.prefix].tolist()


def test_a_cover_hides_what_was_found(tokenizer: TextTokenizer) -> None:
    asked = replace(
        edit(),
        questions=("the color", "find the cube"),
        answers=("red", "object background object background"),
    )
    example, first = cover_example(asked, 1, tokenizer), tokenizer.vocabulary.first_visual
    assert (example.ids[example.kinds == V] - first).tolist() == [COVER, 2, COVER, 4]
    prompt = write_prompt(asked.source_codes, "find the cube", tokenizer)
    assert example.ids[: len(prompt)].tolist() == list(prompt) and not example.kinds[: len(prompt)].any()
    plain = edit_example(replace(asked, instruction="find the cube"), tokenizer)
    assert example.kinds.tolist() == plain.kinds.tolist() and example.prefix == plain.prefix
    assert not example.changed.any()
    with pytest.raises(DataError, match=r"'the color' has 1 words, expected one for each of 4 cells"):
        cover_example(asked, 0, tokenizer)


def test_collate_by_hand() -> None:
    a = Example(np.array([5, 6, 7], np.int32), np.array([0, 1, 2], np.int8), np.array([0, 0, 1], bool), 2)
    b = Example(np.array([5, 6], np.int32), np.array([0, 2], np.int8), np.array([0, 0], bool), 1)
    batch = collate([[a], [b]], pad=99)
    assert batch.ids_BT.tolist() == [[5, 6, 7], [5, 6, 99]]
    assert batch.mask_BT.tolist() == [[True, True, True], [True, True, False]]
    assert batch.kinds_BT.tolist() == [[0, 1, 2], [0, 2, 0]]
    assert batch.loss_BT.tolist() == [[False, True, True], [False, True, False]]
    assert batch.changed_BT.tolist() == [[False, False, True], [False] * 3]
    apart = collate([[a], [b]], pad=99, share=True)
    assert apart.ids_BT.tolist() == [[7], [6]] and apart.prefix_PL.tolist() == [[5, 6], [5, 99]]
    assert batch.active == 3 and batch.sequences == 2 and batch.prefix_PL is None


def test_collate_with_shared_prefixes() -> None:
    rows = [
        np.array([1, 2, 3, 4, 5], np.int32),
        np.array([1, 2, 6, 7], np.int32),
        np.array([8, 9, 9], np.int32),
    ]
    a, b, c = [
        Example(row, np.array([0] * (len(row) - 1) + [2], np.int8), np.zeros(len(row), bool), prefix)
        for row, prefix in zip(rows, (2, 2, 1), strict=True)
    ]
    batch = collate([[a, b], [c]], pad=0)
    assert batch.prefix_PL is not None and batch.prefix_mask_PL is not None and batch.owner_B is not None
    assert batch.prefix_PL.tolist() == [[1, 2], [8, 0]]
    assert batch.prefix_mask_PL.tolist() == [[True, True], [True, False]]
    assert batch.ids_BT.tolist() == [[3, 4, 5], [6, 7, 0], [9, 9, 0]]
    assert batch.kinds_BT.tolist() == [[0, 0, 2], [0, 2, 0], [0, 2, 0]]
    assert batch.owner_B.tolist() == [0, 0, 1] and batch.active == 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    start_folder(folder, {"fingerprint": "f", "codebook_size": 64})
    write_shard(folder, 0, [edit("a", "1"), edit("b", "1", "complex"), edit("c", "1")], split="train")
    write_shard(folder, 1, [edit("d", "2", words="say ünïcode"), edit("e", "3")], split="train")
    return folder


def test_a_flipped_bit_and_a_lost_shard_are_named(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    (table,) = (copy / "shard-00001").glob("*.arrow")
    damaged = bytearray(table.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    table.write_bytes(damaged)
    with pytest.raises(DataError, match=r"shard-00001/.*arrow is damaged.*prepare it again"):
        load_shards(copy)
    table.unlink()
    with pytest.raises(DataError, match=r"shard-00001/.*arrow cannot be read"):
        load_shards(copy)
    shutil.rmtree(copy / "shard-00000")
    with pytest.raises(DataError, match=r"shard-00000 is missing"):
        load_shards(copy)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("shards.json", '{"format": 1}', "codebook_size is 'None'"),
        ("shards.json", '{"format": 1, "codebook_size": -1}', "codebook_size is '-1'"),
        ("shards.json", '{"format": 1, "codebook_size": 1e400}', "codebook_size is 'inf'"),
        ("shards.json", '{"format": 1, "codebook_size": 1099511627776}', "codebook_size is '1099511627776'"),
        ("shards.json", '{"format": 1, "codebook_size": 4, "margin": "x"}', "margin is 'x'"),
        ("shard-00001/state.json", "{}", r"shard-00001 is damaged \('_data_files'\); delete it"),
        ("shard-00001/state.json", "[", "shard-00001 is damaged .*; delete it"),
        ("shard-00001/dataset_info.json", "null", "shard-00001 is damaged .*; delete it"),
        ("shard-00001/checksums.json", "{}", "does not name data-00000-of-00001.arrow"),
    ],
)
def test_a_damaged_file_beside_the_tables_is_named(
    name: str, text: str, said: str, shards: Path, tmp_path: Path
) -> None:
    shutil.copytree(shards, tmp_path / "copy")
    (tmp_path / "copy" / name).write_text(text)
    with pytest.raises(DataError, match=said):
        load_shards(tmp_path / "copy")


def test_shards_round_trip(shards: Path) -> None:
    found = load_shards(shards)
    assert len(found) == 5 and found.codebook_size == 64 and found.fingerprint == "f"
    first, want = found[0], edit("a", "1")
    for field in ("source_codes", "target_codes", "changed"):
        assert np.array_equal(getattr(first, field), getattr(want, field))
        assert getattr(first, field).dtype == getattr(want, field).dtype
    assert found[3].instruction == "say ünïcode" and found[1].group == "complex"
    assert found.bundles(2) == [[0, 1], [2], [3], [4]] and found.bundles(1) == [[i] for i in range(5)]


def test_selecting_and_bundling(shards: Path) -> None:
    simple = load_shards(shards).select(group="simple")
    assert [simple[i].id for i in range(4)] == ["a", "c", "d", "e"]
    assert simple.bundles(4) == [[0, 1], [2], [3]]
    with pytest.raises(DataError, match="roll"):
        simple.select(families=["roll"])


def test_unreadable_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shards\.json is missing"):
        load_shards(tmp_path)
    start_folder(tmp_path, {"fingerprint": "f", "codebook_size": 4})
    with pytest.raises(DataError, match="no shards"):
        load_shards(tmp_path)
    (tmp_path / "shard-00000").mkdir()
    with pytest.raises(DataError, match=r"shard-00000/checksums\.json is missing; delete"):
        load_shards(tmp_path)
    with pytest.raises(DataError, match="fingerprint = 'f', now 'g'"):
        start_folder(tmp_path, {"fingerprint": "g", "codebook_size": 4})


def test_full_disk_while_writing_a_shard(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datasets.Dataset.save_to_disk", full)
    with pytest.raises(OutputError, match=r"shard-00002.*No space left"):
        write_shard(shards, 2, [edit()], split="train")
    assert len(load_shards(shards)) == 5


def test_world_shards_share_images_and_continue(tmp_path: Path) -> None:
    settings = WorldData(sources=5, shard_sources=3, resolution=32, group_size=3)
    encoder = FakeEncoder()
    prepare_world(tmp_path / "a", encoder, settings, batch=4)
    found = load_shards(tmp_path / "a")
    tasks = [task for seed in range(5) for task in sample_group(seed, "train", size=3)]
    assert [found[i].id for i in range(len(found))] == [task.id for task in tasks]
    pictures = {scene for task in tasks for scene in (task.source, task.target)}
    assert encoder.seen <= len(pictures) + 1 < 2 * len(tasks), "a shared source is encoded once"
    last, task = found[len(found) - 1], tasks[-1]
    source, target = render(task.source, 32), render(task.target, 32)
    assert np.array_equal(last.changed, changed_cells(source, target, dilate=0)) and found.margin == 0
    prepare_world(tmp_path / "grown", FakeEncoder(), settings.replace(margin=1))
    grown = load_shards(tmp_path / "grown")
    assert grown.margin == 1
    assert np.array_equal(grown[len(grown) - 1].changed, changed_cells(source, target, dilate=1))
    assert last.source_caption and last.instruction == task.instruction and last.family == task.family
    prepare_world(tmp_path / "b", FakeEncoder(), settings, workers=1)
    drawn_apart = load_shards(tmp_path / "b")[len(found) - 1]
    assert np.array_equal(drawn_apart.target_codes, last.target_codes)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "shard-00000").iterdir()}
    again = FakeEncoder()
    prepare_world(tmp_path / "a", again, WorldData(**{**vars(settings), "sources": 7}), batch=4)
    assert {path: path.stat().st_mtime_ns for path in before} == before and len(
        load_shards(tmp_path / "a")
    ) >= 5
    with pytest.raises(DataError, match="resolution"):
        prepare_world(tmp_path / "a", encoder, WorldData(**{**vars(settings), "resolution": 64}))


def die(*_: object) -> None:
    os._exit(9)


def test_a_killed_worker_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earl.world.shards.render", die)
    settings = WorldData(sources=2, shard_sources=2)
    with pytest.raises(OutputError, match=r"was killed.*run the same command again"):
        prepare_world(tmp_path / "out", FakeEncoder(), settings, workers=1)
