"""`earl evaluate …` as a person runs it: a tiny model, a served verifier, two runs compared."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from earl.cli import main
from earl.evaluation.selfjudging import trained_by, warning
from earl.world.benchmark import WorldBenchmark

from .evaluation_parts import own_data

pytest.importorskip("httpx2")
pytest.importorskip("fastapi")
SCENE_VERIFIER = ("--verifier", "scene")


@pytest.fixture(scope="module")
def scene_url():
    from earl.service.http import served
    from earl.service.verifier import VerifierService
    from earl.world.verifier.scene import SceneVerifier

    with served(VerifierService(SceneVerifier()).app()) as url:
        yield url


def one_sentence(capsys, words, what):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1, said


def world_predictions(folder, wrong):
    """The targets of six tasks; the untouched source for those numbered in `wrong`."""
    folder.mkdir()
    for task in WorldBenchmark(num=6, seed=3).tasks():
        (task.source if task.number in wrong else task.target).save(folder / f"{task.key}.png")
    return folder


def test_the_world_over_http_two_runs_compared_table_and_page(tmp_path, scene_url, capsys):
    for name, wrong in (("good", (5,)), ("bad", (0, 1, 2, 3, 4, 5))):
        folder = world_predictions(tmp_path / f"{name}-images", wrong)
        words = ["evaluate", "world", "--num", "6", "--seed", "3", "--predictions", str(folder)]
        words += ["--name", name, "--verifier", "judge", "--judge-url", scene_url]
        words += ["--judge-timeout", "150", "--judge-deadline", "300", "-o", str(tmp_path / name)]
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert f"{name} on World, judged by earl-scene" in shown
        assert "all complex" in shown and "95%" in shown
    results = json.loads((tmp_path / "good" / "results.json").read_text())
    assert results["all"]["judged"] == 6
    assert results["all"]["scores"]["overall"]["mean"] > 7
    raw = [
        json.loads(line)["raw"] for line in (tmp_path / "good" / "verdicts.jsonl").read_text().splitlines()
    ]
    assert all("semantic" in text and "perceptual" in text for text in raw)
    file = tmp_path / "comparison.json"
    runs = [str(tmp_path / name) for name in ("good", "bad")]
    assert main(["evaluate", "compare", *runs, "--json", str(file)]) == 0
    comparison = json.loads(file.read_text())
    assert (comparison["all"]["win"], comparison["all"]["loss"]) == (5, 0)
    assert "good" in capsys.readouterr().out
    assert main(["report", runs[0], "--other", runs[1]]) == 0
    page = (tmp_path / "good" / "report.html").read_text()
    assert page.count('<article class="card"') == 6 and "A wins 5" in page
    assert main(["evaluate", "table", *runs, "-o", str(tmp_path / "table")]) == 0
    assert "OmniGen" in capsys.readouterr().out
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in rows[:2]] == ["good", "bad"]
    assert rows[0]["scores"]["World"]["mean"] == results["all"]["scores"]["overall"]["mean"]
    assert main(["evaluate", "table", *runs, "-o", str(tmp_path / "table")]) == 2  # not overwritten


def test_a_model_on_the_world_and_the_same_numbers_as_without_a_folder(model_folder, tmp_path, capsys):
    words = [
        "evaluate",
        "world",
        "--num",
        "3",
        "--seed",
        "1",
        "--model",
        str(model_folder),
        "--device",
        "cpu",
    ]
    assert main([*words, "--json", str(tmp_path / "plain.json")]) == 0
    assert main([*words, "-o", str(tmp_path / "run")]) == 0
    plain = json.loads((tmp_path / "plain.json").read_text())
    staged = json.loads((tmp_path / "run" / "results.json").read_text())
    for results in (plain, staged):
        results.pop("seconds")
    assert plain == staged
    assert staged["editor"]["name"] == str(model_folder)
    capsys.readouterr()
    before = (tmp_path / "run" / "edits.jsonl").read_text()
    assert main([*words, "-o", str(tmp_path / "run")]) == 0  # done already: nothing is made again
    assert (tmp_path / "run" / "edits.jsonl").read_text() == before
    one_sentence(capsys, [*words, "-o", str(tmp_path / "run"), "--greedy"], "greedy")


def test_guidance_of_a_run_is_fixed_and_shown(model_folder, tmp_path, capsys):
    words = ["evaluate", "world", "--num", "2", "--greedy", "--model", str(model_folder), "--device", "cpu"]
    led = [*words, "--guidance", "3", "--negative-instruction", "make it night"]
    assert main([*led, "-o", str(tmp_path / "led")]) == 0
    editor = json.loads((tmp_path / "led" / "evaluation.json").read_text())["editor"]
    assert (editor["guidance"], editor["negative_instruction"]) == (3.0, "make it night")
    assert main(["report", str(tmp_path / "led")]) == 0
    assert "guidance 3 away from" in (tmp_path / "led" / "report.html").read_text()
    capsys.readouterr()
    one_sentence(capsys, [*words, "-o", str(tmp_path / "led")], "editor guidance = 3.0, now it is None")
    assert main([*words, "-o", str(tmp_path / "plain")]) == 0
    editor = json.loads((tmp_path / "plain" / "evaluation.json").read_text())["editor"]
    assert not {"guidance", "negative_instruction", "max_text_tokens"} & set(editor)
    changed = [*words, "-o", str(tmp_path / "plain"), "--max-text-tokens", "9"]
    one_sentence(capsys, changed, "editor max_text_tokens = None, now it is 9")


def test_a_model_cut_off_between_batches_makes_the_same_images(model_folder, tmp_path):
    from earl.config import EvaluationSettings, SamplingSettings
    from earl.evaluation.editors import ModelEditor
    from earl.evaluation.run import evaluate
    from earl.pipeline import EditPipeline

    pipeline = EditPipeline.from_pretrained(model_folder, device="cpu")
    tasks = WorldBenchmark(num=5, seed=2)

    class CutOff(ModelEditor):
        def edit(self, batch):
            if batch[0][0].number >= 2:
                raise KeyboardInterrupt
            return super().edit(batch)

    def editor(kind=ModelEditor):
        return kind("tiny", lambda: pipeline, {"weights": "x"}, SamplingSettings(seed=7))

    evaluate(tmp_path / "whole", tasks, editor(), None, EvaluationSettings(until="edits", batch=5))
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "cut", tasks, editor(CutOff), None, EvaluationSettings(until="edits", batch=2))
    evaluate(tmp_path / "cut", tasks, editor(), None, EvaluationSettings(until="edits", batch=3))
    made = [sorted((tmp_path / name / "edits").glob("*.png")) for name in ("whole", "cut")]
    assert [path.name for path in made[0]] == [path.name for path in made[1]] and len(made[0]) == 5
    for first, second in zip(*made, strict=True):
        gap = np.asarray(Image.open(first), int) - np.asarray(Image.open(second), int)
        assert np.abs(gap).max() <= 1  # rounding


def test_a_benchmark_of_the_paper_with_a_model_and_best_of(model_folder, files, tmp_path, endpoint, capsys):
    path = files.write_parquet(files.rows_of("vismin-dev")[:2], tmp_path / "counting-00000-of-00001.parquet")

    def script(body):
        words = json.dumps(body)
        return 200, endpoint.completion(json.dumps({"score": [len(words) % 10, 8], "reasoning": "x"}))

    with endpoint.serving(script) as server:
        words = ["evaluate", "vismin", "--path", str(path), "-o", str(tmp_path / "run")]
        words += ["--model", str(model_folder), "--device", "cpu", "--judge-url", server.url]
        words += ["--best-of", "2", "--best-by", "judge", "--best-by-url", server.url]
        words += ["--metrics", "clip", "--clip-model", str(tmp_path / "none")]
        assert main(words) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["all"]["judged"] == 2
    assert list(results["families"]) == ["counting"]
    assert set(results["metrics"]) == {"psnr", "ssim", "l1"}
    assert "hf download" in results["not_measured"]["clip"]
    said = capsys.readouterr()
    assert "clip is left out" in said.out
    assert "also judges it: a best case" in said.err
    edits = [json.loads(line) for line in (tmp_path / "run" / "edits.jsonl").read_text().splitlines()]
    assert [len(edit["candidates"]) for edit in edits] == [2, 2]
    page = main(["report", str(tmp_path / "run")])
    assert page == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert "published" in text and 'class="here"' in text and "best of 2" in text


def test_own_data_with_the_judge_gone_and_back(tmp_path, endpoint, capsys):
    data = own_data(tmp_path / "data", 3)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for i in range(3):
        shutil.copy(data / f"{i}-after.png", theirs / f"t{i}.png")
    words = ["evaluate", str(data), "--predictions", str(theirs), "-o", str(tmp_path / "run"), "--judge-url"]
    one_sentence(capsys, [*words, "http://127.0.0.1:9/v1", "--judge-retries", "0"], "not ready")
    assert not (tmp_path / "run").exists()
    assert main([*words[:-1], "--until", "edits"]) == 0
    with endpoint.serving(
        lambda _: (200, endpoint.completion('{"score": [6, 7], "reasoning": ""}'))
    ) as server:
        assert main([*words, server.url]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["all"]["scores"]["overall"]["mean"] == 6.0
    assert results["verifier"]["model"] == "scripted"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["emu-edit"], "did you mean emuedit"),
        (["emuedit"], "--path"),
        (["no/such/folder"], "there is nothing at no/such/folder"),
        (["{data}", "--path", "x"], "--path"),
        (["{data}", *SCENE_VERIFIER, "--best-of", "3"], "--best-by"),
        (["{data}", *SCENE_VERIFIER, "--best-by", "scene"], "--best-of"),
        (
            ["{data}", *SCENE_VERIFIER, "--predictions", "{data}", "--best-of", "2", "--best-by", "scene"],
            "one a task",
        ),
        (["{data}", "--predictions", "no/such"], "no/such"),
        (["{data}"], "--judge-url"),
        (["world", "--best-of", "2"], "--best-by"),
        (["world", "--families", "colour"], "unknown edit family 'colour'"),
        (["emuedit", "--path", "{data}", "--families", "add"], "takes no --families"),
        (["world", "--until", "edits"], "--out FOLDER"),
        (["compare", "{data}", "{data}"], "evaluation.json"),
    ],
)
def test_mistakes_are_one_sentence(words, what, tmp_path, capsys):
    data = str(own_data(tmp_path / "data", 2))
    out = ["-o", str(tmp_path / "run")] if words[0] not in ("world", "compare") else []
    one_sentence(capsys, ["evaluate", *(word.format(data=data) for word in words), *out], what)
    assert not (tmp_path / "run").exists()


JUDGE = {"kind": "judge", "model": "m"}
SCENE = {"kind": "scene", "model": None}


@pytest.mark.parametrize(
    ("recipe", "answered", "verifier", "warned"),
    [
        (None, "", SCENE, False),
        ('kind = "scene"', "", SCENE, True),
        ('kind = "scene"', "", {"kind": "judge", "model": "earl-scene"}, True),
        ('kind = "scene"\n[verifier.second]\nkind = "judge"\njudge.model = "m"', "", JUDGE, False),
        ('kind = "judge"\njudge.model = "Owner/M"', "", JUDGE, True),
        ('kind = "judge"\njudge.model = "M"', "", {"kind": "reference", "model": "Other/m"}, True),
        ('kind = "judge"\njudge.model = "other"', "", JUDGE, False),
        ('kind = "judge"\njudge.url = "http://x"', "owner/m", JUDGE, True),
        ('kind = "judge"\njudge.url = "http://x"', "", {"kind": "judge", "model": None}, False),
        ('kind = "sum"\n[verifier.parts.a]\nkind = "judge"\njudge.model = "m"', "", JUDGE, True),
        (
            'kind = "sum"\n[verifier.parts.a]\nkind = "judge"\n[verifier.parts.b]\nkind = "scene"',
            "0.5 x a (m) + 0.5 x b (SceneVerifier)",
            JUDGE,
            True,
        ),
        ('kind = 3\njudge = "m"\nparts = 7', "", SCENE, False),
    ],
)
def test_a_model_judged_by_its_teacher_is_told(recipe, answered, verifier, warned, tmp_path):
    (tmp_path / "model").mkdir()
    if recipe:
        (tmp_path / "recipe.toml").write_text(f'stage = "grpo"\n[verifier]\n{recipe}\n')
    (tmp_path / "run.json").write_text(json.dumps({"starts": [{"verifier": answered}]}))
    assert bool(warning(tmp_path / "model", verifier)) == warned


@pytest.mark.parametrize(
    "content", ['{"verifier": {"kind": "judge", "model": "Owner/M"}}', "[1]", "{", '{"verifier": 3}']
)
def test_a_models_own_word_for_who_trained_it_counts(content, tmp_path):
    (tmp_path / "earl.json").write_text(content)
    assert trained_by(tmp_path) == (["m"] if "Owner" in content else [])


def test_an_evaluation_that_judged_nothing_fails(tmp_path, endpoint, capsys):
    data = own_data(tmp_path / "data", 2)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    shutil.copy(data / "0-after.png", theirs / "of-another-task.png")
    with endpoint.serving(lambda _: (200, endpoint.completion("{}"))) as server:
        words = ["evaluate", str(data), "--predictions", str(theirs), "--judge-url", server.url]
        assert main([*words, "-o", str(tmp_path / "run")]) == 1
    said = capsys.readouterr()
    assert "in no mean: 2 of 2, no image was given" in said.out


def test_the_command_prints_the_warning(model_folder, tmp_path, capsys):
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "recipe.toml").write_text('stage = "grpo"\n[verifier]\nkind = "scene"\n')
    words = ["evaluate", "world", "--num", "1", "--model", str(tmp_path / "model"), "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "run")]) == 0
    assert "warning: the scene verifier judges this model" in capsys.readouterr().err
