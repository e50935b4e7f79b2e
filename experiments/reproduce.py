"""The paper's comparison in the procedural world: cells of training and evaluation, tables, claims.

    # the start: docs/reproduction.md#the-start
    python experiments/reproduce.py --start runs/small/start --seeds 0 1 2

The world is a smaller one unless `--kinds full` is given: plain large solids and the families `SMALL`. A cell
is a model of the paper's tables. It is trained by `earl train` with one of the two recipes beside this file
and a few overrides, and measured by `earl evaluate world`. What is finished is not made again; training and
evaluations that were cut short go on.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from earl.config.recipe import load_recipe
from earl.config.stages import STAGES, load_stage
from earl.data.card import CARD, read_card
from earl.errors import ConfigError, DataError, EarlError
from earl.evaluation.editors import WEIGHED
from earl.evaluation.folder import read_plan
from earl.files import check_writable, same_digest, write_json, write_text
from earl.models.resolve import resolve_model
from earl.models.weight_files import fingerprint
from earl.world.families import FAMILIES
from page import comparison_page
from tables import DESIGNS, markdown, page_tables, read_scores

HERE = Path(__file__).parent
DATA = ("simple", "complex")  # kinds of SFT edits, each in a folder of its own
SMALL = ("add", "remove", "replace", "color", "background", "count", "relation", "double")
FIRST = ("sft-s", "sft-sc", "rl-s", "rl-c", "rl-sc", "sft-s-best", "rl-sc-best")


@dataclass(frozen=True)
class Cell:
    """One model, or one way of sampling from it.

    Attributes:
        kind: "given" is a model that exists, "best" the start with best-of-N sampling.
        start: the cell that it starts from; None for a given model.
        overrides: of the recipe of its kind; of "best" the verifier that chooses (none: the scene's).
        table: where it is shown.
    """

    label: str
    kind: str
    start: str | None = None
    overrides: tuple[str, ...] = ()
    table: str = "direct"
    reasoning: bool = False
    scaled: bool = False


SIMPLE = "data.sources.complex.weight=0.0"
WATCHED = 'verifier.second.kind="scene"'  # the whole verifier scores the held-out prompts of a weakened one
CELLS = {
    "start": Cell("start of the comparison", "given"),
    "sft-s": Cell("SFT S", "sft", "start", (SIMPLE,)),
    "sft-sc": Cell("SFT S+C", "sft", "start"),
    "sft-two-stage": Cell("SFT S, then C", "sft", "sft-s", ("data.sources.simple.weight=0.0",)),
    "rl-s": Cell("SFT S → RL S", "grpo", "sft-s", ("prompts.group=simple",)),
    "rl-c": Cell("SFT S → RL C", "grpo", "sft-s", ("prompts.group=complex",)),
    "rl-sc": Cell("SFT S → RL S+C", "grpo", "sft-s"),
    "sft-sc-rl-sc": Cell("SFT S+C → RL S+C", "grpo", "sft-sc"),
    "rl-sc-scaled": Cell("SFT S → RL S+C, scaled", "grpo", "sft-s", scaled=True),
    "think-s": Cell(
        "SFT think S", "sft", "start", (SIMPLE, "data.reasoning=true"), "reasoning", reasoning=True
    ),
    "think-s-rl-sc": Cell(
        "think S → RL S+C", "grpo", "think-s", ("rollouts.prefill=reasoning",), "reasoning", reasoning=True
    ),
    "sft-s-best": Cell("SFT S, best of N", "best", "sft-s", table="best"),
    "rl-sc-ahead": Cell("RL S+C, one step ahead", "grpo", "sft-s", ("rollouts.staleness=1",)),
    "rl-sc-best": Cell("SFT S → RL S+C, best of N", "best", "rl-sc", table="best"),
    "sft-s-best-judge": Cell("SFT S, best of N by a weak judge", "best", "sft-s", ("weak-judge",), "judge"),
    **{
        f"rl-sc-judge-{design.replace('_', '-')}": Cell(
            f"RL S+C, weak judge, {label}",
            "grpo",
            "sft-s",
            ('verifier.kind="weak-judge"', f"grpo.reward={design}", WATCHED),
            "judge",
        )
        for design, label in DESIGNS.items()
    },
}
"""By name; a cell comes after the one that it starts from."""


def needed(names: Sequence[str], given: Sequence[str]) -> list[str]:
    """These cells ("all": all of them) and what they start from, in order. Raises ConfigError."""
    names = list(CELLS) if "all" in names else names
    if unknown := [name for name in (*names, *given) if name not in CELLS]:
        raise ConfigError(f"no cell {unknown[0]!r}; there are {', '.join(CELLS)}")
    wanted: set[str] = set()
    for name in names:
        at: str | None = name
        while at is not None:
            wanted.add(at)
            at = None if at in given else CELLS[at].start
    return [name for name in CELLS if name in wanted]


class Comparison:
    """The chosen cells, for the chosen seeds, in one folder.

    Raises:
        ConfigError: an unknown cell, a model given for a way of sampling or for nothing.
        ModelNotFoundError: there is no such model.
        OutputError: the folder cannot be written.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, check_writable(options.out, folder=True)
        if bare := [pair for pair in options.given if "=" not in pair]:
            raise ConfigError(f"--given {bare[0]!r}: expected CELL=MODEL")
        self.named = dict(pair.split("=", 1) for pair in options.given)
        self.given = {"start": options.start, **self.named}
        self.cells = needed(options.cells, list(self.given))
        self.families = tuple(options.families or (SMALL if options.kinds == "few" else FAMILIES))
        if unknown := set(self.families) - set(FAMILIES):
            raise ConfigError(f"no edit family {unknown.pop()!r}; there are {', '.join(FAMILIES)}")
        if ways := [name for name in self.given if CELLS[name].kind == "best"]:
            raise ConfigError(
                f"{ways[0]} is a way of sampling; give a model for {CELLS[ways[0]].start} instead"
            )
        for model in self.given.values():
            resolve_model(model, parts=())
        minutes = options.minutes
        self.ends = time.monotonic() + 60 * minutes if minutes is not None else float("inf")

    def jobs(self, names: Sequence[str]) -> Iterator[tuple[str, int | None]]:
        """Cells with their seeds, None where a cell does not depend on one, in a feasible order."""
        yield from ((name, None) for name in names if self._seedless(name))
        for seed in self.options.seeds:
            yield from ((name, seed) for name in names if not self._seedless(name))

    def state(self, name: str, seed: int | None) -> str:
        if self._evaluation(name, seed).joinpath("results.json").is_file():
            self._check_model(name, seed)
            return "done"
        return "evaluate" if self._trained(name, seed) else "train and evaluate"

    def run(self) -> bool:
        """Train and evaluate what is missing; whether all is done."""
        for name, seed in self.jobs(self.cells):
            state = self.state(name, seed)
            print(f"{_title(name, seed)}: {state}", file=sys.stderr, flush=True)
            if seed is not None and CELLS[name].kind != "best":
                self._check_recipe(name, seed)
            if state == "done":
                continue
            if time.monotonic() > self.ends:
                return False
            if state != "evaluate":
                self._prepare(CELLS[name].kind)
                assert seed is not None, "what is trained has a seed"
                if not _earl(["train", CELLS[name].kind, *self._recipe(name, seed)], ends=self.ends):
                    return False
            self._evaluate(name, seed)
        return True

    def show(self) -> str:
        """The tables of all cells that the folder holds, also as `tables.md`, `results.json`, `page.html`."""
        folders: dict[str, list[Path | None]] = {name: [] for name in CELLS}
        for name, seed in self.jobs(list(CELLS)):
            done = self.state(name, seed) == "done"
            folders[name].append(self._evaluation(name, seed) if done else None)
        whole = {name: done for name, paths in folders.items() if (done := [p for p in paths if p])}
        if not whole and self.options.tables:
            raise DataError(
                f"{self.folder} holds no evaluation of {self.options.num} tasks of these cells and seeds; "
                "give the --out, --num and --given that they were made with, or make them: leave --tables out"
            )
        scores = {name: [read_scores(path) if path else {} for path in folders[name]] for name in whole}
        missing = {
            name: f"{len(whole.get(name, ()))} of {len(paths)} evaluations"
            for name, paths in folders.items()
            if None in paths
        }
        text, results = markdown(CELLS, scores, missing)
        write_text(self.folder / "tables.md", text)
        write_json(self.folder / "results.json", results)
        labels = {name: cell.label for name, cell in CELLS.items() if name in whole}
        runs = {
            name: [self._folder(name, seed) for seed in self.options.seeds]
            for name in labels
            if not self._seedless(name) and CELLS[name].kind != "best"
        }
        page = comparison_page(labels, runs, whole, page_tables(CELLS, scores, results["claims"]))
        write_text(self.folder / "page.html", page)
        return text

    def _seedless(self, name: str) -> bool:
        cell = CELLS[name]
        return name in self.given or (cell.kind == "best" and self._seedless(str(cell.start)))

    def _folder(self, name: str, seed: int | None) -> Path:
        return self.folder / ("given" if seed is None else f"seed-{seed}") / name

    def _evaluation(self, name: str, seed: int | None) -> Path:
        return self._folder(name, seed) / f"evaluation-{self.options.num}"

    def _model(self, name: str, seed: int | None) -> str:
        if name in self.given:
            return str(self.given[name])
        if CELLS[name].kind == "best":
            return self._model(str(CELLS[name].start), seed)
        return str(self._folder(name, seed) / "model")

    def _trained(self, name: str, seed: int | None) -> bool:
        own = name not in self.given and CELLS[name].kind != "best"
        return not own or Path(self._model(name, seed), "earl.json").is_file()

    def _recipe(self, name: str, seed: int) -> list[str]:
        """The recipe's file and the overrides that make it the cell's."""
        cell, file = CELLS[name], HERE / f"{CELLS[name].kind}.toml"
        words = {
            "title": f"{cell.label}, seed {seed}",
            "run.folder": str(self._folder(name, seed)),
            "run.seed": seed,
            "model.start": self._model(str(cell.start), seed),
        }
        if cell.kind == "sft":
            words |= {f"data.sources.{one}.path": str(self.folder / "data" / one) for one in DATA}
            words["data.validation"] = str(self.folder / "data" / "validation")
        else:
            words |= {"prompts.families": self.families, "prompts.options.kinds": self.options.kinds}
        more = list(self.options.sft if cell.kind == "sft" else self.options.rl)
        if cell.scaled:
            recipe = load_stage(file, more)
            assert recipe.length.max_steps is not None, "the recipe says how many steps"
            words["length.max_steps"] = round(self.options.scale * recipe.length.max_steps)
            words["validation.every"] = round(self.options.scale * recipe.validation.every)
        if cell.kind == "grpo" and cell.table == "judge":
            words["verifier.options.seed"] = seed  # of the judge's noise and biases
        made = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in words.items()]
        return [str(file), *more, *cell.overrides, *made]

    def _check_recipe(self, name: str, seed: int) -> None:
        """Raises ConfigError where the cell's folder was made with another recipe."""
        file, *overrides = self._recipe(name, seed)
        there = self._folder(name, seed) / "recipe.toml"
        if not there.is_file():
            return
        kind = CELLS[name].kind
        if load_stage(file, overrides) != load_recipe(STAGES[kind], there):
            raise ConfigError(
                f"{there.parent} was made with another recipe; choose another --out, or remove it"
            )

    def _check_model(self, name: str, seed: int | None) -> None:
        """Raises ConfigError where the evaluation that is there is of another model than the one given."""
        owner = str(CELLS[name].start) if CELLS[name].kind == "best" else name
        if owner not in self.named:
            return
        folder, found = self._evaluation(name, seed), resolve_model(self.given[owner])
        weights = "-".join(fingerprint(found.need(part)) for part in WEIGHED)
        if not same_digest(read_plan(folder)["editor"].get("weights"), weights):
            raise ConfigError(
                f"{folder} is an evaluation of another model than --given {owner}={self.given[owner]}; "
                "choose another --out, or remove it"
            )

    def _prepare(self, kind: str) -> None:
        """The shards of the SFT cells, encoded by the start's vision tokenizer; what is there is kept."""
        if kind != "sft":
            return
        options = self.options
        common = ["prepare", "world", "--vision", options.start, "--resolution", str(options.resolution)]
        common += ["--kinds", options.kinds, "--reasoning", "plan"]  # the cells that think write plans
        for name in (*DATA, "validation"):
            out = self.folder / "data" / name
            if name == "validation":
                asked = ["--sources", str(options.validation), "--split", "validation"]
                families = list(self.families)
            else:
                families = [family for family in self.families if FAMILIES[family] == name]
                asked = ["--sources", str(options.sources)]
            if (out / CARD).is_file():  # written last
                made = read_card(out)["made_with"]
                for key, now in (("families", families), ("kinds", options.kinds), ("reasoning", "plan")):
                    if made.get(key) != now:
                        raise ConfigError(
                            f"{out} was prepared with {key} = {made.get(key)!r}, now {now!r}; remove it, or "
                            "choose another --out"
                        )
                continue
            _earl([*common, "-o", str(out), *asked, "--families", *families])

    def _evaluate(self, name: str, seed: int | None) -> None:
        cell, options = CELLS[name], self.options
        words = ["evaluate", "world", "-o", str(self._evaluation(name, seed)), "--name", cell.label]
        words += ["--model", self._model(name, seed), "--num", str(options.num), "--top-k", "0"]
        words += ["--families", *self.families, "--option", f"kinds={options.kinds}"]
        words += ["--reasoning"] * cell.reasoning
        if cell.kind == "best":
            words += ["--best-of", str(options.best_of), "--best-by", *(cell.overrides or ("scene",))]
        _earl(words)


def _earl(words: Sequence[str], *, ends: float = float("inf")) -> bool:
    """Run `earl WORDS`; False where the time was over first, and the command was asked to stop.

    Raises:
        SystemExit: the command failed, or Ctrl-C; it has said why.
    """
    process = subprocess.Popen([sys.executable, "-m", "earl", *words])
    try:
        code = process.wait(None if ends == float("inf") else max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        return False
    except KeyboardInterrupt:
        raise SystemExit(process.wait() or 130) from None
    if code:
        raise SystemExit(code)
    return True


def _title(name: str, seed: int | None) -> str:
    return name if seed is None else f"{name}, seed {seed}"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", default="runs/world/reproduce", help="folder; what is finished there is not made again")
    add("--start", default="world", metavar="MODEL", help="what SFT starts from")
    add("--given", nargs="+", default=(), metavar="CELL=MODEL", help="models that stand for a cell")
    add("--cells", nargs="+", default=FIRST, metavar="CELL", help="these, and what they start from, or: all")
    add("--kinds", choices=("few", "full"), default="few", help="few: a smaller world, plain large solids")
    add("--families", nargs="+", default=(), metavar="NAME", help=f"of edits (few: {' '.join(SMALL)})")
    add("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="of training")
    add("--sft", nargs="+", default=(), metavar="key=value", help="overrides of every SFT cell's recipe")
    add("--rl", nargs="+", default=(), metavar="key=value", help="overrides of every RL cell's recipe")
    add("--scale", type=float, default=3.0, help="the scaled cell has so many times the steps")
    add("--sources", type=int, default=5000, help="source images of each kind of SFT edits")
    add("--validation", type=int, default=200, help="source images of the validation split")
    add("--resolution", type=int, default=64, help="px, side of the images")
    add("--num", type=int, default=1000, help="tasks of the benchmark, the same for every cell")
    add("--best-of", type=int, default=5, help="N of the best-of-N cells")
    add(
        "--minutes",
        type=float,
        help="begin nothing after so many; training that runs stops with a checkpoint",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plan", action="store_true", help="print what would be done and stop")
    only.add_argument("--tables", action="store_true", help="print tables of what is there and stop")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    options = parser().parse_args(words)
    try:
        comparison = Comparison(options)
        for name, seed in [] if options.tables else comparison.jobs(comparison.cells):
            print(f"{_title(name, seed)}: {comparison.state(name, seed)}")
        if options.plan:
            return 0
        try:
            if not options.tables and not comparison.run():
                print("time is over; the same command goes on from here", file=sys.stderr)
        finally:  # also where the comparison was stopped, or ran into an error
            print(comparison.show())
    except EarlError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends it without a word
    raise SystemExit(main())
