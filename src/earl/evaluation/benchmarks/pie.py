"""PIE-Bench: 700 edits of ten types with masks of the edited region and captions; no target images.

Its figures are distances, not a judge's scores (`earl.evaluation.region_metrics`; PnP Inversion, arXiv
2310.01506). The publisher gives it on request; its folder has `mapping_file.json` and `annotation_images/`.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="pie-bench",
    title="PIE-Bench",
    schema="pie-bench",
    column="",
    about="ten types of edit with masks and captions; no targets, and no judge is needed",
    measured=True,
)
