"""AURORA-Bench: 400 edits, 50 from each of eight sources; without target images.

The sources ask for actions and movement, for spatial reasoning, or for changes of objects and
their looks; those of Emu Edit are simple, all others complex.
"""

from earl.evaluation.benchmark import Declared

BENCHMARK = Declared(
    name="aurora-bench",
    title="AURORA-Bench",
    schema="aurora-bench",
    column="AURORA",
    about="actions, spatial reasoning and objects, 50 edits of each of eight sources",
    kinds={
        "ag": "action",
        "something": "action",
        "epic": "action",
        "kubric": "reasoning",
        "clevr": "reasoning",
        "whatsup": "reasoning",
        "magicbrush": "object",
        "emu": "object",
    },
    groups={"emu": "simple"},
)
