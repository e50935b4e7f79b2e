"""Which numbers of a run are drawn together, and what to look for in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earl.pages.charts import Chart, Series, smooth
from earl.pages.reading import RunRecord
from earl.records import SCORE_PARTS

TIMES = ("sampling", "decoding", "judging", "updating")


@dataclass(frozen=True)
class Wanted:
    """A chart of some numbers: (split, name in the log, name in the legend).

    `needs` is a number without which the chart has nothing to say; `exact` draws no moving mean.
    """

    section: str
    title: str
    note: str
    lines: tuple[tuple[str, str, str], ...]
    least: float | None = None
    most: float | None = None
    needs: tuple[str, str] | None = None
    exact: bool = False


def _train(*names: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(("train", name, name.replace("_", " ")) for name in names)


def _held(*names: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(("validation", name, name.replace("_", " ")) for name in names)


GRPO = (
    Wanted(
        "Reward",
        "Reward while training",
        "Mean overall score of the step's rollouts, 0-10.",
        (
            ("train", "reward", "all"),
            ("train", "reward_simple", "simple"),
            ("train", "reward_complex", "complex"),
        ),
    ),
    Wanted("Reward", "Its four parts", "Each 0-10, 10 is best in all four.", _train(*SCORE_PARTS)),
    Wanted(
        "Reward",
        "What the rollouts did",
        "Shares: exactly what was asked, nothing at all, or something that was not to change.",
        _train("exact", "untouched", "elsewhere"),
        least=0.0,
        most=1.0,
    ),
    Wanted(
        "Held out",
        "Prompts never trained on",
        "Mean overall score of one edit of each, 0-10.",
        (
            ("validation", "overall", "all"),
            ("validation", "overall_simple", "simple"),
            ("validation", "overall_complex", "complex"),
        ),
    ),
    Wanted("Held out", "Held out, by part", "The verifier's four scores, 0-10.", _held(*SCORE_PARTS)),
    Wanted(
        "Held out",
        "What the held-out edits did",
        "Shares, as of the rollouts; one edit of each prompt, so with few prompts they jump.",
        _held("exact", "untouched", "elsewhere"),
        least=0.0,
        most=1.0,
    ),
    Wanted(
        "Held out",
        "Two verifiers on prompts never trained on",
        "A policy that learns to please its verifier rises with the first and not with the second.",
        (("validation", "overall", "the verifier"), ("validation", "second", "the second verifier")),
        needs=("validation", "second"),
    ),
    Wanted(
        "Held out",
        "First minus second verifier",
        "Points. A gap that grows is reward hacking until shown otherwise.",
        _held("second_gap"),
        least=0.0,
    ),
    Wanted(
        "Health",
        "Distance from the start",
        "KL to the reference on training rollouts (k3 estimate) and drift on held-out ones; nats a token.",
        (("train", "kl", "KL"), ("validation", "drift", "drift, held out")),
        least=0.0,
    ),
    Wanted(
        "Health",
        "Entropy",
        "Of the distributions that tokens were drawn from, nats. A fall to 0 is a collapse.",
        (("train", "entropy_visual", "visual tokens"), ("train", "entropy_text", "text tokens")),
        least=0.0,
    ),
    Wanted(
        "Health",
        "Groups that teach nothing",
        "Share of groups of equal rewards, and of completions that another of their group equals.",
        (("train", "zero_variance", "zero variance"), ("train", "repeated", "repeated completions")),
        least=0.0,
        most=1.0,
    ),
    Wanted(
        "Health",
        "What was lost",
        "Shares: rollouts without a verdict, groups left out for that, held-out edits that were judged.",
        (
            ("train", "failed", "failed verdicts"),
            ("train", "dropped_groups", "dropped groups"),
            ("validation", "judged", "judged, held out"),
        ),
        least=0.0,
        most=1.0,
    ),
    Wanted(
        "Health",
        "Sampler against trainer",
        "Mean |log p trainer - log p sampler|, nats a token: rounding, unless another engine samples.",
        _train("sampler_gap"),
        least=0.0,
    ),
    Wanted(
        "Health",
        "Tokens left out",
        "Share on which sampler and trainer disagree beyond grpo.importance_range.",
        _train("disagreed"),
        least=0.0,
    ),
    Wanted("Health", "Clipped tokens", "Share whose ratio the bound replaced.", _train("clipped"), least=0.0),
)
COMMON = (
    Wanted(
        "Optimisation",
        "Loss",
        "Of the step; in supervised stages nats a token.",
        (("train", "loss", "training"), ("validation", "loss", "validation")),
    ),
    Wanted(
        "Optimisation",
        "Loss by kind",
        "Nats a token: visual and text tokens, cells that the edit changes and keeps.",
        _train("visual", "text", "changed", "kept"),
        least=0.0,
    ),
    Wanted(
        "Optimisation",
        "Validation by kind",
        "The same on held-back data.",
        _held("visual", "text", "changed", "kept"),
        least=0.0,
    ),
    Wanted(
        "Optimisation",
        "Hits",
        "Share of visual tokens that are the likeliest, and of images that greedy sampling writes exactly.",
        _held("hit_changed", "hit_kept", "greedy_exact"),
        least=0.0,
        most=1.0,
    ),
    Wanted(
        "Optimisation",
        "Edits sampled and judged",
        "Rate of exact edits, 0-1.",
        _held("exact", "exact_simple", "exact_complex"),
        least=0.0,
        most=1.0,
    ),
    Wanted("Optimisation", "Gradient norm", "Before clipping.", _train("gradient_norm"), least=0.0),
    Wanted("Optimisation", "Learning rate", "Of AdamW.", _train("learning_rate"), least=0.0, exact=True),
    Wanted("Time", "Throughput", "Sequences a second.", _train("samples_per_second"), least=0.0),
)
HIDDEN = {"groups", "seconds_per_step", "sampler_ratio", *(f"seconds_{name}" for name in TIMES)}


def sections(run: RunRecord) -> dict[str, list[Chart]]:
    """The charts of a run by section; numbers that no chart names come last, each by itself."""
    wanted = (*GRPO, *_of_sums(run), *COMMON) if run.stage == "grpo" else COMMON
    named = {(split, name) for chart in wanted for split, name, _ in chart.lines}
    found: dict[str, list[Chart]] = {}
    for one in wanted:
        series = [
            Series(legend, points, colour, marked=split == "validation")
            for colour, (split, name, legend) in enumerate(one.lines)
            if (points := run.series(split, name))
        ]
        if series and (one.needs is None or run.series(*one.needs)):
            chart = Chart(one.title, one.note, series, one.least, one.most, one.exact)
            found.setdefault(one.section, []).append(chart)
    for split in run.log:
        for name in run.names(split):
            points = run.series(split, name)
            if (split, name) in named or name in HIDDEN or name.endswith(".failed") or not points:
                continue
            line = Series(f"{split}: {name}", points, 0, marked=split != "train")
            found.setdefault("Other numbers", []).append(Chart(name.replace("_", " "), split, [line]))
    return found


def _of_sums(run: RunRecord) -> list[Wanted]:
    """What each verifier of a sum said; nothing for other verifiers."""
    ends_with = ".overall"
    names = [name.removesuffix(ends_with) for name in run.names("train") if name.endswith(ends_with)]
    if not names:
        return []
    charts = [
        Wanted(
            "Reward",
            "The verifiers of the sum",
            "Overall score of each, 0-10. The reward is made of the weighted means of their four scores.",
            tuple(("train", name + ends_with, name) for name in names),
        ),
        Wanted(
            "Held out",
            "The verifiers of the sum, held out",
            "Overall score of each, 0-10.",
            tuple(("validation", name + ends_with, name) for name in names),
        ),
        Wanted(
            "Health",
            "Who gave no scores",
            "Share of rollouts, by verifier of the sum.",
            tuple(("train", f"{name}.failed", name) for name in names),
            least=0.0,
            most=1.0,
        ),
    ]
    for split, section, where in (("train", "Reward", ""), ("validation", "Held out", ", held out")):
        charts += [
            Wanted(
                section,
                f"{name}: its four scores{where}",
                "Each 0-10, 10 is best in all four.",
                tuple((split, f"{name}.{part}", part.replace("_", " ")) for part in SCORE_PARTS),
            )
            for name in names
        ]
    return charts


def time_split(run: RunRecord) -> Chart | None:
    """Seconds of a step, by what they were spent on; None where the run does not log them."""
    lines = {name: run.series("train", f"seconds_{name}") for name in TIMES}
    lines = {name: points for name, points in lines.items() if points}
    if not lines or len({len(points) for points in lines.values()}) > 1:
        return None
    window = max(1, len(next(iter(lines.values()))) // 30)
    return Chart(
        "Seconds of a step",
        "Judging is what the trainer waited for the verifier after its last completion.",
        [Series(name, smooth(points, window), at) for at, (name, points) in enumerate(lines.items())],
    )


def ends(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Mean of the first and of the last tenth of a curve; None for no points."""
    if not points:
        return None
    count = max(1, len(points) // 10)
    values = [value for _, value in points]
    return sum(values[:count]) / count, sum(values[-count:]) / count
