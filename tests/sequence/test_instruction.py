"""Ends of an instruction that cannot be seen: gone wherever an instruction comes in."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import source_files as files

from earl.data.sources.opening import open_source
from earl.data.sources.own import read_instructions
from earl.errors import InstructionError
from earl.jobs import read_jobs
from earl.sequence.instruction import check_instruction
from earl.sequence.layout import write_prompt
from earl.service.questions import read_question, read_request
from earl.verifiers.questions import load_prompts

WORDS = "make\u00a0it \u200bnight"  # what stands between words stays
ENDS = ["\ufeff", "\u00a0 ", "\u200b", "\u2060\u200e", " \u200d\n\u00ad", "\u3000\ufeff\t"]


@pytest.fixture(params=ENDS, ids=ascii)
def unseen(request) -> str:
    return request.param + WORDS + request.param


def test_the_same_ids(small, unseen: str) -> None:
    codes = np.zeros((2, 2), np.int32)
    assert write_prompt(codes, unseen, small) == write_prompt(codes, WORDS, small)
    assert check_instruction(unseen) == WORDS


def test_the_same_jobs_and_rows(tmp_path: Path, unseen: str) -> None:
    files.own_folder(tmp_path, 1, instruction=unseen)
    assert [read.sample.instruction for read in open_source(str(tmp_path)).read()] == [WORDS]
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"image": "0.png", "instruction": [unseen, "x"]}))
    assert read_jobs([tmp_path / "jobs.jsonl"], [])[0].instructions == (WORDS, "x")
    (tmp_path / "words.jsonl").write_text(json.dumps({"id": "a", "instruction": unseen}))
    assert read_instructions(tmp_path / "words.jsonl") == {"a": WORDS}


@pytest.mark.parametrize("ours", [True, False])
def test_the_same_question(unseen: str, ours: bool) -> None:
    prompts = load_prompts(None, needed=["semantic"])
    data = base64.b64encode(files.png(files.picture(0))).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    parts: list[object] = (
        list(prompts.parts("semantic", unseen))
        if ours
        else [None, None, f"Instruction: {unseen}".replace("\n", "")]
    )
    content = [{"type": "text", "text": part} if isinstance(part, str) else image for part in parts]
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    asked = read_question(read_request(body), prompts, 10**6, lambda count: None)
    assert asked.instruction == WORDS and asked.known == ours


@pytest.mark.parametrize("nothing", ["\ufeff", "\u200b\u200d", " \u00ad\n"])
def test_what_shows_nothing_is_empty(small, nothing: str) -> None:
    for refuse in (check_instruction, lambda text: write_prompt(np.zeros((2, 2), np.int32), text, small)):
        with pytest.raises(InstructionError, match="is empty"):
            refuse(nothing)
