"""`earl reason make` against a served endpoint that answers well, badly, late and never."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import source_files as files
from judge_endpoint import completion, serving
from PIL import Image
from reasoning_set import Flat, chain, edit, write_set

from command_kills import contents
from earl.config import WriterSettings
from earl.config.data import ReasoningSettings
from earl.data.card import read_card
from earl.data.prepare import REJECTED
from earl.data.shards import load_shards
from earl.errors import ConfigError, DataError, EndpointError
from earl.reasoning.annotate import ANSWERS, estimate_boxes, make_reasoning
from earl.reasoning.asking import Asker
from earl.reasoning.images import DecodedImages
from earl.reasoning.questions import load_template
from earl.records import Box

SHOWN = ReasoningSettings(side=128, max_rejected=0.5)  # twice the size of the images
GOOD = chain(region=[[20, 18, 40, 44]])


def named(body) -> str:
    """Which edit a question is about."""
    words = " ".join(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")
    return "e" + re.findall(r"add square (\d)", words)[0]


def make(url, prepared, out, settings=SHOWN, **more):
    attempts = more.pop("attempts", 3)
    options = {"timeout": 5.0, "deadline": 10.0, "retries": 1, "concurrency": 4, **more}
    asker = Asker(WriterSettings(url=url, attempts=attempts, **options))
    pictures = DecodedImages(Flat(), "flat")
    work = make_reasoning(prepared, out, asker, load_template("reasoning"), pictures, settings)
    return asyncio.run(work), asker


def rejected(folder):
    return {e["id"]: e["reason"] for e in map(json.loads, (folder / REJECTED).read_text().splitlines())}


def test_good_answers_become_shards_with_reasoning(prepared, tmp_path):
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        totals, asker = make(endpoint.url, prepared, tmp_path / "out")
    assert (totals.edits, totals.rejected, totals.shards) == (5, 1, 2)
    assert (asker.tally.asked, len(endpoint.asked)) == (5, 5)
    before, after = load_shards(prepared), load_shards(tmp_path / "out")
    assert [e.id for e in after] == ["e0", "e1", "e2", "e3", "e4"]
    for old, new in zip(before, after, strict=False):
        assert np.array_equal(old.target_codes, new.target_codes) and old.boxes == new.boxes
        assert "region: [10, 9, 20, 22] change:" in new.reasoning  # halved, as the images were doubled
        assert new.reasoning.startswith("source: The image shows a grey wall")
        assert old.reasoning == ""
    assert rejected(tmp_path / "out") == {"e5": "it has no target image"}
    card = read_card(tmp_path / "out")
    assert card["with_reasoning"] == 5 and card["reasoning"]["model"] == "scripted"
    kept = [path.name for path in sorted((tmp_path / "out" / ANSWERS).iterdir())]
    assert kept == ["shard-00000.jsonl", "shard-00001.jsonl"]


def test_a_question_shows_both_images_the_boxes_and_the_instruction(prepared, tmp_path):
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        make(endpoint.url, prepared, tmp_path / "out", concurrency=1)
    content = endpoint.asked[0]["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    images = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
    assert [image.size for image in images] == [(128, 96)] * 2
    assert images[0].getpixel((30, 30)) == (100, 100, 100) and images[1].getpixel((48, 48)) == (200,) * 3
    words = " ".join(part["text"] for part in content if part["type"] == "text")
    assert "The instruction was: add square 0" in words
    assert "The images differ in: [32, 32, 64, 64]" in words


def test_bad_answers_are_asked_again_with_the_reason_and_then_rejected(prepared, tmp_path):
    said: dict[str, int] = {}

    def script(body):
        name = named(body)
        said[name] = said.get(name, 0) + 1
        if name == "e1":
            return 200, completion("I would rather not.")
        if name == "e2" and said[name] == 1:
            return 200, completion(chain(region=[[20, 18, 400, 44]]))
        if name == "e3" and said[name] == 1:
            return 200, {"not": "a completion"}
        return 200, completion(GOOD)

    with serving(script) as endpoint:
        totals, _ = make(endpoint.url, prepared, tmp_path / "out")
    assert said == {"e0": 1, "e1": 3, "e2": 2, "e3": 2, "e4": 1}
    assert (totals.edits, totals.rejected) == (4, 2)
    reasons = rejected(tmp_path / "out")
    assert "no JSON object" in reasons["e1"] and "after 3 answers" in reasons["e1"]
    again = [text for text in endpoint.questions() if "could not be used" in text]
    assert any("[20, 18, 400, 44] is not in the image of 128x96" in text for text in again)
    kept = (tmp_path / "out" / ANSWERS / "shard-00000.jsonl").read_text()
    assert kept.count("I would rather not.") == 3 and "not in the image" in kept


def test_too_many_bad_answers_stop_the_run(tmp_path):
    prepared = write_set(tmp_path / "many", [[edit(i) for i in range(9)] for _ in range(4)])
    with (
        serving(lambda body: (200, completion("no"))) as endpoint,
        pytest.raises(DataError, match=r"27 of 27 chains were rejected \(limit 20%\).*rejected\.jsonl"),
    ):
        make(endpoint.url, prepared, tmp_path / "out", ReasoningSettings(side=64), attempts=1)
    assert len((tmp_path / "out" / REJECTED).read_text().splitlines()) == 27
    with (
        serving(lambda body: (200, completion(GOOD))) as endpoint,
        pytest.raises(DataError, match=r"raise --max-rejected"),
    ):
        make(endpoint.url, prepared, tmp_path / "out", ReasoningSettings(side=64), attempts=1)


def test_late_answers_count(prepared, tmp_path):
    def script(body):
        time.sleep(0.5 if named(body) == "e0" else 0)
        return 200, completion(GOOD)

    with serving(script) as endpoint:
        totals, asker = make(endpoint.url, prepared, tmp_path / "out")
    assert totals.edits == 5 and asker.tally.unanswered == 0
    assert endpoint.busiest > 1  # the others did not wait for it


def test_what_never_answers_is_asked_again_by_the_next_run(prepared, tmp_path):
    with (
        serving(lambda body: never(endpoint, body)) as endpoint,
        pytest.raises(DataError, match=r"1 questions got no answer \(no answer within the deadline"),
    ):
        make(endpoint.url, prepared, tmp_path / "out", deadline=4.0)
    assert (tmp_path / "out" / "shard-00000").is_dir()  # e3 holds up its own shard alone
    assert not (tmp_path / "out" / "shard-00001").exists()
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        totals, _ = make(endpoint.url, prepared, tmp_path / "out")
        assert [named(body) for body in endpoint.asked] == ["e3"]
    assert totals.edits == 5
    assert [e.id for e in load_shards(tmp_path / "out")] == ["e0", "e1", "e2", "e3", "e4"]


def never(endpoint, body):
    if named(body) == "e3":
        endpoint.closing.wait(20)
    return 200, completion(GOOD)


def test_an_endpoint_that_goes_away_ends_the_run_soon(tmp_path):
    prepared = write_set(tmp_path / "many", [[edit(i) for i in range(9)] for _ in range(4)])

    def script(body):
        return (200, completion(GOOD)) if len(endpoint.asked) <= 12 else (503, {"error": {"message": "busy"}})

    with serving(script) as endpoint:
        with pytest.raises(DataError, match=r"HTTP 503.*1 of 4 shards are done"):
            make(endpoint.url, prepared, tmp_path / "out", retries=0)
        assert len(endpoint.asked) < 30  # not all that are left are tried
    asked_before = 12
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        totals, _ = make(endpoint.url, prepared, tmp_path / "out")
        assert len(endpoint.asked) == 36 - asked_before
    assert totals.edits == 36


def test_keys_models_and_other_wordings(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "hush")

    def script(body):
        gone = body["model"] == "gone"
        return (404, {"error": {"message": "no such model"}}) if gone else (200, completion(GOOD))

    with serving(script) as endpoint:
        make(endpoint.url, prepared, tmp_path / "out", key_env="SOME_KEY")
        assert {headers["authorization"] for headers in endpoint.headers} == {"Bearer hush"}
        assert "hush" not in "".join(p.read_text() for p in (tmp_path / "out").rglob("*.json*"))
        with pytest.raises(EndpointError, match=r"'gone' is not served .*it has: scripted"):
            make(endpoint.url, prepared, tmp_path / "other", model="gone")
        with pytest.raises(DataError, match="reasoning"):  # made with another size of images
            make(endpoint.url, prepared, tmp_path / "out", ReasoningSettings(side=64))
    with pytest.raises(ConfigError, match="NO_KEY holds no key"):
        make("http://127.0.0.1:9/v1", prepared, tmp_path / "x", key_env="NO_KEY")
    with pytest.raises(EndpointError, match=r"the model at http://127\.0\.0\.1:9/v1 is not ready"):
        make("http://127.0.0.1:9/v1", prepared, tmp_path / "x", retries=0)


def test_a_limit_takes_the_first(prepared, tmp_path):
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        totals, _ = make(endpoint.url, prepared, tmp_path / "out", ReasoningSettings(side=128, limit=4))
    assert totals.edits == 4
    assert [e.id for e in load_shards(tmp_path / "out")] == ["e0", "e1", "e2", "e3"]


def test_a_larger_limit_goes_on_and_a_smaller_one_takes_nothing_away(prepared, tmp_path):
    out = tmp_path / "out"
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        make(endpoint.url, prepared, tmp_path / "whole", concurrency=1)
        for limit, asked, kept in (
            (1, ["e0"], 1),
            (4, ["e1", "e2", "e3"], 4),  # both shards are left short, then one is written again
            (2, [], 4),
            (4, [], 4),
            (0, ["e4"], 5),
        ):
            endpoint.asked.clear()
            totals, _ = make(
                endpoint.url,
                prepared,
                out,
                ReasoningSettings(side=128, max_rejected=0.5, limit=limit),
                concurrency=1,
            )
            assert [named(body) for body in endpoint.asked] == asked
            assert totals.edits == kept == read_card(out)["edits"] == read_card(out)["reasoning"]["chains"]
            assert [e.id for e in load_shards(out)] == [f"e{i}" for i in range(kept)]
    assert contents(out) == contents(tmp_path / "whole")
    assert rejected(out) == {"e5": "it has no target image"}


def test_an_endpoint_lost_while_a_limit_is_raised_leaves_what_was_there(prepared, tmp_path):
    out = tmp_path / "out"
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        make(endpoint.url, prepared, out, ReasoningSettings(side=128, limit=1))
    before = contents(out)
    with serving(lambda body: (503, {"error": {"message": "busy"}})) as endpoint, pytest.raises(DataError):
        make(endpoint.url, prepared, out, retries=0)
    assert contents(out) == before
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        assert make(endpoint.url, prepared, out)[0].edits == 5
        assert "e0" not in map(named, endpoint.asked)


def test_boxes_are_estimated_where_there_are_none():
    bare = edit(0, boxes=())
    assert estimate_boxes(bare, None) == (Box(16, 16, 32, 32),)
    assert estimate_boxes(bare, None, margin=0) == (Box(8, 8, 40, 40),)
    before = Image.new("RGB", (64, 48), (100, 100, 100))
    after = before.copy()
    after.paste((200, 0, 0), (18, 17, 29, 28))
    assert estimate_boxes(bare, (before, after)) == (Box(18, 17, 29, 28),)


def test_the_source_shows_its_own_images(tmp_path):
    from earl.config.data import PreparationSettings
    from earl.data.prepare import prepare_source
    from earl.data.shards import open_shard, read_manifest, shard_folders
    from earl.data.sources.opening import open_source
    from earl.reasoning.images import SourceImages

    files.own_folder(tmp_path / "own", 7)
    table = tmp_path / "own" / "metadata.jsonl"
    lines = table.read_text().splitlines()
    lines[2] = json.dumps({"id": "bad", "source": "nowhere.png", "instruction": "x"})
    table.write_text("\n".join(lines))
    settings = PreparationSettings(area=96 * 64, shard_rows=3, max_rejected=0.5)
    prepare_source(open_source(str(tmp_path / "own")), tmp_path / "in", files.Marks(), settings)
    pictures = SourceImages(open_source(str(tmp_path / "own")))
    manifest = read_manifest(tmp_path / "in")
    for shard in reversed(shard_folders(tmp_path / "in")):
        edits = list(open_shard(shard, manifest))
        for one, (before, after) in zip(edits, pictures.of(shard, edits), strict=True):
            number = int(one.id.removeprefix("own-"))
            assert before.tobytes() == files.picture(number).tobytes()
            assert estimate_boxes(one, (before, after)) == (Box(8, 8, 32, 32),)
    files.save(files.picture(50), tmp_path / "own" / "6.png")
    first, *_, last = shard_folders(tmp_path / "in")
    with pytest.raises(DataError, match="own-6 is not the one"):
        list(pictures.of(last, list(open_shard(last, manifest))))
    with pytest.raises(DataError, match="no edit 'own-0'"):
        list(pictures.of(last, list(open_shard(first, manifest))))


def test_a_killed_run_goes_on(tmp_path):
    """Killed as answers come in, several times; nothing is lost, doubled or asked about again."""
    prepared = write_set(tmp_path / "many", [[edit(i) for i in range(9)] for _ in range(3)])
    program = (
        "import os, signal, sys\n"
        "sys.path[:0] = sys.argv[1].split(':')\n"
        "import earl.store as store\n"
        "from pathlib import Path\n"
        "import test_reason_make as here\n"
        "left, real = int(sys.argv[5]), store.RecordFile.append\n"
        "def append(self, records):\n"
        "    global left\n"
        "    real(self, records)\n"
        "    left -= 1\n"
        "    if not left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.RecordFile.append = append\n"
        "here.make(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), concurrency=1)\n"
    )
    here = Path(__file__).parent
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        rooms = ("", "reasoning", "support")
        places = ":".join(str(here.parent / room) for room in rooms)
        words = [places, endpoint.url, str(prepared), str(tmp_path / "out")]
        codes = [
            subprocess.run([sys.executable, "-c", program, *words, str(after)], timeout=300).returncode
            for after in (1, 8, 11, 0)
        ]
        assert codes == [-signal.SIGKILL] * 3 + [0]
        assert len(endpoint.asked) == 27
    assert [e.id for e in load_shards(tmp_path / "out")] == [f"e{i}" for i in range(9)] * 3
