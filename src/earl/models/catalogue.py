"""Catalogue of the models that have a name: layout, revision, scores, and where their parts lie.

The released policies come without tokenizers: their text tokenizer lies with the base model that they
grew from, their vision tokenizer in a repository of its own. `earl.models.resolve` looks here, so that
a name alone is enough.

Source: the model pages on the Hugging Face hub; scores are VIEScore overall (0-10, gpt-4o-mini) of
EARL (arXiv 2508.01119, tables 1 and 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from earl.files import parse_toml, read_text
from earl.models.shapes import EMU3

TEXT_HOME = "BAAI/Emu3-Stage1"
VISION_HOME = "BAAI/Emu3-VisionTokenizer"
BENCHMARKS = ("OmniEdit", "EmuEdit", "AURORA", "MagicBrush", "VisMin", "I2EBench", "mean")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One row of `earl models`.

    Attributes:
        tokenizer, vision: the hub ids that hold those parts; its own name where it holds them itself, ""
            where it has no use for a tokenizer.
        revision: taken where the user names none; None is the hub's default branch.
        licence: as its page says; None where we do not know it.
        scores: VIEScore overall by benchmark, empty where none was published for it.
        reasons: whether it was taught to write a chain of thought.
    """

    name: str
    about: str
    layout: str = "Emu3"
    parameters: int = EMU3.parameters
    tokenizer: str = TEXT_HOME
    vision: str = VISION_HOME
    revision: str | None = None
    licence: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    reasons: bool = False

    def home(self, part: str) -> str | None:
        """Name of the repository that holds a part; the model's own for the policy."""
        if part == "policy":
            return None if self.layout == "Emu3 vision" else self.name
        return (self.tokenizer or None) if part == "tokenizer" else self.vision


def _models(group: str) -> tuple[KnownModel, ...]:
    path = Path(__file__).with_suffix(".toml")
    tables = parse_toml(read_text(path), str(path))[group]
    return tuple(
        KnownModel(name, **(table | {"scores": dict(zip(BENCHMARKS, table.get("scores", ()), strict=False))}))
        for name, table in tables.items()
    )


RELEASED, BASES = _models("released"), _models("bases")
KNOWN: Mapping[str, KnownModel] = MappingProxyType({model.name: model for model in (*RELEASED, *BASES)})
