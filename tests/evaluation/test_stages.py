"""The stages: what is written, what resumes, what is never averaged as 0."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from PIL import Image

from earl.config import EvaluationSettings
from earl.errors import ConfigError, DataError, OutputError, VerifierError
from earl.evaluation.editors import PredictionsEditor
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.run import Judging, evaluate
from earl.evaluation.tables import score_table
from earl.models.weight_files import fingerprint
from earl.records import Verdict
from earl.store import only_one

from .evaluation_parts import Brightness, Inverter, judging, own_benchmark, run

UNTIL_EDITS, UNTIL_VERDICTS = (EvaluationSettings(until=stage) for stage in ("edits", "verdicts"))


class Darkness(Brightness):
    """Likes dark pictures."""

    async def _one(self, attempt):
        verdict = await super()._one(attempt)
        if not verdict.ok:
            return verdict
        value = 10 - verdict.edit_success
        return Verdict("ok", value, value, 10.0, 10.0)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_images_verdicts_and_tables(tmp_path):
    results = run(tmp_path)
    folder = tmp_path / "run"
    edits, verdicts = lines(folder / "edits.jsonl"), lines(folder / "verdicts.jsonl")
    assert [edit["id"] for edit in edits] == [f"t{i}" for i in range(6)]
    assert {verdict["key"] for verdict in verdicts} == {edit["key"] for edit in edits}
    assert Image.open(folder / "edits" / "t2.png").getpixel((0, 0)) == (215, 215, 215)
    brightness = [(255 - 20 * i) / 25.5 for i in range(6)]
    expected = [min(b, 10) ** 0.5 * 3 for b in brightness]  # SC = brightness, PQ = 9
    assert results.all.overall.mean == pytest.approx(sum(expected) / 6, abs=1e-3)
    assert results.families["odd"].overall.mean == pytest.approx(sum(expected[1::2]) / 3, abs=1e-3)
    assert results.groups["simple"].n == 3
    assert results.metrics["l1"].mean == pytest.approx(0, abs=1e-6)  # the target is the inverse
    assert all(verdict["raw"].startswith("seen") for verdict in verdicts)
    for name in ("results.json", "table.md", "table.tex", "table.csv"):
        assert (folder / name).stat().st_size > 100


def test_what_has_no_score_is_counted_and_in_no_mean(tmp_path):
    editor = Inverter(no_image=["t0"])
    results = run(tmp_path, editor=editor, verifier=Brightness(fails=["invert 1"]))
    everything = results.all
    assert (everything.n, everything.judged, everything.no_image) == (6, 5, 1)
    assert everything.left_out == {"unusable": 1}
    without = [((255 - 20 * i) / 25.5) ** 0.5 * 3 for i in (2, 3, 4, 5)]
    assert everything.overall.mean == pytest.approx(
        sum(without) / 5, abs=1e-3
    )  # t0 counts as 0, t1 not at all
    shown = score_table(results).text()
    assert "edits without an image: 1; they count as 0" in shown
    assert "in no mean: 1 of 6, the verifier's answer could not be used" in shown


def test_nothing_judged_is_a_dash(tmp_path):
    results = run(tmp_path, verifier=Brightness(fails=[f"invert {i}" for i in range(6)]))
    assert results.all.overall is None
    assert results.all.left_out == {"unusable": 6}
    assert "-" in score_table(results).text().splitlines()[-6]


def test_done_stages_do_nothing(tmp_path):
    first = run(tmp_path)
    editor, verifier = Inverter(), Brightness()
    assert run(tmp_path, editor=editor, verifier=verifier) == first
    assert (editor.made, verifier.asked) == ([], [])


def test_a_group_that_was_cut_off_is_computed_as_a_whole_and_kept_in_part(tmp_path):
    """Rounding depends on what is computed together, so a resumed group has the company it had."""
    run(tmp_path)
    ledger = tmp_path / "run" / "edits.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:3]))
    (tmp_path / "run" / "edits.done").unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "edits").glob("*.png")}
    editor = Inverter()
    run(tmp_path, editor=editor, batch=2)  # groups 0-1, 2-3, 4-5: the first is whole
    assert editor.made == ["t2", "t3", "t4", "t5"]
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "edits").glob("*.png")}
    assert [name for name in sorted(now) if now[name] == kept[name]] == ["t0.png", "t1.png", "t2.png"]
    assert len(ledger.read_text().splitlines()) == 6


def test_stages_one_by_one(tmp_path):
    benchmark = own_benchmark(tmp_path / "data")
    assert evaluate(tmp_path / "run", benchmark, Inverter(), None, UNTIL_EDITS) is None
    assert not (tmp_path / "run" / "verdicts.jsonl").exists()
    assert evaluate(tmp_path / "run", benchmark, Inverter(), judging(), UNTIL_VERDICTS) is None
    assert not (tmp_path / "run" / "results.json").exists()
    editor = Inverter()
    assert evaluate(tmp_path / "run", benchmark, editor, judging()).all.judged == 6
    assert editor.made == []


def test_a_row_that_cannot_be_read_is_counted(tmp_path):
    own_benchmark(tmp_path / "data")
    (tmp_path / "data" / "3.png").write_bytes(b"no image")
    (tmp_path / "data" / "4.png").unlink()
    from earl.evaluation.benchmark import open_benchmark

    results = evaluate(tmp_path / "run", open_benchmark(str(tmp_path / "data")), Inverter(), judging())
    assert results.all.left_out == {"unreadable": 2}
    assert results.all.judged == 4
    problems = [e["problem"] for e in lines(tmp_path / "run" / "edits.jsonl") if e.get("problem")]
    assert len(problems) == 2 and "3.png" in problems[0]


def test_a_verifier_that_is_gone_stops_the_run_and_comes_back(tmp_path):
    gone = Brightness(fails=[f"invert {i}" for i in range(4, 40)], status="unreachable")
    with pytest.raises(VerifierError, match="run the same command again"):
        run(tmp_path, verifier=gone, count=20)
    kept = [v for v in lines(tmp_path / "run" / "verdicts.jsonl") if v["status"] == "ok"]
    assert len(kept) == 4
    back = Brightness()
    results = run(tmp_path, verifier=back, count=20)
    assert results.all.judged == 20
    assert len(back.asked) == 16
    assert len(lines(tmp_path / "run" / "verdicts.jsonl")) == 20


def test_unusable_answers_are_asked_again_on_request_only(tmp_path):
    run(tmp_path, verifier=Brightness(fails=["invert 2"]))
    second = Brightness()
    assert run(tmp_path, verifier=second).all.judged == 5
    assert second.asked == []
    results = run(tmp_path, verifier=second, ask_again=True)
    assert second.asked == ["t2"]
    assert results.all.judged == 6


@pytest.mark.parametrize("what", ["benchmark", "editor", "verifier"])
def test_another_plan_is_refused_and_nothing_is_lost(tmp_path, what):
    run(tmp_path)
    before = (tmp_path / "run" / "edits.jsonl").read_text()
    benchmark, editor, judge = own_benchmark(tmp_path / "data"), Inverter(), judging()
    if what == "benchmark":
        benchmark._fixed["split"] = "other"
    elif what == "editor":
        editor.name = "other"
    else:
        judge = Judging(Brightness(), {"kind": "judge", "model": "other"})
    with pytest.raises(ConfigError, match="other"):
        evaluate(tmp_path / "run", benchmark, editor, judge)
    assert (tmp_path / "run" / "edits.jsonl").read_text() == before


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="another folder"):
        run(tmp_path)
    with pytest.raises(DataError, match=r"evaluation\.json"):
        EvaluationFolder(tmp_path / "run")


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    run(tmp_path)
    folder = EvaluationFolder(tmp_path / "run")
    with only_one(folder.path), pytest.raises(OutputError, match="another process"):
        run(tmp_path)


def test_a_image_that_is_gone_is_a_sentence(tmp_path):
    benchmark = own_benchmark(tmp_path / "data")
    evaluate(tmp_path / "run", benchmark, Inverter(), None, UNTIL_EDITS)
    (tmp_path / "run" / "edits" / "t1.png").unlink()
    with pytest.raises(DataError, match=r"t1\.png is missing"):
        evaluate(tmp_path / "run", benchmark, Inverter(), judging())


def test_best_of_keeps_what_the_chooser_likes(tmp_path):
    editor = Inverter(candidates=3)  # the first candidate is the brightest
    darkest = Darkness()
    chooser = Judging(darkest, {"kind": "scene", "model": None})
    results = run(tmp_path, editor=editor, chooser=chooser)
    edits = lines(tmp_path / "run" / "edits.jsonl")
    assert [edit["chosen"] for edit in edits] == [2] * 6
    assert [edit["seed"] for edit in edits] == [3 * i + 2 for i in range(6)]
    assert all(len(edit["candidates"]) == 3 for edit in edits)
    plain = run(tmp_path, "plain")
    assert results.all.overall.mean < plain.all.overall.mean
    assert results.editor["chosen_by"] == {"kind": "scene", "model": None}


def test_best_of_without_an_answer_stops(tmp_path):
    fails = [f"invert {i}" for i in range(6)]
    chooser = Judging(Brightness(fails=fails, status="unreachable"), {"kind": "judge"})
    with pytest.raises(VerifierError, match="best of several"):
        run(tmp_path, editor=Inverter(candidates=2), chooser=chooser)
    assert not (tmp_path / "run" / "edits.jsonl").exists()


def predictions(folder, **pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for name, level in pictures.items():
        Image.new("RGB", (80, 80), (level,) * 3).save(folder / f"{name}.png")
    return folder


def test_two_tasks_of_one_key_are_refused(tmp_path):
    """One would take the other's place, and its score that of both."""
    benchmark = own_benchmark(tmp_path / "data")
    tasks = list(benchmark.tasks())
    benchmark.tasks = lambda: iter([*tasks, replace(tasks[0], number=6)])
    with pytest.raises(ConfigError, match="two tasks of the key 't0'"):
        evaluate(tmp_path / "run", benchmark, Inverter(), judging(), EvaluationSettings(batch=2))


def test_images_made_elsewhere(tmp_path):
    folder = predictions(tmp_path / "theirs", t0=255, t1=0, t3=128)
    editor = PredictionsEditor(folder, area=1024)
    results = run(tmp_path, editor=editor)
    assert results.all.left_out == {"missing": 3}
    assert results.all.judged == 3
    assert results.editor["name"] == "theirs"
    assert Image.open(tmp_path / "run" / "edits" / "t0.png").size == (32, 32)  # the area that was asked for
    older = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    older["editor"]["files"] = older["editor"]["files"].partition(".")[0]  # names alone
    for plan in (None, older):
        if plan:
            (tmp_path / "run" / "evaluation.json").write_text(json.dumps(plan))
        assert run(tmp_path, editor=PredictionsEditor(folder, area=1024)).all.judged == 3
    run(tmp_path, "new", editor=editor)
    predictions(folder, t0=254)
    with pytest.raises(ConfigError, match="other images of this name, or of these before they changed"):
        run(tmp_path, "new", editor=PredictionsEditor(folder, area=1024))


def test_a_list_of_predictions_may_say_that_there_is_no_image(tmp_path):
    folder = predictions(tmp_path / "theirs", one=255)
    rows = [{"id": "t0", "image": "one.png"}, {"id": "t1", "image": None}, {"id": "t2", "image": "gone.png"}]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = run(tmp_path, editor=PredictionsEditor(folder))
    assert results.all.no_image == 1
    assert results.all.judged == 2
    assert results.all.left_out == {"missing": 4}


def test_the_edits_of_an_evaluation_are_judged_anew(tmp_path):
    run(tmp_path, editor=Inverter(no_image=["t5"]))
    editor = PredictionsEditor(tmp_path / "run", area=1024)
    again = Judging(Darkness(fails=["invert 5"]), {"kind": "judge", "model": "darkness"})
    results = evaluate(tmp_path / "again", own_benchmark(tmp_path / "data"), editor, again, UNTIL_VERDICTS)
    assert results is None
    folders = [EvaluationFolder(tmp_path / name) for name in ("run", "again")]
    for edit in folders[0].edits:
        if edit.edited:
            first, second = (f.image(f.edits[edit.key].edited) for f in folders)
            assert first.tobytes() == second.tobytes()
    assert folders[1].edits["t5"].state == "no_image"


@pytest.mark.parametrize("content", ["", "{}", '{"id": "a"}', "[1]"])
def test_predictions_that_are_none(tmp_path, content):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "predictions.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"predictions\.jsonl"):
        PredictionsEditor(tmp_path / "p")
    with pytest.raises(DataError, match="no folder"):
        PredictionsEditor(tmp_path / "q")


def test_weights_that_changed_in_the_middle_have_another_fingerprint(tmp_path):
    """The ends, which earlier versions noted alone, are equal."""
    weights = bytearray(3 * 2**20)
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = fingerprint(tmp_path)
    ends = f"model.safetensors {len(weights)}\n".encode() + bytes(2 * 2**20)
    assert before.split(".")[0] == hashlib.blake2b(ends, digest_size=8).hexdigest()
    weights[len(weights) // 2] = 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    after = fingerprint(tmp_path)
    assert after != before and after.split(".")[0] == before.split(".")[0]
    begun = {"benchmark": {"name": "b", "title": "b"}, "editor": {"name": "x"}, "verifier": None}
    pair = f"{before}-{before}"

    def plan(weights):
        return {**begun, "editor": {"name": "x", "weights": weights}}

    for noted, folder in ((pair, "new"), (pair.replace(f".{before.split('.')[1]}", ""), "older")):
        EvaluationFolder.start(tmp_path / folder, plan(noted))
        EvaluationFolder.start(tmp_path / folder, plan(pair))
    with pytest.raises(ConfigError, match="was begun with editor weights"):
        EvaluationFolder.start(tmp_path / "new", plan(f"{after}-{before}"))
