"""Benchmarks and their reports."""

from earl.evaluation.report import Judged, by_family, format_results, format_table, summarise, versions

__all__ = ["Judged", "by_family", "format_results", "format_table", "summarise", "versions"]
