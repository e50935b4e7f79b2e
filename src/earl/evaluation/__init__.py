"""Benchmarks evaluated in stages that resume: edits, verdicts, metrics, tables, comparisons."""
