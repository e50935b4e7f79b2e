"""AURORA-Bench: 400 edits, 50 from each of eight sources; without target images.

The names are those of `task` in the publisher's test.json and of `source` on the Hub. Its README has
four skills: action, reasoning, object and attribute, global; the edits from Emu Edit change style,
background or the whole image (their `type` there says so) and are simple, all others are complex.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="aurora-bench",
    title="AURORA-Bench",
    schema="aurora-bench",
    column="AURORA",
    about="actions, spatial reasoning, objects and whole images, 50 edits of each of eight sources",
    kinds={
        "ag": "action",
        "something": "action",
        "epic": "action",
        "kubric": "reasoning",
        "clevr": "reasoning",
        "whatsup": "reasoning",
        "magicbrush": "object",
        "emu": "global",
    },
    groups={"emu": "simple"},
)
