"""`earl evaluate BENCHMARK -o FOLDER`: edits made, judged, and put in tables, in stages that resume."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from earl.cli import options as shared
from earl.cli.judging import add_verifier, verifier_of
from earl.progress import Progress

if TYPE_CHECKING:
    from earl.evaluation.benchmark import Benchmark
    from earl.evaluation.editors import Editor

LEARNED = ("lpips", "clip", "fid")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "benchmark",
        metavar="BENCHMARK",
        help="omniedit-dev, emuedit, magicbrush, aurora-bench, vismin, i2ebench; or a file, a folder, or "
        "hub:OWNER/NAME with own data",
    )
    add("-o", "--out", required=True, help="folder of the evaluation; continued if it was cut short")
    group = parser.add_argument_group("where the benchmark is")
    group.add_argument("--path", help="its files: parquet, Arrow, tar, or the publisher's folder")
    group.add_argument("--hub", action="store_true", help="fetch it from the Hub")
    group.add_argument(
        "--map", metavar="FIELD=COLUMN,…", help="which column is what, as source=before,id=a+b"
    )
    group.add_argument("--split", help="split to read")
    group.add_argument(
        "--num", type=shared.integer(0), help="tasks drawn; default: the paper's number; 0: all"
    )
    group.add_argument("--draw-seed", type=shared.seed, default=42, help="of that draw")
    group.add_argument("--group", choices=("simple", "complex"), default="simple", help="of own data")
    add_stages(parser, area=65_536)
    shared.add_sampling(parser)
    shared.add_model(parser)


def add_stages(parser: argparse.ArgumentParser, *, area: int | None, verifier: str = "judge") -> None:
    """Options that all benchmarks have."""
    group = parser.add_argument_group("editor")
    add = group.add_argument
    add("--predictions", metavar="DIR", help="score images made elsewhere: ID.png, or predictions.jsonl")
    add("--name", help="what to call what is evaluated (default: the model, or the folder's name)")
    if area:
        add(
            "--area",
            type=shared.integer(64),
            help=f"px² of the images (default: the model's own; {area:,} with --predictions)",
        )
    add("--reasoning", action="store_true", help="let the model write a chain of thought first")
    add("--best-of", type=shared.integer(1, 64), default=1, help="images drawn for a task, the best is kept")
    add_verifier(parser, default=verifier)
    add_verifier(parser, default="", prefix="best-by", flag="best-by")
    group = parser.add_argument_group("stages")
    add = group.add_argument
    add("--until", choices=("edits", "verdicts", "tables"), default="tables", help="last stage of this run")
    add("--ask-again", action="store_true", help="ask again where the verifier's answer could not be used")
    add("--metrics", nargs="+", choices=LEARNED, default=(), help="beside PSNR, SSIM and L1 to the target")
    add("--clip-model", metavar="MODEL", help="folder or cached hub id, for --metrics clip")


def run(options: argparse.Namespace) -> int:
    from earl.data.sources import parse_map
    from earl.errors import ConfigError
    from earl.evaluation.benchmark import open_declared
    from earl.evaluation.benchmarks import DECLARED, open_own

    columns = parse_map(options.map) if options.map else None
    where: dict[str, Any] = {
        "columns": columns,
        "split": options.split,
        "draw": options.num,
        "seed": options.draw_seed,
    }
    if options.benchmark in DECLARED:
        benchmark = open_declared(DECLARED[options.benchmark], path=options.path, hub=options.hub, **where)
    elif options.path or options.hub:
        raise ConfigError(
            f"--path and --hub are for {', '.join(DECLARED)}; name own data in place of the benchmark"
        )
    else:
        benchmark = open_own(options.benchmark, group=options.group, **where)
    return run_stages(options, benchmark, area=options.area, predictions_area=options.area or 65_536)


def run_stages(
    options: argparse.Namespace, benchmark: Benchmark, *, area: int | None, predictions_area: int
) -> int:
    """Everything after the benchmark is open."""
    from earl.evaluation import versions
    from earl.evaluation.run import Extras, Judging, evaluate
    from earl.evaluation.tables import text, title

    editor = _editor(options, area, predictions_area)
    chooser = _chooser(options)
    judging = None
    if options.until != "edits":
        judging = Judging(*verifier_of(options), ask_again=options.ask_again)
    if judging:
        _warn(options, judging.identity)
        if chooser and chooser.identity == judging.identity:
            said = "the verifier that picks the best of several also judges them: the score is a best case"
            print(f"earl: warning: {said}", file=sys.stderr)
    extras = Extras(
        chooser=chooser, learned=tuple(options.metrics), clip_model=options.clip_model, versions=versions()
    )
    with Progress() as show:
        results = evaluate(
            options.out,
            benchmark,
            editor,
            judging,
            until=options.until,
            batch=options.batch if hasattr(options, "batch") else 16,
            extras=extras,
            on_progress=show,
        )
    if results is None:
        print(f"{options.until} are in {options.out}; the same command without --until goes on")
        return 0
    print(title(results))
    print(text(results))
    print(f"tables are in {options.out}; `earl evaluate page {options.out}` shows the images")
    return 0


def _chooser(options: argparse.Namespace) -> Any:
    from earl.errors import ConfigError
    from earl.evaluation.run import Judging

    if options.best_of == 1:
        if options.best_by:
            raise ConfigError("--best-by picks the best of several: say how many with --best-of")
        return None
    if options.predictions:
        raise ConfigError("--best-of draws with a model; images given with --predictions are one a task")
    if not options.best_by:
        raise ConfigError("--best-of needs --best-by: the verifier that picks (judge, ground or scene)")
    return Judging(*verifier_of(options, prefix="best-by", flag="best-by"))


def _editor(options: argparse.Namespace, area: int | None, predictions_area: int) -> Editor:
    from earl.evaluation.editors import Drawing, ModelEditor, PredictionsEditor, fingerprint

    if options.predictions:
        return PredictionsEditor(options.predictions, name=options.name or "", area=predictions_area)
    from earl.models.resolve import resolve_model

    folder = resolve_model(
        options.model, options.revision, tokenizer=options.tokenizer, vision=options.vision
    )
    weights = [fingerprint(folder.need(part)) for part in ("policy", "vision")]
    identity = {"weights": "-".join(weights), "dtype": options.dtype}
    return ModelEditor(
        options.name or str(options.model),
        lambda: shared.load_pipeline(options),
        identity,
        Drawing(
            seed=options.seed,
            reasoning=options.reasoning,
            candidates=options.best_of,
            **shared.sampling_of(options),
        ),
        area,
    )


def _warn(options: argparse.Namespace, identity: Any) -> None:
    """Say it where a model is judged by its own teacher."""
    if options.predictions:
        return
    from earl.evaluation.selfjudging import warning
    from earl.models.resolve import resolve_model

    said = warning(resolve_model(options.model, options.revision).path, identity)
    if said:
        print(f"earl: warning: {said}", file=sys.stderr)
