"""Benchmarks and their reports."""

from earl.evaluation.report import Judged, by_family, format_results, format_table, summarise
from earl.world.benchmark import WorldBenchmark, draw_tasks, evaluate_world, versions

__all__ = [
    "Judged",
    "WorldBenchmark",
    "by_family",
    "draw_tasks",
    "evaluate_world",
    "format_results",
    "format_table",
    "summarise",
    "versions",
]
