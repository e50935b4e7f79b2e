"""Benchmarks evaluated in stages that resume: edits, verdicts, metrics, tables, comparisons."""

from earl.evaluation.benchmark import Benchmark, Task, open_benchmark
from earl.evaluation.editors import Editor, ModelEditor, PredictionsEditor
from earl.evaluation.records import Results, Summary
from earl.evaluation.run import Judging, evaluate

__all__ = [
    "Benchmark",
    "Editor",
    "Judging",
    "ModelEditor",
    "PredictionsEditor",
    "Results",
    "Summary",
    "Task",
    "evaluate",
    "open_benchmark",
]
