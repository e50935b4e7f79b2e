"""Schedule, optimisers, averages, early stop, streams: small parts with hand-computed answers."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from earl.config.recipe import check
from earl.config.sections import Ema, Optimiser, Precision, Schedule
from earl.config.stages import SftRecipe
from earl.errors import ConfigError, MissingExtraError, OutputError
from earl.progress import Progress
from earl.training import ranks
from earl.training.early_stopping import EarlyStop
from earl.training.ema import WeightAverage
from earl.training.log import Log
from earl.training.muon import Muon
from earl.training.optimisers import create_optimisers, rate_factor, set_rates
from earl.training.parts import count_steps
from earl.training.random_streams import derive_seed, restore_torch, seed_torch, torch_state
from earl.training.tensors import load_optimiser_tensors, optimiser_tensors


def test_cosine_by_hand() -> None:
    schedule = Schedule(warmup_steps=10, minimum=1e-5)
    factors = {
        step: rate_factor(schedule, step, total_steps=110, peak=1e-4) for step in (1, 5, 10, 60, 110, 500)
    }
    assert factors[1] == 0.1 and factors[5] == 0.5 and factors[10] == 1.0
    assert factors[60] == pytest.approx(0.1 + 0.9 / 2)  # half way down
    assert factors[110] == factors[500] == pytest.approx(0.1)
    quarter = rate_factor(schedule, 35, total_steps=110, peak=1e-4)
    assert quarter == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)


def test_a_warm_up_longer_than_the_run_is_told() -> None:
    """`max_epochs` of few data are few updates, all of them at a low rate."""
    table = {
        "stage": "sft",
        "run": {"folder": "x"},
        "length": {"max_epochs": 10},
        "batch": {"global_size": 16, "micro_size": 8},
        "optimiser": {"learning_rate": 1e-3},
        "schedule": {"warmup_steps": 10},
        "model": {"start": "world"},
        "data": {"sources": {"own": {"path": "x"}}},
    }
    recipe = check(SftRecipe, table)
    assert count_steps(recipe, 16) == 10 and count_steps(recipe, 1000) == 625
    with pytest.raises(ConfigError, match=r"warmup_steps = 10, and length\.max_epochs = 10 .* are 9 updates"):
        count_steps(recipe, 15)


def test_constant_after_the_warm_up() -> None:
    constant = Schedule(name="constant", warmup_steps=2)
    assert [rate_factor(constant, s, total_steps=9, peak=1.0) for s in (1, 2, 3, 9)] == [0.5, 1, 1, 1]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(5, 16)
        self.hidden = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.lm_head = nn.Linear(16, 5, bias=False)
        self.frozen = nn.Linear(16, 16)
        self.frozen.requires_grad_(False)


@pytest.mark.parametrize(("native", "expected"), [(True, [False, True, True]), (False, [False, True, False])])
def test_auto_is_what_the_device_computes_in(native: bool, expected: list[bool], monkeypatch) -> None:
    monkeypatch.setattr(ranks, "native_bf16", lambda device: native)
    cpu = torch.device("cpu")
    ways = [Precision(compute=way) for way in ("float32", "bf16", "auto")]
    assert [ranks.computes_in_bf16(way, cpu) for way in ways] == expected
    one = torch.ones(2, 2)
    for way, half in zip(ways, expected, strict=True):
        with ranks.autocast(way, cpu):
            assert ((one @ one).dtype == torch.bfloat16) == half
    assert Precision().compute == "auto"


def test_muon_takes_hidden_matrices_only() -> None:
    torch.manual_seed(0)
    model = Small()
    settings = Optimiser(name="muon", learning_rate=0.01, muon_learning_rate=0.02, weight_decay=0.1)
    adam, muon = create_optimisers(model.named_parameters(), settings)
    assert isinstance(muon, Muon)
    assert [p is model.hidden.weight for p in muon.param_groups[0]["params"]] == [True]
    decay = {id(p): group["weight_decay"] for group in adam.param_groups for p in group["params"]}
    assert decay[id(model.lm_head.weight)] == 0.1 and decay[id(model.norm.weight)] == 0.0
    assert id(model.frozen.weight) not in decay
    set_rates([adam, muon], 0.5)
    assert adam.param_groups[0]["lr"] == 0.005 and muon.param_groups[0]["lr"] == 0.01


def test_optimiser_state_survives_flattening() -> None:
    torch.manual_seed(0)
    settings = Optimiser(name="muon", learning_rate=0.01, muon_learning_rate=0.02)
    models = [Small(), Small()]
    models[1].load_state_dict(models[0].state_dict())
    names = [{p: n for n, p in m.named_parameters() if p.requires_grad} for m in models]
    sets = [create_optimisers(m.named_parameters(), settings) for m in models]

    def step(index: int) -> None:
        model = models[index]
        loss = model.lm_head(model.norm(model.hidden(model.embed_tokens(torch.arange(5))))).square().sum()
        loss.backward()
        for optimiser in sets[index]:
            optimiser.step()
            optimiser.zero_grad()

    for _ in range(3):
        step(0)
    tensors, rest = optimiser_tensors(sets[0], names[0])
    json.dumps(rest)
    models[1].load_state_dict(models[0].state_dict())
    load_optimiser_tensors(sets[1], names[1], {k: v.clone() for k, v in tensors.items()}, rest)
    step(0), step(1)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_average_by_hand_and_swap() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, Ema(decay=0.75))
    with torch.no_grad():
        model.weight.fill_(3.0)
    average.update(99)
    with average.applied():
        assert model.weight.item() == 0.75 * 1 + 0.25 * 3
    assert model.weight.item() == 3.0
    early = WeightAverage(model, Ema(decay=0.9999))
    with torch.no_grad():
        model.weight.fill_(5.0)
    early.update(1)  # decay at most 2 / 11
    assert early.shadow["weight"].item() == pytest.approx(3 * 2 / 11 + 5 * 9 / 11)


def test_early_stop_counts_and_resumes() -> None:
    stopper = EarlyStop(patience=2)
    found = [stopper.update(v, s) for s, v in enumerate([1.0, 1.0, 0.8, 0.85, math.nan], 1)]
    assert found == [True, False, True, False, False]
    assert stopper.should_stop and stopper.best_step == 3
    again = EarlyStop(patience=3)
    again.load_state_dict(json.loads(json.dumps(stopper.state_dict())))
    assert (again.best, again.waited, again.should_stop) == (0.8, 2, False)
    fresh = EarlyStop()
    fresh.load_state_dict(json.loads(json.dumps(EarlyStop().state_dict())))
    assert fresh.best == math.inf


def test_seeds_are_independent_and_random_generators_resume() -> None:
    assert derive_seed(1, "a", 2) == derive_seed(1, "a", 2) != derive_seed(1, "a", 3)
    seed_torch(5)
    first = torch.rand(3)
    state = json.loads(json.dumps(torch_state()))
    expected = torch.rand(2)
    seed_torch(5, rank=1)
    assert not torch.equal(torch.rand(3), first)
    restore_torch(state)
    assert torch.equal(torch.rand(2), expected)


def test_a_log_that_cannot_be_written_is_refused_as_it_opens(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/no/where")
    with pytest.raises(OutputError, match=r"log\.jsonl"):
        Log(tmp_path, total_steps=1, tracker="none").open(0)


def test_log_drops_what_a_killed_run_wrote_past_the_checkpoint(tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    log = Log(tmp_path, total_steps=9, tracker="none", progress=progress)
    log.open(0)
    for step in (1, 2, 3):
        log.record(step, {"loss": 1 / step, "broken": math.nan})
    with (tmp_path / "log.jsonl").open("a", encoding="latin-1") as file:
        file.write('[1]\n\xff\n{"step": 4, "lo')
    log = Log(tmp_path, total_steps=9, tracker="none", progress=progress)
    log.open(2)
    log.record(3, {"loss": 7.0})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3] and lines[2]["loss"] == 7.0
    assert lines[0]["broken"] is None
    assert f"2 lines of {tmp_path / 'log.jsonl'} could not be read" in stream.getvalue()
    silent = Log(tmp_path / "none", total_steps=9, active=False)
    silent.open(0)
    silent.record(1, {"loss": 1.0})
    assert not (tmp_path / "none").exists()


def test_a_terminal_of_80_columns_shows_step_and_reward_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    log = Log(tmp_path, total_steps=9, tracker="none", title="grpo", progress=Progress(stream))
    log.open(0)
    log.step(1)
    others = {f"a_long_name_of_a_number_{i}": 100.0 + i for i in range(12)}
    log.record(2, {**others, "loss": 0.25, "reward": 7.5})
    log.step(3)  # between records the bar moves and the last numbers stay
    log.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    last = shown[shown.rindex("grpo") :]
    assert re.match(r"grpo 3/9 +reward 7.5 ", last), last
    assert all(f"{name} {value:.4g}" in re.sub(r"\s+", " ", last) for name, value in others.items()), last
    assert "loss 0.25" in last and "…" not in last
    assert max(len(line.rstrip()) for line in last.splitlines()) <= 80


@pytest.mark.parametrize("module", ["wandb", "trackio"])
def test_a_hosted_tracker_gets_numbers_images_and_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    called: list[tuple[str, dict[str, object]]] = []
    stub = types.SimpleNamespace(
        init=lambda **given: called.append(("init", given)),
        log=lambda values, step: called.append(("log", {"step": step, **values})),
        Image=lambda image: ("an image", image.size),
        finish=lambda: called.append(("finish", {})),
    )
    monkeypatch.setitem(sys.modules, module, stub)
    names = []
    (tmp_path / "a run").mkdir()
    for start in (0, 2):  # begun, then gone on with
        log = Log(
            tmp_path / "a run",
            total_steps=9,
            tracker=module,
            project="edits",
            progress=Progress(io.StringIO()),
        )
        log.open(start, {"stage": "sft"})
        log.record(start + 1, {"loss": 0.5}, split="validation")
        log.image("edits", start + 1, Image.new("RGB", (16, 8)))
        log.close()
        (first, init), *rest = called
        assert first == "init" and init["project"] == "edits" and init["config"] == {"stage": "sft"}
        assert init["resume"] == "allow" and str(init["name"]).startswith("a run-")
        assert rest == [
            ("log", {"step": start + 1, "validation/loss": 0.5}),
            ("log", {"step": start + 1, "edits": ("an image", (16, 8))}),
            ("finish", {}),
        ]
        names.append((init["name"], init.get("id")))
        called.clear()
    assert names[0] == names[1] and (module == "trackio") == (names[0][1] is None)


def test_a_tracker_that_is_not_installed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        Log(tmp_path, total_steps=9, tracker="wandb", progress=Progress(io.StringIO())).open(0)
