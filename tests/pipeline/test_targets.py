"""Target images drawn by a model and picked by a verifier: `earl prepare edits`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.cli import main
from earl.config import SamplingSettings, VerifierSettings
from earl.config.data import PreparationSettings, SourceSettings, TargetSettings
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.data.tokenise import on_side
from earl.errors import VerifierError
from earl.pipeline import EditPipeline
from earl.pipeline.targets import DrawnTargets
from earl.records import Attempt, Verdict
from earl.world.rendering import render
from earl.world.tasks import sample_task

SAMPLING = SamplingSettings(temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def world() -> EditPipeline:
    return EditPipeline.from_pretrained("world", device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five sources with instructions and no targets; the third image is cut off."""
    rows = []
    for number in range(5):
        task = sample_task(300 + number)
        path = tmp_path / "own" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(render(task.source)).save(path)
        rows.append({"id": f"r{number}", "source": path.name, "instruction": task.instruction})
    cut = tmp_path / "own" / "2.png"
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / "own" / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "own" / "edits.jsonl"


class Darkest:
    """Scores an edit by how dark it is; a stand-in whose favourite the test can find by itself."""

    async def judge(self, attempts: list[Attempt]) -> list[Verdict]:
        assert all(attempt.edited is not None for attempt in attempts)
        scores = [10 - float(np.asarray(a.edited).mean()) / 25.5 for a in attempts]
        return [Verdict("ok", s, s, s, s) for s in scores]


class Away(Darkest):
    """Answers four times, but for the second of the last edits; then it is gone."""

    def __init__(self) -> None:
        self.calls = 0

    async def judge(self, attempts: list[Attempt]) -> list[Verdict]:
        self.calls += 1
        verdicts = await super().judge(attempts)
        return (
            [verdicts[0], Verdict("unreachable", why="no answer"), *verdicts[2:]]
            if self.calls == 4
            else verdicts
        )


def drawn(source: Path, world: EditPipeline, kind: str = "Darkest", **settings: float) -> DrawnTargets:
    opened = open_source(str(source), SourceSettings())
    judge = VerifierSettings(kind=f"test_targets:{kind}")
    return DrawnTargets(opened, world, judge, TargetSettings(best_of=3, **settings), SAMPLING)


def test_target_is_the_best_of_the_draws(folder: Path, world: EditPipeline) -> None:
    reads = list(drawn(folder, world, least=0, at_once=4).read())
    assert [read.number for read in reads] == [0, 1, 2, 3, 4]
    assert reads[2].sample is None and "image" in reads[2].problem
    (plain, *_) = open_source(str(folder), SourceSettings()).read(3)
    alone = world.edit_many(
        [(plain.sample.source, plain.sample.instruction)], SAMPLING, seeds=[5 + 3000], num_images=3
    )[0]
    darkest = min(alone.images, key=lambda image: np.asarray(image).mean())
    assert np.array_equal(np.asarray(reads[3].sample.target), np.asarray(darkest))


def test_rows_below_the_least_score_are_refused(folder: Path, world: EditPipeline, tmp_path: Path) -> None:
    source = drawn(folder, world, least=9.9)
    problems = [read.problem for read in source.read() if read.number != 2]
    assert all("below 9.9" in problem for problem in problems) and len(problems) == 4


def test_a_cut_run_goes_on_with_the_same_draws(folder: Path, world: EditPipeline, tmp_path: Path) -> None:
    settings = PreparationSettings(area=world.vision.area, shard_rows=2, max_rejected=0.9)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    prepare_source(drawn(folder, world, least=0), whole, world.vision, settings)
    prepare_source(drawn(folder, world, least=0), cut, world.vision, settings.replace(limit=2))
    prepare_source(drawn(folder, world, least=0), cut, world.vision, settings)
    first, second = ([edit.target_codes for edit in load_shards(path)] for path in (whole, cut))
    assert len(first) == 4 and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_row_is_lost_while_the_judge_is_away(folder: Path, world: EditPipeline, tmp_path: Path) -> None:
    settings = PreparationSettings(area=world.vision.area, shard_rows=2, max_rejected=0.9)
    with pytest.raises(VerifierError, match=r"did not answer for 1 of 3 edits \(.*no answer\)"):
        prepare_source(drawn(folder, world, "Away", least=0), tmp_path / "out", world.vision, settings)
    prepare_source(drawn(folder, world, "Away", least=0), tmp_path / "out", world.vision, settings)
    assert [edit.id for edit in load_shards(tmp_path / "out")] == ["r0", "r1", "r3", "r4"]


def test_a_target_that_cannot_be_read_refuses_its_row_alone(folder: Path, world: EditPipeline) -> None:
    rows = [json.loads(line) for line in folder.read_text().splitlines()]
    rows = [row | {"target": "2.png" if row["id"] == "r3" else "0.png"} for row in rows]
    folder.write_text("\n".join(map(json.dumps, rows)))
    reads = {read.id: read for read in drawn(folder, world, least=0).read()}
    assert [id for id, read in reads.items() if read.sample is None] == ["r2", "r3"]
    assert "2.png" in reads["r3"].problem


def test_command_with_the_scene_verifier(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    line = ["prepare", "edits", str(folder), "-o", str(out), "--best-of", "2", "--verifier", "scene"]
    assert main([*line, "--least", "0", "--top-k", "0"]) == 0
    assert "each the best of 2 by scene" in capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["source"]["targets"] == "best of 2 edits of world"
    assert all(edit.has_target for edit in load_shards(out))


def test_what_is_held_back_is_the_share_of_every_command(
    folder: Path, world: EditPipeline, tmp_path: Path
) -> None:
    """The source's file decides, not the image that was drawn from; nothing is drawn for the others."""
    shares = PreparationSettings(area=world.vision.area, max_rejected=0.9, holdout_test=0.5)
    opened = open_source(str(folder), SourceSettings())
    kept = {read.id for read in opened.read() if on_side(read, shares, "train") and read.id != "r2"}
    assert 0 < len(kept) < 4
    judge = VerifierSettings(kind="test_targets:Darkest")
    source = DrawnTargets(opened, world, judge, TargetSettings(best_of=2, least=0), SAMPLING, shares)
    made = {read.id for read in source.read() if read.sample is not None and read.sample.target is not None}
    assert made == kept
    prepare_source(source, tmp_path / "out", world.vision, shares)
    assert {edit.id for edit in load_shards(tmp_path / "out")} == kept


def test_pairs_hold_the_codes_that_the_model_wrote(folder: Path, world: EditPipeline, tmp_path: Path) -> None:
    """Best and worst by darkness, with their own codes: encoding the images again gives others."""
    settings = PreparationSettings(area=world.vision.area, shard_rows=2, max_rejected=0.9)
    source = drawn(folder, world, least=0, pair_gap=0.01)
    prepare_source(source, tmp_path / "pairs", world.vision, settings)
    pairs = load_shards(tmp_path / "pairs")
    assert 1 <= len(pairs) <= 4 and pairs.without_pair() == 0
    for edit in pairs:
        number = int(edit.id.removeprefix("r"))
        (plain, *_) = open_source(str(folder), SourceSettings()).read(number)
        ask = [(plain.sample.source, plain.sample.instruction)]
        images = world.edit_many(ask, SAMPLING, seeds=[5 + 1000 * number], num_images=3)[0].images
        images = sorted(images, key=lambda image: np.asarray(image).mean())
        shown = world.vision.decode([edit.target_codes, edit.other_codes])
        for one, other in zip(shown, (images[0], images[-1]), strict=True):
            assert np.array_equal(np.asarray(one), np.asarray(other))
        assert np.array_equal(edit.changed, edit.target_codes != edit.source_codes)
        assert np.array_equal(edit.other_changed, edit.other_codes != edit.source_codes)


def test_rows_whose_edits_are_alike_give_no_pair(folder: Path, world: EditPipeline) -> None:
    problems = [read.problem for read in drawn(folder, world, least=0, pair_gap=9.9).read()]
    assert sum("points apart, less than 9.9" in problem for problem in problems) == 4
