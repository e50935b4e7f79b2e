"""Seeded fuzzer of recipes, as dry runs: one sentence for each, or a recipe whose needs are counted.

The whole run is marked `long`; a seed of one's own is given by EARL_FUZZ_SEED, and is printed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import tomllib
from tests.fuzz.strange import TEXTS, bounded, cut, damage, seeded, strange

from earl.config.recipe import check
from earl.config.stages import STAGES, DryRunSettings, load_stage
from earl.errors import EarlError
from earl.training.dry_run import dry_run

ROOT = Path(__file__).parents[2]
COUNTS = [200, pytest.param(8000, marks=pytest.mark.long)]
HUGE = (2147483647, 2**53, 10**9, 65537, 3, 0)


@pytest.fixture(scope="module")
def recipes() -> list[dict[str, Any]]:
    tables = [tomllib.loads(path.read_text()) for path in sorted((ROOT / "recipes").rglob("*.toml"))]
    return [table for table in tables if table.get("stage") in STAGES]


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The dotted names of a recipe's values."""
    found: list[tuple[str, ...]] = []
    for name, value in table.items():
        found += leaves(value, (*path, name)) if isinstance(value, dict) else [(*path, name)]
    return found


def override(draw: random.Random, table: dict[str, Any]) -> str:
    key = ".".join(draw.choice(leaves(table)))
    value = draw.choice((strange(draw), draw.choice(HUGE), draw.choice(TEXTS), "[" * 2000, "9" * 5000))
    shown = value if isinstance(value, str) and draw.random() < 0.7 else json.dumps(value)
    return draw.choice(
        (f"{key}={shown}", f"{key}.x={shown}", f"{key}", f"={shown}", f"{key}=", f"{shown}={key}")
    )


def planned(draw: random.Random, table: dict[str, Any], path: Path) -> list[str]:
    """The lines of a dry run of a spoilt recipe: its table, its file, or what is laid over it."""
    how = draw.random()
    if how < 0.5:
        spoilt = damage(draw, table)
        recipe = check(STAGES[table["stage"]], spoilt if isinstance(spoilt, dict) else {"stage": spoilt})
    elif how < 0.6:
        path.write_bytes(cut(draw, tomli_w.dumps(table).encode()))
        recipe = load_stage(path)
    else:
        path.write_text(tomli_w.dumps(table))
        recipe = load_stage(path, [override(draw, table) for _ in range(draw.randint(1, 2))])
    return list(dry_run(recipe, DryRunSettings(memory=draw.choice((None, "80GiB", "1KiB")))))


@pytest.mark.parametrize("count", COUNTS)
def test_recipes(count: int, recipes: list[dict[str, Any]], tmp_path: Path) -> None:
    draw, wrong, fits = seeded("recipes"), [], 0
    for number in range(count):
        try:
            with bounded():
                fits += bool(planned(draw, draw.choice(recipes), tmp_path / "recipe.toml"))
        except EarlError as error:
            if len(str(error)) > 1010:
                wrong.append((number, repr(error)[:500]))
        except Exception as error:
            wrong.append((number, repr(error)[:500]))
    assert not wrong, wrong
    assert 0 < fits < count
