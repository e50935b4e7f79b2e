"""Gradients smoothed over neighbours in the codebook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from earl.config.sections import Lora, SmoothingSettings
from earl.errors import ConfigError
from earl.policy.adapters import add_lora
from earl.policy.loading import create_policy, load_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.training import neighbour_smoothing
from earl.training.neighbour_smoothing import smooth_embeddings, smoothing_matrix, target_neighbours
from earl.training.sft.train import train_sft
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import save_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer

from .conftest import make_recipe, recipe_table


@pytest.fixture(scope="module")
def tokenizer(room: Path) -> TextTokenizer:
    return TextTokenizer.from_folder(room / "text")


def test_two_near_codes_and_one_far_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_smoothing, "_WIDTH", 1.0)
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [100.0, 0.0]])
    # One neighbour each: the unit is the median of 1, 1 and 99, the Gaussian at 1 is exp(-1/2) = e.
    # Code 2's neighbour is code 1, at exp(-99²/2) = 0.
    e = torch.exp(torch.tensor(-0.5)).item()
    expected = torch.tensor([[1, e, 0], [e, 1, 0], [0, 0, 1 + e]]) / (1 + e)
    monkeypatch.setattr(neighbour_smoothing, "_OWN", 0.0)
    plain = smoothing_matrix(codes, SmoothingSettings(neighbours=1)).to_dense()
    torch.testing.assert_close(plain, expected)
    monkeypatch.setattr(neighbour_smoothing, "_OWN", 0.5)
    mixed = smoothing_matrix(codes, SmoothingSettings(neighbours=1)).to_dense()
    torch.testing.assert_close(mixed, (expected + 0.5 * torch.eye(3)) / 1.5)


def test_neighbours_of_a_code_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_smoothing, "_WIDTH", 0.5)
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [100.0, 0.0]])
    assert target_neighbours(codes, SmoothingSettings(neighbours=1)) is None, "asked for by `targets`"
    kin = target_neighbours(codes, SmoothingSettings(neighbours=1, targets=0.7))
    assert kin is not None and kin.share == 0.7
    assert kin.ids_Kn.tolist() == [[0, 1], [1, 0], [2, 1]]
    torch.testing.assert_close(kin.weights_Kn[:2], torch.tensor([[0.0, -2.0], [0.0, -2.0]]))


def test_no_direction_is_made_larger() -> None:
    codes = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    kin = smoothing_matrix(codes, SmoothingSettings()).to_dense()
    torch.testing.assert_close(kin, kin.T)
    values = torch.linalg.eigvalsh(kin)
    assert values.max().item() == pytest.approx(1.0, abs=1e-5) and values.min() > -0.2
    near = torch.cdist(codes, codes) < 0.3
    assert kin[near].mean() > 20 * kin[~near].mean()


@pytest.mark.parametrize("tied", [True, False])
def test_visual_rows_get_their_neighbours_gradient(tokenizer: TextTokenizer, tied: bool) -> None:
    vocabulary = tokenizer.vocabulary
    ids = torch.randint(0, vocabulary.size, (2, 12), generator=torch.Generator().manual_seed(0))
    codes = torch.randn(vocabulary.codebook_size, 4, generator=torch.Generator().manual_seed(1))
    gradients = []
    for smoothing in (None, SmoothingSettings(neighbours=3)):
        policy = create_policy("tiny", vocabulary, 1)
        if tied:
            policy.lm_head.weight = policy.model.embed_tokens.weight
        assert (policy.lm_head.weight is policy.model.embed_tokens.weight) == tied
        if smoothing:
            smooth_embeddings(policy, codes, vocabulary.first_visual, smoothing)
        policy(input_ids=ids).logits.float().square().mean().backward()
        gradients.append((policy.model.embed_tokens.weight.grad, policy.lm_head.weight.grad))
    kin = smoothing_matrix(codes, SmoothingSettings(neighbours=3)).to_dense()
    first = vocabulary.first_visual
    for before, after in zip(*gradients, strict=True):
        torch.testing.assert_close(after[:first], before[:first])
        torch.testing.assert_close(after[first:], kin @ before[first:], rtol=1e-4, atol=1e-7)
        assert (after[first:] - before[first:]).abs().max() > 0


def test_frozen_embeddings_are_left_alone(tokenizer: TextTokenizer) -> None:
    policy = add_lora(create_policy("tiny", tokenizer.vocabulary, 1), 2, Lora().targets, alpha=2)
    codes = torch.randn(tokenizer.vocabulary.codebook_size, 4)
    smooth_embeddings(policy, codes, tokenizer.vocabulary.first_visual, SmoothingSettings())
    policy(input_ids=torch.arange(12)[None]).logits.float().square().mean().backward()


def test_a_recipe_asks_for_it(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table["neighbour_smoothing"] = {"neighbours": 4}
    with pytest.raises(ConfigError, match=r"\[neighbour_smoothing\] needs model\.vision_tokenizer"):
        train_sft(make_recipe(table))
    with pytest.raises(ConfigError, match=r"fsdp2.*\[neighbour_smoothing\]"):
        make_recipe(table | {"ranks": {"sharding": "fsdp2"}})
    vision = create_vision_tokenizer(seed=0, base_channels=32, channel_multiplier=(1, 1), codebook_size=64)
    save_vision_tokenizer(VisionTokenizer(vision, area=1024, codes_of="mean colour"), tmp_path / "vision")
    table["model"]["vision_tokenizer"] = str(tmp_path / "vision")
    table["length"]["max_steps"] = 2
    ends = []
    with pytest.raises(ConfigError, match=r"\[lora\].*neighbour_smoothing\.targets above 0"):
        make_recipe(table | {"lora": {"rank": 2}})
    for name, smoothing in (
        ("without", None),
        ("embeddings", {"neighbours": 4}),
        ("targets", {"neighbours": 4, "targets": 0.7}),
    ):
        run = table | {"run": table["run"] | {"folder": str(tmp_path / name)}}
        run["neighbour_smoothing"] = smoothing
        train_sft(make_recipe(run))
        ends.append(load_policy(tmp_path / name / "model"))
    without, *others = (end.model.embed_tokens.weight for end in ends)
    for moved in others:
        assert (moved - without).abs().max() > 1e-4
    log = [(tmp_path / name / "log.jsonl").read_text().splitlines()[0] for name in ("without", "targets")]
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[0] == losses[1], "the loss that is logged is that of the codes themselves"
