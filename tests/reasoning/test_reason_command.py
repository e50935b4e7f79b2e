"""`earl reason make` as it is typed, with a tiny real vision tokenizer."""

from __future__ import annotations

import pytest
import source_files as files
from judge_endpoint import completion, serving
from reasoning_set import chain

from earl.cli import main
from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.sequence.layout import parse_completion
from earl.sequence.trained import train_text_tokenizer

CHAIN = chain(region=[[10, 10, 90, 60]])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    from earl.vision.creating import create_vision_tokenizer
    from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer

    folder = tmp_path_factory.mktemp("reason")
    for name, seed in (("vision", 0), ("other", 1)):
        save_vision_tokenizer(create_vision_tokenizer(seed=seed, codebook_size=32), folder / name, area=1024)
    files.own_folder(folder / "own", 3)
    eyes = load_vision_tokenizer(folder / "vision", device="cpu")
    prepare_source(open_source(str(folder / "own")), folder / "in", eyes, PreparationSettings(area=96 * 64))
    return folder


def test_from_codes_and_from_the_source_to_a_training_example(place, tmp_path, capsys):
    from earl.data.examples import edit_example

    words = train_text_tokenizer(["The image shows a wall. 1. 2. 3."], size=300, codebook_size=32)
    with serving(lambda body: (200, completion(CHAIN))) as endpoint:
        for name, more in (
            ("codes", ["--vision", str(place / "vision"), "--device", "cpu"]),
            ("images", ["--source", str(place / "own")]),
        ):
            out = tmp_path / name
            typed = [
                "reason",
                "make",
                str(place / "in"),
                "-o",
                str(out),
                "--writer-url",
                endpoint.url,
                "--side",
                "96",
            ]
            assert main([*typed, *more]) == 0
            said = capsys.readouterr().out
            assert "3 edits with reasoning by scripted" in said and "3 questions asked" in said
            shards = load_shards(out)
            assert len(shards) == 3
            for edit in shards:
                assert "region: [10, 10, 90, 60] change:" in edit.reasoning
                example = edit_example(edit, words, prefill="reasoning")
                start = example.prefix + len(words.encode(edit.instruction))
                back = parse_completion(example.ids[start:].tolist(), words)
                assert back.reasoning == edit.reasoning and back.codes is not None
            assert main([*typed, *more]) == 0  # again: all of it is there
            assert "0 questions asked" in capsys.readouterr().out


def test_a_smaller_limit_says_that_all_was_kept(place, tmp_path, capsys):
    typed = ["reason", "make", str(place / "in"), "-o", str(tmp_path / "out"), "--side", "96"]
    typed += ["--source", str(place / "own")]
    with serving(lambda body: (200, completion(CHAIN))) as endpoint:
        typed += ["--writer-url", endpoint.url]
        assert main([*typed, "--limit", "2"]) == 0
        said = capsys.readouterr().out
        assert "2 edits with reasoning" in said and "kept" not in said
        assert main([*typed, "--limit", "1"]) == 0
        said = capsys.readouterr().out
        assert "held 2 edits before, more than --limit 1; all stay" in said
        assert "0 questions asked" in said
        assert main(typed) == 0
        assert "3 edits with reasoning by scripted" in capsys.readouterr().out
        assert len(endpoint.asked) == 3


def test_mistakes_are_one_sentence(place, tmp_path, capsys):
    typed = [
        "reason",
        "make",
        str(place / "in"),
        "-o",
        str(tmp_path / "out"),
        "--writer-url",
        "http://127.0.0.1:9/v1",
    ]
    for more, said in (
        ([], "which images is the model to see"),
        (["--vision", str(place / "other"), "--device", "cpu"], "give the one that prepared them"),
        (
            ["--source", str(place / "own"), "--writer-retries", "0"],
            "the model at http://127.0.0.1:9/v1 is not ready",
        ),
        (["--source", str(place / "own"), "--writer-prompts", str(tmp_path)], "has no reasoning.txt"),
    ):
        assert main([*typed, *more]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
