"""OmniEdit dev: 700 edits of photographs in seven tasks, all of them simple; with target images.

Only the dev files of the data set are fetched; the rest of it is for training.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="omniedit-dev",
    title="OmniEdit dev",
    schema="omniedit-dev",
    column="OmniEdit",
    about="simple edits of object, attribute, style and environment; has targets",
    hub_patterns=("data/dev-*",),
)
