"""EmuEdit test: 1,000 rows drawn with seed 42 (as the paper did), simple edits, no target images.

Its tasks change a part of the image (local) or all of it (global). The data set's card names
seven (background, global, style, remove, add, local, texture), the paper's table has "color" for the
last, and the rows have "text" too; which of them a row has is told as it stands there.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="emuedit",
    title="EmuEdit",
    schema="emu-edit",
    column="EmuEdit",
    about="simple edits in eight tasks, 1,000 of them drawn; no targets",
    kinds={
        "add": "local",
        "remove": "local",
        "local": "local",
        "text": "local",
        "color": "local",
        "texture": "local",
        "background": "global",
        "global": "global",
        "style": "global",
    },
    hub_patterns=("data/test-*",),
)
