"""ImgEdit-Bench, the basic suite: single edits in nine types, no target images.

`basic_edit.json` gives each edit's image, prompt and type. The publisher has GPT-4o answer three questions
of 1 to 5 worded for each type (arXiv 2505.20275); scores here are the verifier's own, so that they stand
beside those of other benchmarks and not beside the published ones.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

BENCHMARK = DeclaredBenchmark(
    name="imgedit",
    title="ImgEdit-Bench",
    schema="imgedit-bench",
    column="ImgEdit-Bench",
    about="single edits in nine types; no targets",
    archive="Benchmark.tar",
    mean="families",
)
