"""GEdit-Bench: 606 requests of real users, each in English and in Chinese; eleven tasks; no target images.

Its scores are VIEScore's, as the package's own: SC the smaller of success and over-editing, PQ of
naturalness and artifacts, overall the root of their product, by GPT-4.1; published figures are means of the
eleven tasks' means (Step1X-Edit, arXiv 2504.17761).
"""

from earl.evaluation.benchmark import DeclaredBenchmark

ENGLISH, CHINESE = (
    DeclaredBenchmark(
        name=f"gedit-{code}",
        title=f"GEdit-Bench-{code.upper()}",
        schema=f"gedit-bench-{code}",
        column=f"GEdit-Bench-{code.upper()}",
        about=f"606 requests of real users in {language}, eleven tasks; no targets",
        mean="families",
    )
    for code, language in (("en", "English"), ("cn", "Chinese"))
)
