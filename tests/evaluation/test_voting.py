"""Blind votes: nothing tells the runs apart, sides differ, votes resume, and what they say by hand."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.cli import main
from earl.data.shards import load_shards
from earl.errors import DataError, OutputError
from earl.evaluation.agreement import read_ratings, votes_agreement
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.records import EditRecord
from earl.evaluation.voting import Ballot, Pair, Vote, count_votes, read_votes, tally_text
from earl.records import Verdict
from earl.service.http import served
from earl.service.voting import voting_app

TASKS = 24


def write_run(path: Path, colour: str, *, without: int | None = None, instruction: str = "paint it") -> Path:
    """An evaluation whose edits are of one colour."""
    plan = {
        "benchmark": {"name": "own", "title": "Own edits"},
        "editor": {"name": f"the {colour} model", "kind": "model"},
        "verifier": None,
    }
    folder = EvaluationFolder(EvaluationFolder.start(path, plan))
    for number in range(TASKS):
        key = f"task-{number}"
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        source = folder.save_image("sources", key, Image.fromarray(noise))
        edited = None
        if number != without:
            edited = folder.save_image("edits", key, Image.new("RGB", (16, 16), colour))
        folder.add_edits(
            [
                EditRecord(
                    key,
                    key,
                    number,
                    f"{instruction} {number}",
                    "own",
                    "simple",
                    "",
                    "edited" if edited else "no_image",
                    source=source,
                    edited=edited,
                )
            ]
        )
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("runs")
    return write_run(home / "a", "red"), write_run(home / "b", "blue", without=3)


def test_a_person_votes_in_a_browser_and_goes_on_later(runs, tmp_path):
    httpx = pytest.importorskip("httpx2")
    file = tmp_path / "votes.jsonl"
    sides: Counter[str] = Counter()
    for stop in (10, TASKS):  # the server is ended after ten votes and started again
        with served(voting_app(Ballot(*runs, file, voter="ann", seed=1))) as url:
            root = url.removesuffix("/v1")
            page = httpx.get(root).text
            seen = [page]
            while (pair := httpx.get(f"{root}/pair").json())["number"] is not None:
                number = pair["number"]
                if number == stop:
                    break
                seen.append(json.dumps(pair))
                answers = {s: httpx.get(f"{root}/image/{number}/{s}") for s in ("source", "left", "right")}
                colours = {s: Image.open(io.BytesIO(a.content)).getpixel((0, 0)) for s, a in answers.items()}
                red = "left" if colours["left"] == (255, 0, 0) else "right"
                assert {colours["left"], colours["right"]} == {(255, 0, 0), (0, 0, 255)}
                sides[red] += 1
                seen += [str(answer.headers) for answer in answers.values()]
                assert httpx.post(f"{root}/vote/{number}/{red}").status_code == 200
                httpx.post(f"{root}/vote/{number}/tie")  # a second click changes nothing
            assert httpx.get(f"{root}/image/999/left").status_code == 404
            for tell in ("red", "blue", str(runs[0]), str(runs[1]), "model"):
                assert not any(tell in text for text in seen[1:]), tell
    votes = read_votes(file)
    assert len(votes) == TASKS - 1 and {vote.choice for vote in votes} == {"A"}
    assert min(sides.values()) >= 5, "A is on either side"
    first = json.loads(file.read_text().splitlines()[0])
    assert (tmp_path / first["preferred"]).resolve() == (tmp_path / first["a"]).resolve()
    assert (tmp_path / first["a"]).resolve().parent.parent == runs[0].resolve()


def test_when_all_is_voted_the_command_prints_and_ends(runs, tmp_path, capsys):
    file = tmp_path / "votes.jsonl"
    ballot = Ballot(*runs, file, voter="ann", count=4)
    for number, side in enumerate(("left", "right", "tie", "left")):
        ballot.vote(number, side)
    assert ballot.next() is None
    assert main(["evaluate", "vote", *map(str, runs), "-o", str(file), "--voter", "ann", "--num", "4"]) == 0
    said = capsys.readouterr().out
    assert "A: the red model" in said and "4 votes of 1 voter on 4 tasks" in said and "ties 1" in said


def test_comparisons_share_a_file_and_each_counts_its_own_votes(runs, tmp_path, capsys):
    red, blue = runs
    green = write_run(tmp_path / "c", "green")
    file = tmp_path / "votes.jsonl"

    def command(a: Path, b: Path) -> str:
        words = ["evaluate", "vote", a, b, "-o", file, "--voter", "ann", "--num", "3"]
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    def prefer(liked: Path, a: Path, b: Path) -> None:
        ballot = Ballot(a, b, file, voter="ann", count=3)
        assert ballot.next() == 0 and not ballot.votes(), "other comparisons answer nothing"
        for number in range(3):
            left, _ = ballot.sides(number)
            ballot.vote(number, "left" if left.parent.parent == liked else "right")

    prefer(red, red, blue)
    before = file.read_bytes()
    assert "A wins 3, ties 0, B wins 0" in command(red, blue)
    assert "A: the blue model\nB: the red model" in (said := command(blue, red))
    assert "3 votes of 1 voter on 3 tasks: A wins 0, ties 0, B wins 3" in said
    assert file.read_bytes() == before, "the other way round nothing is asked"

    prefer(blue, green, blue)
    assert file.read_bytes().startswith(before)
    assert "A: the green model" in (said := command(green, blue)) and "B wins 3" in said
    assert "3 votes of 1 voter on 3 tasks: A wins 3" in command(red, blue)

    named = {edit.key: edit.edited.resolve().parent.parent for edit in read_ratings(file)}
    points = {red: 9.0, blue: 5.0, green: 7.0}  # as people on red and blue, not on green and blue
    verdicts = {key: Verdict("ok", *(4 * [points[run]])) for key, run in named.items()}
    share = votes_agreement(file, verdicts)
    assert share.mean == 0.5 and share.count == 6


def vote(task: str, voter: str, choice) -> Vote:
    return Vote(Pair(task, "x", Path(), Path(), Path()), voter, choice)


def test_the_tally_by_hand():
    votes = [vote("1", "ann", "A"), vote("1", "bob", "A"), vote("2", "ann", "A"), vote("2", "bob", "tie")]
    votes += [vote("3", "ann", "B"), vote("3", "bob", "A"), vote("4", "ann", "B")]
    tally = count_votes(votes)
    assert (tally.votes, tally.voters, tally.a, tally.tie, tally.b) == (7, 2, 2, 1, 1)
    assert tally.share.mean == pytest.approx((1 + 0.75 + 0.5 + 0) / 4) and tally.p == 1.0
    assert tally.agreement.mean == pytest.approx(1 / 3) and tally.agreement.count == 3
    assert "0.56 [" in tally_text(tally, ("one", "two"))
    assert count_votes([vote(str(n), "ann", "A") for n in range(10)]).p == pytest.approx(2 / 2**10)


def test_votes_are_read_as_ratings_and_pairs(runs, tmp_path):
    file = tmp_path / "votes.jsonl"
    for voter in ("ann", "bob"):
        ballot = Ballot(*runs, file, voter=voter, count=4)
        for number in range(4):
            side = "left" if ballot.sides(number)[0].parent.parent == runs[0] else "right"
            ballot.vote(number, "tie" if voter == "bob" else side)
    edits = read_ratings(file)
    ratings = Counter(edit.rating for edit in edits)
    assert sum(ratings.values()) == len(edits) and set(ratings) <= {0.25, 0.5, 0.75, 0.0, 1.0}
    red = {edit.key for edit in edits if edit.edited.parent.parent.resolve() == runs[0].resolve()}

    def verdicts(a: float, b: float) -> dict[str, Verdict]:
        return {edit.key: Verdict("ok", *(4 * [a if edit.key in red else b])) for edit in edits}

    assert votes_agreement(file, verdicts(9, 2)).mean == 1.0
    assert votes_agreement(file, verdicts(2, 9)).mean == 0.0
    assert votes_agreement(file, verdicts(5, 5)).mean == 0.5
    assert votes_agreement(file, {edit.key: Verdict("unusable", why="x") for edit in edits}) is None


def test_what_cannot_be_voted_on_is_refused(runs, tmp_path):
    other = write_run(tmp_path / "c", "green", instruction="another thing")
    with pytest.raises(DataError, match="another instruction"):
        Ballot(runs[0], other, tmp_path / "v.jsonl", voter="ann")
    (tmp_path / "v.jsonl").write_text('{"key": "a", "choice": "C"}\n')
    with pytest.raises(DataError, match="is no vote"):
        read_votes(tmp_path / "v.jsonl")
    assert main(["evaluate", "vote", str(tmp_path), str(runs[0])]) == 2


@pytest.mark.slow
def test_a_file_of_votes_that_cannot_be_written_is_refused_before_a_page_is_shown(runs, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file is a file where a folder is needed"):
        Ballot(*runs, tmp_path / "file" / "votes.jsonl", voter="ann")


def test_votes_are_pairs_that_prepare_takes(runs, tmp_path, model_folder):
    file = tmp_path / "votes.jsonl"
    ballot = Ballot(*runs, file, voter="ann", count=4)
    for number, side in enumerate(("left", "right", "tie", "left")):
        ballot.vote(number, side)
    words = ["-o", tmp_path / "shards", "--vision", model_folder, "--max-rejected", "0.5"]
    assert main(["prepare", *map(str, [file, *words])]) == 0
    shards = load_shards(tmp_path / "shards")
    assert len(shards) == 3 and not shards.without_pair()  # the tie is refused
