"""`earl evaluate …`, `earl report`, `earl verifier agree`: edits made, scored, compared and shown."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from earl.config import (
    BenchmarkSettings,
    EvaluationSettings,
    ModelSettings,
    SamplingSettings,
    Settings,
    VerifierSettings,
)
from earl.config.evaluation import BENCHMARK_OPTIONS
from earl.config.options import BEST_BY, JSON_FILE, OUT, OUT_FOLDER, POSITIONAL, Group, Option, verifier_group
from earl.config.verifier import JUDGED
from earl.errors import ConfigError
from earl.progress import Progress, say
from earl.records import ScoreName

NOTHING_JUDGED = 1
"""Exit code of an evaluation in which no edit could be judged."""
VERIFIER = replace(verifier_group("judge"), title="verifier (default: the benchmark's own, or a judge)")
FOLDER = Option(positional=True, metavar="FOLDER")
Score = Literal[ScoreName, "exact"]


class EvaluateOptions(Settings):
    benchmark: Annotated[str, POSITIONAL] = Field(
        description="world, omniedit-dev, emuedit, magicbrush, aurora-bench, vismin, i2ebench, gedit-en, "
        "gedit-cn, imgedit, risebench, pie-bench; your own: a file, a folder, or hub:OWNER/NAME; or "
        "package.module:attribute"
    )
    out: Annotated[Path | None, OUT_FOLDER] = Field(
        default=None, description="keep images, verdicts and tables there; continued if it was cut short"
    )
    predictions: Annotated[Path | None, Option(metavar="FOLDER")] = Field(
        default=None, description="score images made elsewhere: ID.png, or predictions.jsonl"
    )
    map: Annotated[str, Option(metavar="FIELD=COLUMN,…")] = Field(
        default="", description="which column is what, as source=before,target=after,id=a+b"
    )
    results: bool = Field(default=False, description="also print what the edits did: nothing, something else")
    json_file: Annotated[Path | None, JSON_FILE] = Field(default=None, description="also write the numbers")
    force: bool = Field(default=False, description="overwrite a file that exists")


ASKED = Group(title="benchmark", prefix="benchmark-", omit=("licence", "columns"), names=BENCHMARK_OPTIONS)


def evaluate(
    options: EvaluateOptions,
    asked: Annotated[BenchmarkSettings, ASKED],
    evaluation: EvaluationSettings,
    model: ModelSettings,
    sampling: SamplingSettings,
    verifier: Annotated[VerifierSettings | None, VERIFIER],
    best_by: Annotated[VerifierSettings | None, BEST_BY],
) -> int:
    """Edit and score a benchmark, in stages that resume. Exit code 1 where nothing could be judged."""
    from earl.data.sources.own import parse_map
    from earl.evaluation.benchmark import open_benchmark
    from earl.evaluation.editors import AREA, ModelEditor, PredictionsEditor
    from earl.evaluation.records import to_json
    from earl.evaluation.run import closing_lines, run_evaluation
    from earl.evaluation.tables import outcome_table
    from earl.files import claim, write_json

    claim([options.json_file] if options.json_file else [], force=options.force)
    if options.out is None and evaluation.until != "tables":
        raise ConfigError(f"--until {evaluation.until} needs --out FOLDER, where images and verdicts stay")
    if options.map:
        asked = asked.replace(columns=parse_map(options.map))
    if options.predictions is None and evaluation.size != "snap":
        raise ConfigError("--size is for --predictions: a model has its own size rule")
    editor: ModelEditor | PredictionsEditor
    if options.predictions is None:
        editor = ModelEditor.of_settings(model, sampling, evaluation)
        benchmark = open_benchmark(options.benchmark, asked, area=editor.area, seed=sampling.seed)
    else:
        benchmark = open_benchmark(options.benchmark, asked, area=evaluation.area, seed=sampling.seed)
        own_area: int = getattr(benchmark, "area", AREA)
        area = evaluation.area or own_area
        editor = PredictionsEditor(
            options.predictions, name=evaluation.name or "", area=area, rule=evaluation.size
        )
    measured = getattr(benchmark, "measured", False)
    if verifier is None and evaluation.until != "edits" and not measured:
        kind = getattr(benchmark, "verifier", "judge")
        if kind in JUDGED:
            raise ConfigError("what scores the edits? Give --judge-url, or another --verifier")
        verifier = VerifierSettings(kind=kind)
    with Progress() as show:
        results = run_evaluation(options.out, benchmark, editor, evaluation, verifier, best_by, show)
    if results is not None and options.json_file is not None:
        write_json(options.json_file, to_json(results))
    say(closing_lines(results, options.out, evaluation))
    if results is not None and options.results:
        say(outcome_table(results).text())
    nothing = results is not None and not results.all.judged and not (measured and results.metrics)
    return NOTHING_JUDGED if nothing else 0


class CompareOptions(Settings):
    first: Annotated[Path, Option(positional=True, metavar="A")] = Field(
        description="folder of an evaluation"
    )
    second: Annotated[Path, Option(positional=True, metavar="B")] = Field(
        description="folder of another one, of the same benchmark"
    )
    score: Score = Field(default="overall", description="what is compared")
    tie: float = Field(default=0.0, ge=0, le=10, description="points by which two scores of a tie may differ")
    across_verifiers: bool = Field(default=False, description="although different verifiers judged them")
    json_file: Annotated[Path | None, JSON_FILE] = Field(default=None, description="also write the numbers")
    force: bool = Field(default=False, description="overwrite a file that exists")


def compare(options: CompareOptions) -> None:
    """Compare two evaluations, task by task."""
    from earl.evaluation.compare import compare_runs, comparison_text
    from earl.evaluation.records import to_json
    from earl.files import claim, write_json

    claim([options.json_file] if options.json_file else [], force=options.force)
    comparison = compare_runs(
        options.first, options.second, score=options.score, tie=options.tie, across=options.across_verifiers
    )
    if options.json_file:
        write_json(options.json_file, to_json(comparison))
    say(comparison_text(comparison))


class VoteOptions(Settings):
    first: Annotated[Path, Option(positional=True, metavar="A")] = Field(
        description="folder of an evaluation"
    )
    second: Annotated[Path, Option(positional=True, metavar="B")] = Field(
        description="folder of another one, of the same tasks"
    )
    out: Annotated[Path, OUT] = Field(
        default=Path("votes.jsonl"), description="file of the votes, which grows; several voters may share it"
    )
    voter: str = Field(default="someone", min_length=1, max_length=80, description="who votes")
    num: int | None = Field(default=None, ge=1, description="pairs to show (default: all)")
    seed: int = Field(default=0, ge=0, description="of the order and of the sides")
    port: int = Field(default=8003, ge=0, le=65535, description="0 takes a free one")


def vote(options: VoteOptions) -> None:
    """Serve a page of pairs of edits without names, where a person votes; print what the votes say."""
    from earl.evaluation.voting import Ballot, count_votes, tally_text

    ballot = Ballot(
        options.first, options.second, options.out, voter=options.voter, seed=options.seed, count=options.num
    )
    if ballot.next() is not None:
        from earl.service.http import serve
        from earl.service.voting import voting_app

        def ready(url: str) -> None:
            say(f"vote at {url.removesuffix('v1')}; Ctrl-C ends it and prints the votes of {options.out}")

        with suppress(KeyboardInterrupt):  # how voting ends
            serve(voting_app(ballot), host="127.0.0.1", port=options.port, ready=ready)
    votes = ballot.votes()
    say(tally_text(count_votes(votes), ballot.names) if votes else "no votes on these two yet")


class TableOptions(Settings):
    folders: Annotated[tuple[Path, ...], FOLDER] = Field(
        default=(),
        description="of evaluations: one or more systems and benchmarks; for tables 4 and 5 files of "
        "`earl verifier agree --json`",
    )
    paper: int | None = Field(
        default=None, ge=2, le=17, description="another of the paper's tables, by its number"
    )
    ours_only: bool = Field(default=False, description="without the published rows")
    out: Annotated[Path | None, Option(short="-o", metavar="NAME")] = Field(
        default=None, description="also write NAME.md, NAME.tex, NAME.csv and NAME.json"
    )
    force: bool = Field(default=False, description="overwrite them if they exist")


def table(options: TableOptions) -> None:
    """Put evaluations beside published results."""
    from earl.evaluation import tables
    from earl.evaluation.folder import EvaluationFolder
    from earl.evaluation.paper_tables import beside_paper, read_agreement
    from earl.evaluation.published import COLUMNS, published_table
    from earl.evaluation.records import to_json
    from earl.evaluation.results import current_results
    from earl.files import claim, write_json, write_text

    if options.paper is None and not options.folders:
        raise ConfigError(
            "which evaluations? Give their folders, or --paper N to see one of the paper's tables"
        )
    kinds = ("md", "tex", "csv", "json")
    files = claim([f"{options.out}.{kind}" for kind in kinds] if options.out else [], force=options.force)
    published = published_table(options.paper) if options.paper is not None else None
    agrees = published is not None and published.take == "agreement"
    rated = [path for path in options.folders if agrees and path.is_file()]
    runs = [current_results(EvaluationFolder(path)) for path in options.folders if path not in rated]
    if published is not None:
        shown = beside_paper(published, runs, [read_agreement(path) for path in rated])
        if options.ours_only:
            shown = replace(shown, rows=[row for row in shown.rows if row.kind == "ours"])
        numbers, plain = shown, to_json(shown.rows)
    else:
        rows = tables.system_rows(runs)
        if not options.ours_only:
            rows += tables.published_rows({*COLUMNS, *(column for row in rows for column in row.scores)})
        shown, numbers, plain = tables.paper_table(rows), tables.paper_csv_table(rows), to_json(rows)
    shown = replace(shown, notes=[*shown.notes, *tables.unscored_notes(runs)])
    if files:
        write_text(files[0], shown.markdown())
        write_text(files[1], shown.latex())
        write_text(files[2], numbers.csv())
        write_json(files[3], plain)
    say(shown.text())


class ReportOptions(Settings):
    folder: Annotated[Path, FOLDER] = Field(
        description="of a training run (it may be going on) or an evaluation"
    )
    other: Annotated[Path | None, Option(metavar="FOLDER")] = Field(
        default=None, description="another evaluation of the same benchmark, to compare with"
    )
    out: Annotated[Path | None, OUT] = Field(
        default=None, description="the page (default: report.html in the folder)"
    )
    force: bool = Field(default=False, description="overwrite a file that exists")


def report(options: ReportOptions) -> None:
    """Write a training run, or an evaluation, as one HTML page."""
    from earl.errors import DataError
    from earl.files import claim

    folder = options.folder
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give a run's (run.folder of its recipe) or an evaluation's")
    # The page in the run's own folder is this command's product, and is made anew as the run goes on.
    out = claim([options.out], force=options.force)[0] if options.out else folder / "report.html"
    if options.other is not None or (folder / "evaluation.json").is_file():
        from earl.evaluation.page import write_page

        write_page(folder, out, other=options.other)
    else:
        from earl.pages.run import write_run_page

        write_run_page(folder, out)
    say(f"{out}, {out.stat().st_size / 2**20:.1f} MiB")


class AgreeOptions(Settings):
    ratings: Annotated[Path, Option(positional=True, metavar="RATINGS.csv")] = Field(
        description="columns source, edited, instruction, rating; perhaps target and subset; or the .jsonl "
        "file of `earl evaluate vote`"
    )
    cache: Annotated[Path | None, Option(metavar="FILE")] = Field(
        default=None, description="verdicts are kept there (default: RATINGS.verdicts.jsonl)"
    )
    scores: tuple[Score, ...] = Field(
        default=("overall", "semantic_consistency", "perceptual_quality"), description="rows that are shown"
    )
    json_file: Annotated[Path | None, JSON_FILE] = Field(default=None, description="also write all figures")
    force: bool = Field(default=False, description="overwrite a file that exists")


def agree(options: AgreeOptions, verifier: Annotated[VerifierSettings, verifier_group("judge")]) -> None:
    """Rank correlation of a verifier's scores with people's ratings."""
    from earl.evaluation.agreement import (
        agreement,
        agreement_table,
        judge_ratings,
        read_ratings,
        votes_agreement,
    )
    from earl.evaluation.records import to_json
    from earl.evaluation.run import Judging
    from earl.evaluation.tables import judge_name
    from earl.files import claim, write_json

    claim([options.json_file] if options.json_file else [], force=options.force)
    edits = read_ratings(options.ratings)
    cache = options.cache or options.ratings.with_suffix(".verdicts.jsonl")
    judging = Judging.of_settings(verifier)
    with Progress() as show:
        verdicts = judge_ratings(
            edits,
            judging.verifier,
            cache.expanduser(),
            judging.identity,
            window=judging.window,
            on_progress=show.task("verdicts"),
        )
    figures = agreement(edits, verdicts)
    if options.json_file:
        write_json(options.json_file, to_json(figures) | {"verifier": judging.identity})
    say(f"{judge_name(judging.identity)} and the ratings of {len(edits)} edits in {options.ratings}")
    say(agreement_table(figures, scores=options.scores).text())
    if options.ratings.suffix == ".jsonl":
        share = votes_agreement(options.ratings, verdicts)
        text = share.text() + f" of {share.count} pairs" if share else "-, no pair is decided"
        say(f"prefers the edit that people prefer: {text} (share 0-1, equal scores half)")
