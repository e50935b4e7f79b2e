"""The page of a run: whole by itself, from folders in every state, and its charts' arithmetic."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.cli import main
from earl.errors import DataError
from earl.pages.charts import Chart, Series, draw, ticks
from earl.pages.curves import ends, sections
from earl.pages.rendering import axis_numbers
from earl.pages.run import write_run_page
from earl.pages.run_record import read_run
from earl.pages.smoothing import smooth, thinned
from earl.records import Attempt, Completion, Verdict
from earl.training.grpo.batches import Group, Rollout
from earl.training.grpo.strips import Shown, StripWriter, strip

RECIPE = 'stage = "grpo"\ntitle = "A <run>"\n[run]\nseed = 3\n[length]\nmax_steps = 60\n'
STARTS = {"at": "2026-11-21T09:00:00+00:00", "step": 0, "verifier": "earl-scene", "ranks": 1, "device": "cpu"}
STARTS |= {"versions": {"torch": "2.13.0"}, "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 7.5}}


def shown(key: str, seed: int, count: int) -> Shown:
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)) for _ in range(count + 2)]
    attempts = [
        Attempt(pictures[0], "paint it <b>", picture, pictures[-1], key=key) for picture in pictures[1:-1]
    ]
    verdicts = [Verdict("ok", 8.0, 7.0, 6.0, 9.0, why="close")] * (count - 1)
    verdicts.append(Verdict("unusable", raw="no idea"))
    rollouts = tuple(
        Rollout(Completion((1,), (0.0,), "stop"), np.zeros(1, np.int8), verdict, verdict.overall)
        for verdict in verdicts
    )
    return Shown(Group(key, "paint it <b>", "color", "simple", (1, 2), rollouts), attempts)


def test_the_page_of_a_run_shows_no_secret_of_an_address(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "recipe.toml").open("a") as file:
        file.write('\n[verifier.judge]\nurl = "https://user:passphrase@host/v1?key=query-secret"\n')
    page = write_run_page(run, tmp_path / "page.html").read_text()
    assert "https://host/v1" in page and "passphrase" not in page and "query-secret" not in page


def make_run(folder: Path, steps: int = 60) -> Path:
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "run.json").write_text(json.dumps({"starts": [STARTS]}))
    rng = np.random.default_rng(0)
    lines = []
    for step in range(0, steps + 1):
        values = {"reward": 3 + step / steps, "edit_success": 4.0, "kl": step / 1e4, "zero_variance": 0.2}
        values |= {f"seconds_{name}": 1.0 for name in ("sampling", "decoding", "judging", "updating")}
        values |= {"seconds_per_step": 4.0, "strange": float(rng.random())}
        if step:
            lines.append({"step": step, "split": "train", **values})
        if step % 20 == 0:
            second = 2.5 if step else None
            lines.append(
                {"step": step, "split": "validation", "overall": 3.0, "second": second, "drift": 0.1}
            )
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 61, "spl'
    )
    book = StripWriter(folder)
    book.write(20, [shown("a", 0, 4)])
    for step in (0, 20):
        book.write(step, [shown("h", step, 2)], prefix="heldout-")
    return folder


def test_lines_and_samples_that_cannot_be_read_are_left_out(tmp_path):
    run = make_run(tmp_path / "run", steps=3)
    before = read_run(run)
    odd = [
        "[" * 9999,
        "[1]",
        "null",
        '{"step": Infinity}',
        '{"step": "x"}',
        '{"step": ' + "9" * 5000 + "}",
        "\0",
    ]
    with (run / "log.jsonl").open("a") as file:
        file.write("\n" + "\n".join(odd))
    for number, text in enumerate(odd):
        (run / "strips" / f"{number}.json").write_text(text)
    after = read_run(run)
    assert after.log == before.log and after.samples == before.samples
    for text in odd:
        (run / "run.json").write_text(text)
        assert read_run(run).starts == ()


def test_a_page_of_records_with_other_things_in_their_places(tmp_path):
    run = make_run(tmp_path / "run", steps=3)
    with (run / "log.jsonl").open("a") as file:
        for odd in ("NaN", "Infinity", "-1e308", '"x"', "[1]", "{}"):
            file.write(f'\n{{"step": 2, "split": "train", "reward": {odd}, "seconds_per_step": {odd}}}')
        file.write('\n{"step": 1e300, "split": "train", "reward": 1}')
    starts = [5, None, {"at": 7, "versions": [1], "machine": "x"}, {"machine": {"memory_gib": "x"}}]
    (run / "run.json").write_text(json.dumps({"starts": starts}))
    for recipe in (b"\xff\xfe", b"run=[1]\nlength=3\n", b'[length]\nmax_steps="x"\n', b""):
        (run / "recipe.toml").write_bytes(recipe)
        assert "<svg" in write_run_page(run, tmp_path / "page.html").read_text()
    assert max(step for step, _ in read_run(run).series("train", "kl")) == 3


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    VOID = frozenset({"meta", "img", "br", "link", "line", "circle", "path", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_page_has_everything_and_needs_nothing(tmp_path):
    run = make_run(tmp_path / "run")
    text = write_run_page(run, tmp_path / "page.html").read_text()
    found = Balanced()
    found.feed(text)
    assert not found.open
    assert found.seen["svg"] >= 7
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\((?!data:)|@import|https?://""", text)
    for words in ("Two verifiers", "Where the time went", "Groups that teach nothing", "strange", "unusable"):
        assert words in text
    for words in (
        "A &lt;run&gt;",
        "paint it &lt;b&gt;",
        "a processor",
        "torch 2.13.0",
        "seed 3",
        "earl-scene",
    ):
        assert words in text
    assert "<b>]" not in text and "paint it <b>" not in text, "what is not ours is escaped"
    assert "3.06 → 3.96" in text, "means of the first and the last tenth"
    assert "sampling 25%" in text


def test_a_run_without_a_second_verifier_has_no_chart_of_two(tmp_path):
    run = make_run(tmp_path / "run")
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()[:-1]]
    log.write_text("".join(json.dumps({k: v for k, v in x.items() if k != "second"}) + "\n" for x in lines))
    text = write_run_page(run, tmp_path / "page.html").read_text()
    assert "Two verifiers" not in text and "Prompts never trained on" in text
    assert "begun 2026-11-21 09:00 UTC" in text and "verifiers of the sum" not in text


def test_a_sum_shows_what_each_verifier_said(tmp_path):
    run = make_run(tmp_path / "run", steps=20)
    log = run / "log.jsonl"
    said = {f"{who}.{name}": 5.0 for who in ("world", "target") for name in ("overall", "edit_success")}
    said |= {"world.failed": 0.0, "target.failed": 0.25}
    lines = [json.loads(line) | said for line in log.read_text().splitlines()[:-1]]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    titles = [chart.title for charts in sections(read_run(run)).values() for chart in charts]
    for title in ("The verifiers of the sum", "target: its four scores, held out", "Who gave no scores"):
        assert titles.count(title) == 1
    assert not any("." in title for title in titles), "no number is drawn a second time by itself"
    assert ">target</span>" not in (text := write_run_page(run, tmp_path / "p.html").read_text())
    assert "target<b>5</b>" in text and "target<b>0.25</b>" in text


def test_the_images_are_on_the_page(tmp_path):
    run = make_run(tmp_path / "run")
    text = write_run_page(run, tmp_path / "page.html").read_text()
    assert text.count('<figure class="group">') == 1
    assert text.count('class="shot"') == (2 + 2) + (4 + 2)  # source, two steps, target; the group of four
    record = read_run(run)
    assert [step.step for step in record.heldout] == [0, 20] and len(record.samples) == 1
    strip_file = run / "strips" / record.samples[0].groups[0]["strip"]
    assert Image.open(strip_file).size == (24 * 6, 16)


def test_strips_are_made_smaller_and_grey_where_nothing_is():
    big = Image.new("RGB", (256, 128), "red")
    row = strip([Attempt(big, "x", None, None), Attempt(big, "x", big, None)])
    assert row.size == (4 * 128, 64)
    colours = [row.getpixel((128 * column + 64, 32)) for column in range(4)]
    assert colours == [(255, 0, 0), (128, 128, 128), (255, 0, 0), (128, 128, 128)]


def test_a_killed_runs_log_counts_each_step_once(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "log.jsonl").open("a") as file:
        file.write('\n{"step": 60, "split": "train", "reward": 9.0}\n')
    record = read_run(run)
    assert len(record.series("train", "reward")) == 60
    assert record.series("train", "reward")[-1] == (60.0, 9.0)
    assert record.step == 60 and record.total == 60


@pytest.mark.parametrize("stage", ["sft", "tokenizer"])
def test_other_stages_have_a_page_too(tmp_path, stage):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.toml").write_text(f'stage = "{stage}"\n[length]\nmax_epochs = 2.0\n')
    lines = [
        {"step": s, "split": "train", "loss": 1 / s, "visual": 0.5, "psnr": 20.0 + s} for s in range(1, 4)
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images" / "sheet-00000003.png")
    text = write_run_page(folder, tmp_path / "page.html").read_text()
    assert "1 → 0.333" in text and "Loss by kind" in text and "psnr" in text and "sheet-00000003" in text
    assert "no run.json" in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "is no folder"),
        (lambda folder: folder.mkdir(), "no log.jsonl"),
        (lambda folder: (folder.mkdir(), (folder / "log.jsonl").write_text("cut {")), "no line"),
    ],
)
def test_folders_that_are_no_run(tmp_path, make, words, capsys):
    make(tmp_path / "run")
    with pytest.raises(DataError, match=words):
        read_run(tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_the_command(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert main(["report", str(run)]) == 0  # its own page is made anew
    assert "report.html" in capsys.readouterr().out
    other = tmp_path / "mine.html"
    other.write_text("precious")
    assert main(["report", str(run), "--out", str(other)]) == 2
    assert other.read_text() == "precious" and "--force" in capsys.readouterr().err
    assert main(["report", str(run), "--out", str(other), "--force"]) == 0
    assert other.read_text() == (run / "report.html").read_text()


# --- charts ---


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3.02, 3.11), (-2, 1500), (1e-6, 4e-6)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low <= value <= high for value in found)
    assert len({round(b - a, 12) for a, b in itertools.pairwise(found)}) == 1


def test_an_axis_writes_its_numbers_in_one_way():
    assert axis_numbers([0, 5e-5, 1e-4, 1.5e-4, 2e-4]) == ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]
    assert axis_numbers([0, 5e-4, 1e-3]) == ["0", "5e-4", "1e-3"]
    assert axis_numbers([0, 0.005, 0.01]) == ["0", "0.005", "0.01"]
    assert axis_numbers([-2000.0, 0.0, 12000.0]) == ["-2000", "0", "1.2e4"]


def test_a_schedule_is_drawn_as_it_is():
    points = [(float(x), min(1.0, x / 5)) for x in range(60)]
    exact, faint = (draw(Chart("x", "", [Series("a", points, 0)], exact=e)) for e in (True, False))
    assert [path.kind for path in exact.paths] == ["line"]
    assert [path.kind for path in faint.paths] == ["faint", "line"]


def test_smoothing_keeps_straight_lines_and_thinning_the_ends():
    line = [(float(x), 2.0 * x) for x in range(50)]
    for window in (1, 9, 80):
        assert [x for x, _ in smooth(line, window)] == [x for x, _ in line]
        assert [y for _, y in smooth(line, window)] == pytest.approx([y for _, y in line])
    noisy = [(float(x), float(x % 2)) for x in range(50)] + [(50.0, 9.0)]
    assert smooth(noisy, 9)[25][1] == pytest.approx(0.5, abs=0.06)
    assert smooth(noisy, 9)[-1][1] < 4, "the last point alone does not end the line"
    assert all(0 <= value <= 9 for _, value in smooth(noisy, 9))
    assert smooth([(0.0, 3.0)], 9) == [(0.0, 3.0)]
    kept = thinned(line, 7)
    assert len(kept) == 7 and kept[0] == line[0] and kept[-1] == line[-1]
    assert ends(line) == (4.0, 94.0) and ends([]) is None


@pytest.mark.parametrize("points", [[(5.0, 1.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, -1e9), (2.0, 1e9)]])
def test_charts_of_odd_curves_stay_in_their_frame(points):
    drawn = draw(Chart("x", "", [Series("a", points, 0)]))
    places = [tuple(map(float, place.split())) for place in drawn.paths[0].d[1:].split("L")]
    assert len(places) == len(points)
    assert all(drawn.left <= x <= drawn.right and drawn.top <= y <= drawn.bottom for x, y in places)
