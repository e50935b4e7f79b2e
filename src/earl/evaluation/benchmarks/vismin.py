"""VisMin dev: minimal changes of counting and spatial relation, all complex; with target images.

Of the publisher's files the release reads two, the first of each task, and takes a prefix off instructions.

A row's family is its file's name ("counting", "relation") where no column tells it.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="vismin",
    title="VisMin",
    schema="vismin-dev",
    column="VisMin",
    about="counting and spatial relation; has targets",
    hub_patterns=("data/train/counting-00001.parquet", "data/train/relation-00001.parquet"),
)
