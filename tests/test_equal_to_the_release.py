"""Equal to what the release computed: `pytest -s tests/test_equal_to_the_release.py` prints the figures."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch
from PIL import Image
from tests.evaluation.test_as_released import ANSWERS, summary_of, verdict_of
from tests.sequence.conftest import INSTRUCTIONS, released_like_ranks, write_released_form
from tests.training.grpo.test_grpo_logprobs import golden, objective_of, released

from earl.config import JudgeSettings
from earl.config.grpo import LossSettings
from earl.records import Attempt
from earl.sequence.layout import write_completion, write_prompt
from earl.sequence.reasoning import join_chains
from earl.sequence.released import SPLIT_PATTERN
from earl.sequence.tokenizer import TextTokenizer
from earl.training.reference import Reference
from earl.verifiers.judge import JudgeVerifier, ReferenceVerifier
from earl.vision.images import grid_of, target_size
from earl.world.tasks import all_texts

VECTORS = Path(__file__).parent / "vectors"
SPECIAL = {  # of Emu3's tokenizer; visual tokens follow from 151854
    "<|endoftext|>": 151643,
    "<|extra_200|>": 151846,
    "<|extra_201|>": 151847,
    "<|extra_203|>": 151849,
    "<|extra_204|>": 151850,
    "<|image token|>": 151851,
    "<|image start|>": 151852,
    "<|image end|>": 151853,
} | {f"<|visual token {code:06d}|>": 151854 + code for code in range(64)}
QUESTIONS = """
_context_no_delimit = "rules"
_prompts_0shot_two_image_edit_rule = "two images"
_prompts_0shot_tie_rule_SC = "semantic <instruction>"
_prompts_0shot_rule_PQ = "quality"
"""


def told(what: str) -> None:
    print(f"\n{what}", end="")


def vector(name: str):
    return json.loads((VECTORS / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Ours in the released form, and `tiktoken` with the special tokens, which the release's code runs."""
    ranks = released_like_ranks(151_643)
    folder = write_released_form(tmp_path_factory.mktemp("released"), ranks, 32_768)
    theirs = tiktoken.Encoding("x", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens=SPECIAL)
    return TextTokenizer.from_folder(folder), lambda text: theirs.encode(text, allowed_special="all")


def image_text(codes_HW) -> str:
    """An image as the text that the release encodes."""
    height, width = codes_HW.shape
    rows = ["".join(f"<|visual token {code:06d}|>" for code in row) + "<|extra_200|>" for row in codes_HW]
    return f"<|image start|>{height}*{width}<|image token|>{''.join(rows)}<|extra_201|><|image end|>"


def test_grids_of_sixty_sizes():
    cases = vector("geometry.json")
    equal = 0
    for case in cases:
        size = target_size(case["width"], case["height"], case["area"], "release")
        grid = grid_of(size)
        equal += [list(size), [grid.width, grid.height]] == [case["resized"], case["latent"]]
    told(f"sizes and grids: {equal} of {len(cases)} equal")
    assert equal == len(cases) == 60


def test_prompt_ids(tokenizers):
    ours, theirs = tokenizers
    rng = np.random.default_rng(0)
    texts = sorted({*INSTRUCTIONS, *all_texts(rng, 100)})
    equal, ids = 0, 0
    for text in texts:
        codes = rng.integers(0, 64, rng.integers(1, 9, 2))
        expected = theirs(f"<|extra_203|>{image_text(codes)}{text}")
        equal += write_prompt(codes, text, ours) == expected
        ids += len(expected)
    told(f"prompts of clean instructions: {equal} of {len(texts)} equal, {ids:,} ids")
    assert equal == len(texts) > 60


def test_reasoning_ids(tokenizers):
    ours, theirs = tokenizers
    cases = vector("reasoning.json")["cases"]
    codes = np.arange(12).reshape(3, 4)
    equal = 0
    for case in cases:
        chains = {key: case["chains"][key] for key in case["keys"] if key in case["chains"]}
        expected = theirs(case["completion_before_image"] + image_text(codes) + "<|extra_204|>")
        equal += write_completion(codes, ours, join_chains(chains)) == expected
    told(f"completions with reasoning, encoded as one string: {equal} of {len(cases)} equal")
    assert equal == len(cases) == 5


def test_the_loss_with_released_settings():
    batch, _, numbers, vocabulary = golden()
    settings = LossSettings(kl_coefficient=numbers["kl_coefficient"], mirror_release=True)
    model = released("grpo_policy.safetensors")
    objective = objective_of(model, vocabulary, settings)
    losses = objective(replace(batch, reference_BT=Reference(released()).score(objective, [batch])[0]))
    loss = losses.total / batch.active
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    found = (("loss", loss, "loss_value"), ("gradient norm", norm, "grad_norm"))
    gaps = {name: abs(value.item() / numbers[key] - 1) for name, value, key in found}
    told("loss as released: " + ", ".join(f"{name} within {gap:.1e}" for name, gap in gaps.items()))
    assert max(gaps.values()) < 1e-4


def test_the_captured_judge_requests(tmp_path):
    pytest.importorskip("httpx2")
    from judge_endpoint import completion, serving

    sent = vector("judge_request.json")
    (tmp_path / "vie_prompts.py").write_text(QUESTIONS, "utf-8")
    (tmp_path / "reference.txt").write_text("compare for <instruction>", "utf-8")
    (tmp_path / "system.txt").write_text("be strict", "utf-8")
    colours = {"source": "red", "edited": "green", "target": "blue"}
    images = {name: Image.new("RGB", (40, 24), colour) for name, colour in colours.items()}
    attempt = Attempt(images["source"], "paint it", images["edited"], images["target"])

    def shown(image):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")  # quality 75 is Pillow's own
        return buffer.getvalue()

    parts = {shown(image): name for name, image in images.items()}

    def fields(body):
        """A request in the vector's words."""
        content = body["messages"][-1]["content"]
        named = ["text" if part["type"] == "text" else parts[decoded(part)] for part in content]
        roles = [message["role"] for message in body["messages"]]
        limits = {"max_tokens": body["max_tokens"], "temperature": body.get("temperature")}
        return {"roles": roles, "parts": named, **limits}, set(body) - {"model", "messages", *limits}

    def decoded(part):
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64" and set(part["image_url"]) == {"url"}
        return base64.b64decode(data)

    with serving(lambda _: (200, completion('{"score": [7, 9]} <score>7</score>'))) as endpoint:
        settings = JudgeSettings(url=endpoint.url, model="m", protocol="viescore", prompts=str(tmp_path))
        for kind in (JudgeVerifier, ReferenceVerifier):
            asyncio.run(kind(settings).judge([attempt]))
        captured = [fields(body) for body in endpoint.asked]
    wanted = {name: sent[name] for name in ("semantic_consistency", "perceptual_quality", "ground")}
    wanted["ground"] = {key: value for key, value in wanted["ground"].items() if key != "answer"}
    assert not any(more for _, more in captured), "no other field is sent"
    equal = [name for name, request in wanted.items() if request in [found for found, _ in captured]]
    told(f"judge requests, captured: {len(equal)} of {len(wanted)} equal ({', '.join(equal)})")
    assert equal == list(wanted) and all(found in wanted.values() for found, _ in captured)


def test_viescore_of_thirty_answers():
    verdicts = [verdict_of(semantic, perceptual) for semantic, perceptual, _ in ANSWERS]
    usable = [score for *_, score in ANSWERS if score is not None]
    expected = {"exclude": sum(usable) / len(usable), "as-released": sum(usable) / len(ANSWERS)}
    for failures, mean in expected.items():
        found = summary_of(verdicts, failures).overall.mean
        told(f"VIEScore of {len(ANSWERS)} answers, failures {failures}: {found:.6f}, by hand {mean:.6f}")
        assert found == pytest.approx(mean, abs=1e-9)
