"""The fault table, through to training: each fault of a judge's endpoint, seldom and always.

Seldom: the rollout leaves its group, and training goes on. Always: the step waits, asks again, then
stops with a sentence and a checkpoint. Which status each fault gives is in `tests/verifier`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from earl.errors import ConfigError, Interrupted, TrainingError
from earl.records import Attempt, Verdict
from earl.training import checkpoint
from earl.training.grpo.train import train_grpo

from .tiny import Bright, MeanColour, make_recipe, recipe_table, records

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

GOOD = '{"score": [7, 8]}'
Fault = Callable[[Any], tuple[int, Any]]


def answers(text: str) -> Fault:
    return lambda endpoint: (200, completion(text))


FAULTS: dict[str, tuple[Fault, str]] = {
    "hanging": (lambda endpoint: endpoint.closing.wait(120) and (200, completion(GOOD)), "unreachable"),
    "429": (lambda endpoint: (429, {"error": {"message": "slow down"}}), "unreachable"),
    "500": (lambda endpoint: (500, {"error": {"message": "broken"}}), "unreachable"),
    "cut-off JSON": (answers('{"score": [7,'), "unusable"),
    "prose": (answers("A lovely picture."), "unusable"),
    "one score": (answers('{"score": [7]}'), "unusable"),
    "three scores": (answers('{"score": [7, 8, 9]}'), "unusable"),
    "11": (answers('{"score": [11, 8]}'), "unusable"),
    "-1": (answers('{"score": [-1, 8]}'), "unusable"),
    "NaN": (answers('{"score": [NaN, 8]}'), "unusable"),
    "empty": (answers(""), "unusable"),
}


def table_of(room: Path, folder: Path, url: str, *, timeout: float = 60.0, **judge: Any) -> dict[str, Any]:
    """One step of 2 prompts x 4 rollouts, judged at an endpoint."""
    table = recipe_table(room, folder)
    table |= {"length": {"max_steps": 1}, "batch": {"global_size": 8, "micro_size": 8}}
    asked = {"url": url, "retries": 0, "timeout": timeout, "concurrency": 8} | judge
    return table | {"verifier": {"kind": "judge", "judge": asked}}


def train(table: dict[str, Any], verifier: Any = None) -> None:
    train_grpo(make_recipe(table), verifier, vision=MeanColour())


@pytest.mark.parametrize("name", FAULTS)
def test_a_seldom_fault_costs_one_rollout(name: str, room: Path, tmp_path: Path) -> None:
    fault, _ = FAULTS[name]
    asked: list[int] = []

    def script(body: dict) -> tuple[int, Any]:
        with endpoint.lock:
            asked.append(1)
            first = len(asked) == 1
        return fault(endpoint) if first else (200, completion(GOOD))

    with serving(script) as endpoint:
        train(table_of(room, tmp_path, endpoint.url, timeout=3.0 if name == "hanging" else 60.0))
    line = records(tmp_path)[0]
    assert line["failed"] == 1 / 8 and line["groups"] == 2 and line["dropped_groups"] == 0
    assert line["edit_success"] == 7 and line["over_editing"] == 8, "nothing was made of the fault"
    assert (tmp_path / "model" / "earl.json").is_file()


@pytest.mark.parametrize("name", FAULTS)
def test_a_lasting_fault_stops_with_a_sentence_and_a_checkpoint(
    name: str, room: Path, tmp_path: Path
) -> None:
    fault, status = FAULTS[name]
    with serving(lambda body: fault(endpoint)) as endpoint:
        table = table_of(room, tmp_path, endpoint.url, timeout=0.2 if name == "hanging" else 60.0)
        table["judging"] = {"wait": 0.0, "retries": 1}
        with pytest.raises(
            TrainingError, match=rf"step 1: 8 of 8 .*2 times \(last: {status}.*step 0 is saved"
        ):
            train(table)
        if name != "hanging":  # on a busy machine some of these give up before they are sent
            assert len(endpoint.asked) == 2 * 2 * 8, "two questions an edit, asked once more"
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "checkpoints")] == ["step-00000000"]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("summed", [False, True])
def test_an_endpoint_that_refuses_the_question_is_not_asked_again(
    status: int, summed: bool, room: Path, tmp_path: Path
) -> None:
    """A verifier of another kind behind the address, say: no waiting, one sentence, a checkpoint."""
    refusal = {"error": {"message": "this verifier answers another question"}}
    with serving(lambda body: (status, refusal)) as endpoint:
        table = table_of(room, tmp_path, endpoint.url)
        table["judging"] = {"wait": 60.0, "retries": 5}
        if summed:
            parts = {"one": {**table["verifier"], "weight": 1.0}}
            table["verifier"] = {"kind": "sum", "parts": parts | {"two": {**parts["one"], "weight": 0.5}}}
        said = rf"8 of 8 .*asked once .*HTTP {status}.*answers another.*refuses every one.*step 0 is saved"
        with pytest.raises(TrainingError, match=said):
            train(table)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "checkpoints")] == ["step-00000000"]


def test_429_then_fine_is_waited_out_by_the_client(room: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def script(body: dict) -> tuple[int, Any]:
        with endpoint.lock:
            asked.append(1)
            early = len(asked) <= 6
        return (429, {"error": {"message": "later"}}) if early else (200, completion(GOOD))

    with serving(script) as endpoint:
        train(table_of(room, tmp_path, endpoint.url, retries=8))
    assert records(tmp_path)[0]["failed"] == 0.0 and len(asked) == 16 + 6


def test_an_endpoint_that_goes_away_stops_and_its_return_continues(room: Path, tmp_path: Path) -> None:
    """Refused connections: the health check passes, then nobody listens any more."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        table = table_of(room, tmp_path, gone, model="m")
        table["judging"] = {"wait": 0.0, "retries": 1}

        from earl.verifiers.factory import make_verifier

        class Checked:
            """The recipe's judge, whose health check was passed before the endpoint went away."""

            judge = staticmethod(make_verifier(make_recipe(table).verifier).judge)

        with pytest.raises(TrainingError, match=r"unreachable: .*step 0 is saved"):
            train_grpo(make_recipe(table), Checked(), vision=MeanColour())
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        train(table_of(room, tmp_path, endpoint.url, model="m"))
    assert [line["step"] for line in records(tmp_path)] == [1]


def test_a_signal_while_held_out_prompts_are_judged_costs_no_step(room: Path, tmp_path: Path) -> None:
    """The step that they follow is saved, and they are looked at when the run goes on."""

    class Silent(Bright):
        async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
            if self.calls == 2 + 3 * 4:  # before the first step, and three steps
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(600)
            return await super().judge(attempts)

    table = recipe_table(room, tmp_path)
    table |= {"validation": {"every": 3}, "heldout": {"prompts": 2}, "checkpoint": {"every": 100}}
    with pytest.raises(Interrupted, match=r"in step 4; step 3 is saved in .*goes on from there"):
        train(table, Silent())
    train(table, Bright())
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in records(tmp_path, "validation")] == [0, 3, 6]


def test_waiting_may_change_in_a_run_and_rewards_may_not(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path) | {"length": {"max_steps": 1}}
    train(table, Bright())
    table["judging"] |= {"wait": 1.0, "retries": 1, "failed_share": 0.5, "deadline": 9.0}
    train(table, Bright())
    table["judging"]["undecodable_reward"] = 0.0
    with pytest.raises(ConfigError, match=r"judging\.undecodable_reward = 0\.0, .* made without it"):
        train(table, Bright())


def test_a_mistake_in_a_verifier_costs_no_step(room: Path, tmp_path: Path, capsys: Any) -> None:
    class Mistaken(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            return super().verdict(attempt) if self.calls <= 3 * 4 else {}["score"]  # type: ignore[return-value]

    table = recipe_table(room, tmp_path) | {"checkpoint": {"every": 100}}
    with pytest.raises(KeyError, match="score"):
        train(table, Mistaken())
    assert "step 3 is saved" in capsys.readouterr().err
    train(table, Bright())
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
