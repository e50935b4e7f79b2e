"""Instructions made from VisMin's captions: asked once, kept, and put into the shards."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
import source_files as files
from judge_endpoint import completion, serving
from source_files import Marks

from earl.cli import main
from earl.config import WriterSettings
from earl.config.data import PreparationSettings
from earl.data.prepare import REJECTED, prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import CaptionPair, open_source
from earl.errors import DataError
from earl.reasoning.asking import Asker
from earl.reasoning.instructions import instructions_from_captions
from earl.reasoning.questions import load_template

SMALL = PreparationSettings(area=32 * 32, shard_rows=2, max_rejected=0.5)


@pytest.fixture
def vismin(tmp_path):
    rows = files.rows_of("vismin")
    for row in rows:
        row["caption"] += f" number {row['image_id'][1:]}"
    return files.write_parquet(rows, tmp_path / "vismin.parquet")


def ask(url, source, path, **more):
    options = {"timeout": 5.0, "deadline": 10.0, "retries": 0, "concurrency": 2, **more}
    asker = Asker(WriterSettings(url=url, attempts=2, **options))
    pairs = source.captions()
    made = asyncio.run(instructions_from_captions(pairs, path, asker, load_template("instruction")))
    return made, asker


def script(body):
    """Adds the square, but for pair 2, which it will not, and pair 3, which it does at the second try."""
    text = body["messages"][0]["content"]
    words = " ".join(part["text"] for part in text)
    number = re.findall(r"Before: a wall number (\d)", words)[0]
    if number == "2" or (number == "3" and len(text) == 1):
        return 200, completion("I see a wall.")
    return 200, completion(json.dumps({"instruction": f"Put square {number} on the wall."}))


def test_captions_of_both_rows_come_together(vismin):
    source = open_source("vismin", path=vismin, instructions={"e4": "mine already"})
    assert list(source.captions())[1::3] == [
        CaptionPair("e1", "a wall number 1", "a wall with a square number 1"),
        CaptionPair("e4", "a wall number 4", "a wall with a square number 4", "mine already"),
    ]


def test_instructions_are_asked_once_and_end_in_the_shards(vismin, tmp_path):
    path = tmp_path / "answers.jsonl"
    with serving(script) as endpoint:
        source = open_source("vismin", path=vismin, instructions={"e4": "mine already"})
        made, asker = ask(endpoint.url, source, path)
        assert made.texts == {f"e{i}": f"Put square {i} on the wall." for i in (0, 1, 3)}
        assert list(made.problems) == ["e2"] and "no JSON object" in made.problems["e2"]
        assert asker.tally.asked == 6  # 0, 1, twice 2, twice 3
        again, asker = ask(endpoint.url, source, path)
        assert (again, asker.tally.asked) == (made, 0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(line["text"] == "I see a wall." for line in lines) == 3  # raw, as they came
    source.give(made.texts, origin=made.origin, problems=made.problems)
    assert "scripted" in (source.instructions_digest or "")
    counts = prepare_source(source, tmp_path / "out", Marks(), SMALL)
    assert (counts.edits, counts.rejected) == (4, 1)
    found = {edit.id: edit.instruction for edit in load_shards(tmp_path / "out")}
    assert found == {**made.texts, "e4": "mine already"}
    assert "no instruction could be made from its captions" in (tmp_path / "out" / REJECTED).read_text()


def test_without_an_answer_nothing_is_prepared_and_nothing_is_lost(vismin, tmp_path):
    path = tmp_path / "answers.jsonl"
    source = open_source("vismin", path=vismin, instructions={})

    def half(body):
        return script(body) if len(endpoint.asked) <= 2 else (500, "out of order")

    with serving(half) as endpoint, pytest.raises(DataError, match=r"HTTP 500.*2 instructions are kept"):
        ask(endpoint.url, source, path, concurrency=1)
    with serving(script) as endpoint:
        made, asker = ask(endpoint.url, source, path)
    assert asker.tally.asked == 7 - 2 and len(made.texts) == 4


def test_rows_without_captions_are_refused_with_a_reason(tmp_path):
    files.own_folder(tmp_path / "own", 2)
    table = tmp_path / "own" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    del rows[0]["instruction"]
    rows[1] |= {"source_caption": "x"}
    table.write_text("\n".join(map(json.dumps, rows)))
    with serving(script) as endpoint:
        made, asker = ask(
            endpoint.url, open_source(str(tmp_path / "own"), instructions={}), tmp_path / "a.jsonl"
        )
    assert made.texts == {} and asker.tally.asked == 0
    assert made.problems == {"own-0": "no instruction, and not two captions to make one from"}


def test_the_command_goes_the_whole_way(vismin, tmp_path, capsys):
    from earl.vision.creating import create_vision_tokenizer
    from earl.vision.loading import save_vision_tokenizer

    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=32), tmp_path / "vision", area=1024)
    out = tmp_path / "out"
    words = ["prepare", "vismin", "--path", str(vismin), "-o", str(out), "--vision", str(tmp_path / "vision")]
    words += ["--device", "cpu", "--max-rejected", "0.5", "--write-instructions"]
    assert main(words) == 2
    assert "--writer-url" in capsys.readouterr().err
    with serving(script) as endpoint:
        assert main([*words, "--writer-url", endpoint.url, "--writer-attempts", "2"]) == 0
        said = capsys.readouterr().out
        assert "4 instructions by scripted (7 questions asked), 1 captions without one" in said
        assert main([*words, "--writer-url", endpoint.url, "--writer-attempts", "2"]) == 0
        assert "(0 questions asked)" in capsys.readouterr().out
    assert (out / "instructions.jsonl").is_file()
    assert [edit.id for edit in load_shards(out)] == ["e0", "e1", "e3", "e4"]
