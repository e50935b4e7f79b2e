"""`earl evaluate BENCHMARK`: edits made, judged, and put in tables, in stages that resume."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from earl.cli import options as shared
from earl.cli.judging import add_verifier
from earl.progress import Progress

if TYPE_CHECKING:
    from earl.config import VerifierSettings

LEARNED = ("lpips", "clip", "fid")
NOTHING_JUDGED = 1  # exit code


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "benchmark",
        metavar="BENCHMARK",
        help="world, omniedit-dev, emuedit, magicbrush, aurora-bench, vismin, i2ebench; a file, a folder, or "
        "hub:OWNER/NAME with own data; or package.module:attribute",
    )
    add(
        "-o", "--out", metavar="FOLDER", help="keep images, verdicts and tables there; continued if cut short"
    )
    add("--results", action="store_true", help="also print what the edits did: nothing, something else, …")
    add("--json", metavar="FILE", help="also write the numbers there")
    add("--force", action="store_true", help="overwrite FILE if it exists")
    group = parser.add_argument_group("benchmark")
    add = group.add_argument
    add("--path", help="its files: parquet, Arrow, tar, or the publisher's folder")
    add("--hub", action="store_true", help="fetch it from the Hub")
    add("--map", metavar="FIELD=COLUMN,…", help="which column is what, as source=before,id=a+b")
    add("--split", help="split to read; of the world: test, or heldout: combinations never trained on")
    add("--num", type=shared.integer(0), help="tasks drawn; default: the benchmark's number; 0: all")
    add("--draw-seed", type=shared.seed, help="of that draw (default: 42, the paper's; of the world --seed)")
    add("--group", choices=("simple", "complex"), default="simple", help="of own data")
    add("--families", nargs="+", default=(), metavar="FAMILY", help="only these edit families")
    add(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="a setting of the benchmark's own"
    )
    group = parser.add_argument_group("editor")
    add = group.add_argument
    add("--predictions", metavar="DIR", help="score images made elsewhere: ID.png, or predictions.jsonl")
    add("--name", help="what to call what is evaluated (default: the model, or the folder's name)")
    add(
        "--area",
        type=shared.integer(64),
        help="px² of the images (default: the model's own; 65,536 with --predictions)",
    )
    add("--batch", type=shared.integer(1), default=16, help="edits made together")
    add("--reasoning", action="store_true", help="let the model write a chain of thought first")
    add("--best-of", type=shared.integer(1, 64), default=1, help="images drawn for a task, the best is kept")
    add_verifier(parser, default="")
    add_verifier(parser, default="", prefix="best-by", flag="best-by")
    group = parser.add_argument_group("stages")
    add = group.add_argument
    add("--until", choices=("edits", "verdicts", "tables"), default="tables", help="last stage of this run")
    add("--ask-again", action="store_true", help="ask again where the verifier's answer could not be used")
    add("--metrics", nargs="+", choices=LEARNED, default=(), help="beside PSNR, SSIM and L1 to the target")
    add("--clip-model", metavar="MODEL", help="folder or cached hub id, for --metrics clip")
    shared.add_sampling(parser)
    shared.add_model(parser)


def run(options: argparse.Namespace) -> int:
    from earl.cli.outputs import claim
    from earl.config import BenchmarkSettings, EvaluationSettings, ModelSettings, SamplingSettings
    from earl.data.sources import parse_map
    from earl.errors import ConfigError
    from earl.evaluation import ModelEditor, PredictionsEditor, open_benchmark
    from earl.evaluation.editors import AREA
    from earl.evaluation.records import to_json
    from earl.evaluation.run import closing_lines, run_evaluation
    from earl.evaluation.tables import outcome_table
    from earl.files import write_json

    file = claim([options.json], force=options.force)[0] if options.json else None
    if options.out is None and options.until != "tables":
        raise ConfigError(f"--until {options.until} needs -o FOLDER, where the images and verdicts stay")
    settings = _fill(EvaluationSettings, options, metrics=tuple(options.metrics))
    sampling = SamplingSettings(seed=options.seed, reasoning=options.reasoning, **shared.sampling_of(options))
    given = {name: getattr(options, name) for name in ("path", "hub", "split", "group")}
    given |= {"columns": parse_map(options.map)} if options.map else {}
    given |= {"draw": options.num} if options.num is not None else {}
    given |= {"seed": options.draw_seed} if options.draw_seed is not None else {}
    own = dict(option.partition("=")[::2] for option in options.option)
    asked = BenchmarkSettings(**given, families=tuple(options.families), options=own)
    editor: ModelEditor | PredictionsEditor
    if options.predictions is None:
        editor = ModelEditor.of_settings(_fill(ModelSettings, options), sampling, settings)
        benchmark = open_benchmark(options.benchmark, asked, area=editor.area, seed=sampling.seed)
    else:
        benchmark = open_benchmark(options.benchmark, asked, area=settings.area, seed=sampling.seed)
        area = settings.area or getattr(benchmark, "area", AREA)
        editor = PredictionsEditor(options.predictions, name=settings.name or "", area=area)
    kind = options.verifier or getattr(benchmark, "verifier", "judge")
    verifier = _verifier(options, kind, "judge", "verifier") if settings.until != "edits" else None
    best_by = _verifier(options, options.best_by, "best-by", "best-by") if options.best_by else None
    with Progress() as show:
        results = run_evaluation(options.out, benchmark, editor, settings, verifier, best_by, show)
    if results is not None and file is not None:
        write_json(file, to_json(results))
    print(closing_lines(results, options.out, settings))
    if results is not None and options.results:
        print(outcome_table(results).text())
    return NOTHING_JUDGED if results is not None and not results.all.judged else 0


def _fill(schema: Any, given_options: argparse.Namespace, /, **more: Any) -> Any:
    """Settings from the options of their names."""
    given = {
        name: getattr(given_options, name) for name in schema.model_fields if hasattr(given_options, name)
    }
    return schema(**{**given, **more})


def _verifier(options: argparse.Namespace, kind: str, prefix: str, flag: str) -> VerifierSettings:
    from earl.config import JudgeSettings, VerifierSettings
    from earl.config.verifier import JUDGED
    from earl.errors import ConfigError

    given = {
        name: value
        for name in JudgeSettings.model_fields
        if (value := getattr(options, f"{prefix}_{name}".replace("-", "_"), None)) is not None
    }
    if kind not in JUDGED:
        if named := [name for name in ("url", "model", "key_env", "prompts") if name in given]:
            option = f"--{prefix}-{named[0].replace('_', '-')}"
            raise ConfigError(f"{option} is for --{flag} judge or reference, not {kind}")
        return VerifierSettings(kind=kind)
    if "url" not in given:
        raise ConfigError(f"--{flag} {kind} needs --{prefix}-url: the API of the model that judges")
    return VerifierSettings(kind=kind, judge=JudgeSettings(**given))
