"""VisMin dev: minimal changes of counting and spatial relation, all complex; with target images.

A row's family is its file's name ("counting", "relation") where no column tells it.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="vismin",
    title="VisMin",
    schema="vismin-dev",
    column="VisMin",
    about="counting and spatial relation; has targets",
)
