"""A whole model folder of the smallest size, with random weights, for tests that need one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

AREA = 64 * 64
CODES = 64

SLOW = {  # files that train, serve, or start and kill processes: left out of `make test-fast`
    "test_distributed.py",
    "test_evaluate_commands.py",
    "test_grpo_faults.py",
    "test_grpo_http.py",
    "test_grpo_kills.py",
    "test_grpo_prompts.py",
    "test_grpo_runs.py",
    "test_grpo_sharded.py",
    "test_kill.py",
    "test_kill_commands.py",
    "test_ranks.py",
    "test_reason_kills.py",
    "test_serve_command.py",
    "test_served_verifier.py",
    "test_sharded_stage.py",
    "test_training_chain.py",
    "test_without_world.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW or item.path.parent.name == "sft":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """Policy, text tokenizer and vision tokenizer that belong together; they edit nothing well."""
    from earl.policy.loading import create_policy
    from earl.policy.saving import save_policy
    from earl.sequence.trained import train_text_tokenizer
    from earl.vision.creating import create_vision_tokenizer
    from earl.vision.loading import save_vision_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny"
    texts = [
        "make the red cube blue",
        "add a green sphere",
        "remove the cone",
        "change the background to snow",
    ]
    tokenizer = train_text_tokenizer(texts, size=320, codebook_size=CODES)
    save_policy(create_policy("tiny", tokenizer.vocabulary, seed=0), folder / "policy")
    tokenizer.save(folder)
    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=CODES), folder / "vision", area=AREA)
    meta = {"format": 1, "area": AREA, "vocabulary": tokenizer.vocabulary.to_dict(), "origin": "a test"}
    (folder / "earl.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder
