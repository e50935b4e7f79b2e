"""RISEBench: 360 requests that take reasoning (temporal, causal, spatial, logical); no target images.

Its own protocol (arXiv 2504.02826) has GPT-4.1 give 1 to 5 for reasoning, against a written or drawn
reference, for consistency and for plausibility, and counts the edits with 5 in all of them. Scores here are
the verifier's own, which sees neither reference.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="risebench",
    title="RISEBench",
    schema="rise-bench",
    column="",
    about="360 requests that take temporal, causal, spatial or logical reasoning; no targets",
    archive="data.zip",
)
