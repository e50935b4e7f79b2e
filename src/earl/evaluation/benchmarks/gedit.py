"""GEdit-Bench: 606 requests of real users, each in English and in Chinese; eleven tasks; no target images.

Its scores are VIEScore's, as the package's own: SC the smaller of success and over-editing, PQ of
naturalness and artifacts, overall the root of their product, each a mean over the edits, by GPT-4.1
(Step1X-Edit, arXiv 2504.17761).
"""

from earl.evaluation.benchmark import DeclaredBenchmark

ENGLISH, CHINESE = (
    DeclaredBenchmark(
        name=f"gedit-{code}",
        title=f"GEdit-Bench-{code.upper()}",
        schema=f"gedit-bench-{code}",
        column="",
        about=f"606 requests of real users in {language}, eleven tasks; no targets",
    )
    for code, language in (("en", "English"), ("cn", "Chinese"))
)
