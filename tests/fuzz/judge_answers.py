"""Fuzzer of what judges answer: verdicts, refusals, drafts, hostile texts and damaged replies.

    python -m tests.fuzz.judge_answers --count 2000 --seed 0

Every answer is made from a seed of its own, which is printed with what went wrong. A verdict must be read
as its own scores, anything else must be unusable, and nothing may raise or take longer than `SECONDS`.
`--reader package.module:function` tries another reader of answers.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

SECONDS = 2.0  # for one answer; the machine may be busy
LONGEST = 100_000  # characters of a hostile answer

PROSE = (
    "Here is my evaluation.",
    "The car is red now, as asked.",
    "I compared both images carefully.",
    "The background has hardly changed.",
    "Hope this helps!",
)
REASONS = (
    "the sky is unchanged",
    'the sign says "STOP" now',
    "line one\nline two",
    "it moved from [1, 2] to [3, 4]",
    "a perfect edit would be score: [10, 10]",
    "it's the car's colour",
    "",
)
THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
)
NOTHING = (
    "I'm sorry, but I can't rate images of people on a scale of [{low}, {high}].",
    "Give two whole numbers in [{low}, {high}]. I can only see one image.",
    "I'm sorry, I can't compare the people in images [{a}, {b}].",
    "I cannot judge this. See policy [{a}, {b}].",
    "The car sits in the region [{a}, {b}] of the image; I need the second image to judge.",
    "On a score scale: [{low}, {high}], the edit cannot be assessed.",
    '{{"max_score": [{a}, {b}]}}',
    '{{"example": {{"score": [{a}, {b}]}}, "verdict": "cannot judge"}}',
    'The format is {{"score": [{a}, {b}]}} but I decline',
    '{{"score": [{a}, {b}]}} is the format, but I decline',
    'Please answer like {{"score": [{a}, {b}], "reasoning": "..."}} after you send both images.',
    "The max score is [{a}, {b}] but I see one image only.",
    "First I thought score: [{a}, {b}], then I saw the roof.",
    '{{"score": [{a}, ',
    '{{"score": [{a}, {b}',
    '{{"reasoning": "I would say',
    '{{"score": {a}, "reasoning": "x"}}',
    '{{"score": [{a}], "reasoning": "x"}}',
    '{{"score": [{a}, {b}, {a}], "reasoning": "x"}}',
    '{{"score": ["{a}/10", "{b}/10"], "reasoning": "x"}}',
    '{{"score": "[{a}, {b}]", "reasoning": "x"}}',
    '{{"scores": {{"success": {a}, "restraint": {b}}}}}',
    "Success: {a}/10. Restraint: {b}/10.",
    'The format is:\n```json\n{{"score": [{a}, {b}], "reasoning": "..."}}\n```\nPlease send both images.',
    'For example:\n{{"score": [{a}, {b}]}}',
    '{{"score": [{a}, {b}]}}\nWait, the roof changed too.',
    "{open}maybe score: [{a}, {b}]. Let me look at the roof",
    '{open}{{"score": [{a}, {b}]}}{close}',
    '{open}{{"score": [{a}, {b}]}} or so',
    '{{"score": [{a}, {b}], "reasoning": "I am sorry, but I cannot rate this image."}}',
    '{{"verdict": "cannot judge", "score": [{a}, {b}]}}',
    'If both images were here, I might say:\n{{"score": [{a}, {b}]}}',
    "These are the images:\n[{a}, {b}]",
    "Es tut mir leid, dieses Bild kann ich nicht bewerten.\n[{a}, {b}]",
    "对不起，我无法评估这张图片。\n[{a}, {b}]",
    '{{"error": "image missing", "score": [{a}, {b}]}}',
    '{{"status": "error", "score": [{a}, {b}]}}',
    '{{"score": [{a}, {b}], "final": false}}',
    '{{"score": [{a}, {b}], "reasoning": "No image was provided."}}',
    'Send both images. I will answer like this:\n{{"score": [{a}, {b}]}}',
    '{{"score": [{a}, {b}]}}\nHmm, no.',
    '{{"can_judge": false, "score": [{a}, {b}]}}',
    '{{"score": [{a}, {b}], "refused": true, "reasoning": "x"}}',
    'Lo siento, no puedo evaluar esta imagen.\n{{"score": [{a}, {b}]}}',
    "对不起，我无法评估这张图片。\nScore: [{a}, {b}]",
    '{{"score": [{a}, {b}], "reasoning": "Je ne peux pas évaluer ces images."}}',
    '{{"score": [{a}, {b}]}}\nFinal: 11 and 12',
    'Score: 11/12, 12/12\n{{"score": [{a}, {b}]}}',
    '{{"score": [{a}, {b}], "rating": [11, 12]}}',
    "{{'result': {{'score': [{a}, {b}], 'placeholder': True}}}}",
    "",
)
ATOMS = (
    *"[]{}\"',:\\\n \0\ufeff\ud800９1-.",
    *(
        "10",
        '{"a":',
        '{"score":[',
        "<think>",
        "</think>",
        "score",
        "score:",
        "[1, 2]",
        "**",
        "```",
        "because",
    ),
    *("because", "I can't "),
)


@dataclass(frozen=True)
class Case:
    """An answer and what must be read from it: `scores`, or None; anything where `free`."""

    kind: str
    answer: str
    scores: tuple[float, float] | None = None
    free: bool = False
    cut_off: bool = False


def make_case(seed: str) -> Case:
    """The answer of a seed."""
    rng = random.Random(seed)
    kind = rng.choice(("verdict", "verdict", "nothing", "differ", "hostile", "mutated"))
    if kind == "verdict":
        answer, scores = _verdict(rng)
        return Case(kind, answer, scores)
    if kind == "nothing":
        return Case(kind, _nothing(rng), cut_off=rng.random() < 0.2)
    if kind == "differ":
        (one, first), (other, second) = _verdict(rng, thought=False), _verdict(rng, thought=False)
        return Case(kind, f"{one}\n{other}", free=first == second)
    if kind == "hostile":
        atoms = rng.sample(ATOMS, rng.randint(1, 3))
        body = "".join(atoms) * (rng.choice((100, LONGEST)) // max(1, len("".join(atoms))))
        return Case(kind, rng.choice(ATOMS) + body[:LONGEST] + rng.choice(ATOMS), free=True)
    answer = list(_verdict(rng)[0] if rng.random() < 0.6 else _nothing(rng))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(answer) + 1)
        answer[at : at + rng.randint(0, 3)] = rng.choice(ATOMS)
    return Case(kind, "".join(answer), free=True, cut_off=rng.random() < 0.2)


def _verdict(rng: random.Random, *, thought: bool = True) -> tuple[str, tuple[float, float]]:
    scores = rng.choice((rng.randint(0, 10), rng.randint(0, 100) / 10)), float(rng.randint(0, 10))
    a, b = (f"{value:g}" for value in scores)
    listed = rng.choice((f"[{a}, {b}]", f"[{a},{b}]", f"[ {a} , {b} ]", f'["{a}", "{b}"]'))
    reason = rng.choice(REASONS)
    proper = json.dumps({"reasoning": reason})[1:-1]
    broken = f'"reasoning": "{reason}"'
    texts = [
        f'{{"score": {listed}, {proper}}}',
        f'{{{proper}, "score": {listed}}}',
        f'{{"Score": {listed}, {broken}}}',
        f'{{{broken}, "score": {listed}}}',
        f'{{"score": {listed[:-1]},], {proper},}}',
        f"{{'score': {listed}, 'reasoning': 'python style'}}",
        f'{{"result": {{"score": {listed}}}, {proper}}}',
        f'[{{"score": {listed}}}]',
        f'{{\n  "score": {listed},\n  {proper}\n}}',
        json.dumps({"confidence": 3, "score": list(scores), "objects": [1, 2]}),
    ]
    text = rng.choice(texts)
    lines = rng.random()
    if lines < 0.15:
        text = f"```json\n{text}\n```"
    elif lines < 0.25:
        text = f"<answer>{text}</answer>"
    elif lines < 0.35:
        text = f"Final answer: {text}"
    elif lines < 0.45 and not (scores[0] == 0 and scores[1] == 10):
        label = rng.choice(("Score: ", "**score:** ", "My final score is ", ""))
        before = rng.sample(PROSE[:-1], rng.randint(0, 2)) if label else []
        text = "\n".join([*before, label + listed])
        return _thought(rng, scores) + text if thought else text, scores
    text = "\n".join([*rng.sample(PROSE, rng.randint(0, 2)), text, *rng.sample(PROSE, rng.randint(0, 1))])
    return _thought(rng, scores) + text if thought else text, scores


def _thought(rng: random.Random, scores: tuple[float, float]) -> str:
    """A thought with drafts of other scores, or none."""
    if rng.random() < 0.6:
        return ""
    open_mark, close = rng.choice(THOUGHTS)
    drafts = f'maybe score: [{10 - scores[1]:g}, 1], or {{"score": [3, 4]}}\n[5, 5]\n'
    return f"{rng.choice((open_mark, open_mark, ''))}{drafts}{close}"


def _nothing(rng: random.Random) -> str:
    opened, closed = rng.choice(THOUGHTS)
    fields = {"a": rng.randint(0, 10), "b": rng.randint(0, 10), "low": 0, "high": 10}
    text = rng.choice(NOTHING).format(**fields, open=opened, close=closed)
    return " ".join([*rng.sample(PROSE, rng.randint(0, 1)), text])


def problem_of(case: Case, read: Callable[..., Any]) -> str:
    """What is wrong with how a case is read; "" where nothing is."""
    began = time.process_time()
    try:
        cut_off = case.cut_off and "cut_off" in signature(read).parameters
        reading = read(case.answer, **({"cut_off": True} if cut_off else {}))
    except Exception as error:  # whatever is raised is what we look for
        return f"raises {type(error).__name__}: {str(error)[:80]}"
    seconds = time.process_time() - began
    if seconds > SECONDS:
        return f"takes {seconds:.1f} s"
    if reading.scores is None:
        right = case.free or case.scores is None
        return "" if reading.problem and right else f"not read: {reading.problem}"
    if not all(0 <= score <= 10 for score in reading.scores) or len(reading.scores) != 2:
        return f"read as {reading.scores}"
    if reading.spans and any(
        float(case.answer[start:end]) != score
        for (start, end), score in zip(reading.spans, reading.scores, strict=True)
    ):
        return f"its spans do not hold {reading.scores}"
    return "" if case.free or reading.scores == case.scores else f"read as {reading.scores}"


def damaged_reply(seed: str) -> Any:
    """A chat completion in which some values were replaced."""
    rng = random.Random(seed)
    part = {"type": "text", "text": '{"score": [8, 9]}'}
    entry = {"token": "8", "logprob": -0.1, "bytes": [56], "top_logprobs": [{"token": "7", "logprob": -3.0}]}
    message = {"role": "assistant", "content": rng.choice([part["text"], [part], None]), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": [entry]}}
    reply: Any = {"id": "x", "choices": [choice], "error": None}
    odd = (
        None,
        True,
        0,
        -1,
        1e308,
        10**400,
        -(10**400),
        float("nan"),
        -math.inf,
        "",
        "x",
        [],
        [None],
        ["x"],
        {},
        {"content": ["x"]},
    )
    for _ in range(rng.randint(1, 4)):
        holders = list(_holders(reply))
        if not holders:
            return deepcopy(rng.choice(odd))
        holder, place = rng.choice(holders)
        holder[place] = deepcopy(rng.choice(odd))
    return reply if rng.random() < 0.95 else deepcopy(rng.choice(odd))


def _holders(value: Any) -> Iterator[tuple[Any, Any]]:
    places = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for place in places:
        yield value, place
        yield from _holders(value[place])


def reply_problem(reply: Any) -> str:
    """What is wrong with how a damaged reply is taken; "" where nothing is."""
    from earl.config import JudgeSettings
    from earl.endpoints.client import ChatClient
    from earl.errors import InvalidAnswerError
    from earl.verifiers.judge import Question, _read
    from earl.verifiers.question_sets import SEMANTIC

    client = ChatClient(JudgeSettings(url="http://127.0.0.1:9/v1", model="m"))
    try:
        for expected in (False, True):
            result = _read(Question("semantic"), SEMANTIC, client._answers(reply), expected)
            if not all(0 <= score <= 10 for scores in result.answers for score in scores):
                return f"read as {result.answers}"
    except InvalidAnswerError:
        return ""
    except Exception as error:  # whatever is raised is what we look for
        return f"raises {type(error).__name__}: {str(error)[:80]}"
    return ""


def fuzz(count: int, seed: int, reader: str = "earl.verifiers.answers:read_scores") -> list[str]:
    """One line for each of `count` answers (and as many replies) that is taken wrongly."""
    module, _, name = reader.partition(":")
    read = getattr(import_module(module), name)
    found = []
    for number in range(count):
        case = make_case(f"{seed}-{number}")
        if problem := problem_of(case, read):
            found.append(f"seed {seed}-{number} ({case.kind}): {problem}: {case.answer[:160]!r}")
        if module.startswith("earl.verifiers."):
            reply = damaged_reply(f"{seed}-{number}")
            if problem := reply_problem(reply):
                found.append(f"seed {seed}-{number} (reply): {problem}: {json.dumps(reply)[:300]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--reader", default="earl.verifiers.answers:read_scores")
    options = parser.parse_args()
    found = fuzz(options.count, options.seed, options.reader)
    print(*found, f"{len(found)} of {options.count} (seed {options.seed})", sep="\n")
    return min(1, len(found))


if __name__ == "__main__":
    sys.exit(main())
