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
from types import MappingProxyType

from earl.models.shapes import EMU3, EMU3_VISION_PARAMETERS

TEXT_HOME = "BAAI/Emu3-Stage1"
VISION_HOME = "BAAI/Emu3-VisionTokenizer"
BENCHMARKS = ("OmniEdit", "EmuEdit", "AURORA", "MagicBrush", "VisMin", "I2EBench", "mean")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One row of `earl models`.

    Attributes:
        tokenizer, vision: the hub ids that hold those parts; its own name where it holds them itself,
            None where it has no use for them.
        revision: taken where the user names none; None is the hub's default branch.
        licence: as its page says; None where we do not know it.
        scores: VIEScore overall by benchmark, empty where none was published for it.
        reasons: whether it was taught to write a chain of thought.
    """

    name: str
    about: str
    layout: str
    parameters: int
    tokenizer: str | None = None
    vision: str | None = None
    revision: str | None = None
    licence: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    reasons: bool = False

    def home(self, part: str) -> str | None:
        """Name of the repository that holds a part; the model's own for the policy."""
        if part == "policy":
            return None if self.layout == "Emu3 vision" else self.name
        return self.tokenizer if part == "tokenizer" else self.vision


def _released(
    name: str, about: str, *scores: float, revision: str | None = None, reasons: bool = False
) -> KnownModel:
    return KnownModel(
        name,
        about,
        "Emu3",
        EMU3.parameters,
        TEXT_HOME,
        VISION_HOME,
        revision,
        scores=MappingProxyType(dict(zip(BENCHMARKS, scores, strict=bool(scores)))),
        reasons=reasons,
    )


def _base(name: str, about: str, layout: str, parameters: int, *, has_text: bool) -> KnownModel:
    vision = name if layout == "Emu3 vision" else VISION_HOME
    return KnownModel(
        name, about, layout, parameters, name if has_text else None, vision, licence="Apache-2.0"
    )


RELEASED = (
    _released("mair-lab/sft-simple", "SFT S", 5.73, 3.66, 3.58, 3.19, 3.57, 3.59, 3.88),
    _released(
        "mair-lab/thinking-sft-simple",
        "SFT S with reasoning",
        *(4.34, 3.76, 2.88, 3.36, 3.46, 3.21, 3.50),
        reasons=True,
    ),
    _released(
        "mair-lab/sft-simple.rl-simple-n-complex", "SFT S, RL S+C", 6.33, 4.28, 3.99, 4.26, 4.48, 4.08, 4.57
    ),
    _released(
        "mair-lab/earl-thinking-sft-simple.rl-simple-n-complex",
        "SFT S, RL S+C, both with reasoning",
        *(4.65, 3.78, 3.23, 3.67, 3.39, 3.36, 3.68),
        reasons=True,
    ),
    _released(
        "mair-lab/earl-sft-simple.rl-simple-n-complex-scaled",
        "EARL: SFT S, scaled RL S+C",
        *(6.39, 4.47, 4.27, 4.52, 4.93, 4.19, 4.80),
    ),
    _released(
        "Image-editing/imged_rl_grpo_sft.s_rl.sc", "SFT S, RL S+C, a checkpoint", revision="ckpt_001999"
    ),
)
BASES = (
    _base("BAAI/Emu3-Stage1", "the base of SFT", "Emu3", EMU3.parameters, has_text=True),
    _base("BAAI/Emu3-Gen", "images from text", "Emu3", EMU3.parameters, has_text=True),
    _base(
        "BAAI/Emu3-VisionTokenizer",
        "images to codes and back",
        "Emu3 vision",
        EMU3_VISION_PARAMETERS,
        has_text=False,
    ),
)
KNOWN: Mapping[str, KnownModel] = MappingProxyType({model.name: model for model in (*RELEASED, *BASES)})
