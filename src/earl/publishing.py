"""A training run as a repository of the Hugging Face Hub: its files and its model card."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from earl.data.card import read_card
from earl.errors import ConfigError, DataError, EarlError, OutputError
from earl.evaluation.editors import WEIGHED
from earl.evaluation.records import Results
from earl.evaluation.results import read_results
from earl.evaluation.tables import judge_name, score_table
from earl.files import PARTIAL, read_object, read_text, same_digest
from earl.models.resolve import adapter_base, resolve_model
from earl.models.weight_files import fingerprint
from earl.pages.run_record import RunRecord, read_run
from earl.progress import one_line
from earl.tables import Column, Row, Table, markdown_text

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PRIVATE = ("url", "key_env", "server", "servers", "server_weights")
"""Settings that say where something ran; they are in no published recipe."""
_CARD = Path(__file__).with_name("model_card.md.jinja")


@dataclass(frozen=True)
class Publication:
    """Files to upload, by path in the repository: a file on disk, or its text."""

    repo: str
    card: str
    files: Mapping[str, Path | str]

    def listing(self) -> Iterator[tuple[str, int]]:
        """(path in the repository, bytes) of every file."""
        for name, file in self.files.items():
            yield name, file.stat().st_size if isinstance(file, Path) else len(file.encode())

    def upload(self, *, private: bool = False) -> str:
        """Make the repository where it does not exist, and commit all files at once; returns its URL.

        Source: `huggingface_hub`; the token is the one that `hf auth login` stored, or that of HF_TOKEN.

        Raises:
            OutputError: the hub refused, or cannot be reached.
        """
        from huggingface_hub import HfApi

        api = HfApi(library_name="earl")
        try:
            url = str(api.create_repo(self.repo, private=private, exist_ok=True))
            with tempfile.TemporaryDirectory() as folder:
                for name, file in self.files.items():
                    place = Path(folder, name)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if isinstance(file, Path):
                        place.symlink_to(file.resolve())  # weights are not copied
                    else:
                        place.write_text(file, encoding="utf-8")
                api.upload_folder(
                    repo_id=self.repo, folder_path=folder, commit_message="Upload a model of earl"
                )
        except Exception as error:  # the hub's many errors mean one thing here; the cause stays chained
            raise OutputError(
                f"{self.repo} could not be uploaded ({type(error).__name__}: {one_line(str(error))[:300]}); "
                "log in with `hf auth login`, and check the name and the connection"
            ) from error
        return url


def prepare_publication(
    run: str | Path,
    repo: str,
    *,
    model: Path | None = None,
    evaluations: Sequence[Path] = (),
    licence: str | None = None,
    notes: Path | None = None,
) -> Publication:
    """The card and the files of a run; nothing is sent.

    Args:
        run: folder of a training run that is through.
        repo: owner/name.
        model: folder of its model; the run's own when None.
        evaluations: folders that `earl evaluate … -o` wrote, of this run's model.
        licence: of the weights, as the hub names it ("apache-2.0"); the card says so where there is none.
        notes: a Markdown file of the owner's own, which the card takes in.

    Raises:
        ConfigError: no hub name; an evaluation of another model; an adapter whose base is a folder here.
        DataError: no run, or one without a model yet; no results of an evaluation yet.
    """
    if not _HUB_ID.fullmatch(repo):
        raise ConfigError(f"{repo!r} is no name on the hub; expected owner/name")
    record = read_run(run)
    model = model or record.folder / "model"
    if not (model / "earl.json").is_file():
        raise DataError(f"{model} holds no model; let the run end, or name the folder with --model")
    base = _base_of(record, model)
    results = [_own_results(folder, model) for folder in evaluations]
    recipe = tomli_w.dumps(_published(record.recipe))
    area = read_object(model / "earl.json").get("area")
    words = read_text(notes) if notes else ""
    card = _card(
        record,
        repo,
        results,
        base=base,
        licence=licence,
        notes=words.strip(),
        recipe=recipe,
        limits=[*_limits(record, results, area)],
    )
    files: dict[str, Path | str] = {
        str(path.relative_to(model)): path
        for path in sorted(model.rglob("*"))
        if path.is_file() and not path.name.startswith(PARTIAL)
    }
    files |= {
        "README.md": card,
        "training/recipe.toml": recipe,
        "training/log.jsonl": record.folder / "log.jsonl",
    }
    return Publication(repo, card, files)


def _base_of(record: RunRecord, model: Path) -> str | None:
    """The model that training began from, where others can find it."""
    adapter = model / "adapter"
    if adapter.is_dir():
        base = adapter_base(adapter)
        if Path(base).is_dir() or Path(base).is_absolute():
            raise ConfigError(
                f"the adapter in {adapter} needs its base model, the folder {base}, which others do not "
                f"have; write both as one (`earl convert {model} FOLDER`) and push it with --model FOLDER"
            )
        return base
    start = str(record.recipe.get("model", {}).get("start") or "")
    return (
        start if start and not Path(start).expanduser().exists() and not Path(start).is_absolute() else None
    )


def _own_results(folder: Path, model: Path) -> Results:
    """Results of an evaluation. Raises ConfigError: it is of other weights."""
    results = read_results(folder)
    found = resolve_model(str(model), parts=WEIGHED)
    weights = "-".join(fingerprint(found.need(part)) for part in WEIGHED)
    if not same_digest(results.editor.get("weights"), weights):
        raise ConfigError(
            f"{folder} evaluated {results.editor.get('name')!r}, which is not the model in {model}; "
            f"evaluate this one: earl evaluate … --model {model}"
        )
    return results


def _sources(recipe: Mapping[str, Any], role: str = "") -> Iterator[tuple[str, str]]:
    """(role, folder) of the shards that a recipe names, such as ("data.sources.own", "data/own")."""
    for name, value in recipe.items():
        here = f"{role}.{name}" if role else name
        if isinstance(value, dict):
            yield from _sources(value, here)
        elif here == "data.validation" or (
            name == "path" and role.split(".")[0] in ("data", "prompts", "heldout")
        ):
            yield here.removesuffix(".path"), str(value)


def _card(
    record: RunRecord,
    repo: str,
    results: Sequence[Results],
    *,
    base: str | None,
    licence: str | None,
    **words: Any,
) -> str:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    rows, hubs = _data_rows(record.recipe)
    heads = [Column(head, left=True) for head in ("used as", "made from", "edits", "splits", "licence")]
    scored = [
        EvalResult(
            task_type="image-to-image",
            dataset_type=str(one.benchmark["name"]),
            dataset_name=str(one.benchmark["title"]),
            metric_type="overall",
            metric_name=f"overall, 0-10, judged by {judge_name(one.verifier)}",
            metric_value=round(overall.mean, 3),
        )
        for one in results
        if (overall := one.all.scores.get("overall")) is not None
    ]
    data = ModelCardData(
        library_name="earl",
        pipeline_tag="image-to-image",
        tags=["image-editing", "autoregressive", record.stage],
        license=licence,
        base_model=base if base and _HUB_ID.fullmatch(base) else None,
        datasets=hubs or None,
        eval_results=scored or None,
        model_name=repo.partition("/")[2],
    )
    tables = [
        markdown_text(f"{one.benchmark['title']}, judged by {judge_name(one.verifier)}:")
        + f"\n\n{_scores(one)}"
        for one in results
    ]
    start = record.starts[-1] if record.starts else {}
    card = ModelCard.from_template(
        data,
        template_str=read_text(_CARD),
        name=repo.partition("/")[2],
        repo=repo,
        title=f"{markdown_text(title)}. " if (title := str(record.recipe.get("title", ""))) else "",
        version=start.get("versions", {}).get("earl", "?"),
        stage=record.stage,
        step=f"{record.step:,}",
        seed=record.recipe.get("run", {}).get("seed", "?"),
        base=base,
        licence=licence,
        scores="\n".join(tables) or "It was not evaluated, or its owner did not publish the evaluation.\n",
        data=Table("", heads, rows).markdown()
        if rows
        else "The recipe below names the prompts; no shards.\n",
        made=[(name, markdown_text(value)) for name, value in _made(start)],
        **words,
    )
    return str(card)


def _scores(results: Results) -> str:
    """The table without its title, which names the model by a folder of this machine."""
    table = score_table(results)
    return Table("", table.columns, table.rows, table.notes).markdown()


def _data_rows(recipe: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """A row for each folder of shards, and the hub names that they come from."""
    rows, hubs = [], []
    for role, folder in _sources(recipe):
        try:
            card = read_card(Path(folder).expanduser())
        except EarlError:  # the folder is gone or of an older version; the reader is told
            rows.append(Row((f"`{role}`", Path(folder).name, "?", "?", "its card is not at hand")))
            continue
        source = card.get("source", {})
        hub = source.get("hub")
        hubs += [hub] if isinstance(hub, str) and _HUB_ID.fullmatch(hub) else []
        origin = str(hub or source.get("name") or Path(folder).name)
        splits = ", ".join(f"{name} {count:,}" for name, count in card["splits"].items())
        licences = ", ".join(sorted(filter(None, card["licences"]))) or "not stated"
        rows.append(Row((f"`{role}`", one_line(origin), f"{card['edits']:,}", splits, one_line(licences))))
    return rows, list(dict.fromkeys(hubs))


def _limits(record: RunRecord, results: Sequence[Results], area: int | None) -> Iterator[str]:
    if area is not None:
        yield (
            f"Images are edited at about {area:,} px² ({round(area**0.5)} px square), with sides of at most "
            "5:1. What the tokenizer cannot keep is lost outside the edit too; `earl edit --keep-outside` "
            "keeps the source's pixels where nothing changed."
        )
    yield "Instructions of other kinds or in other languages than those of its training data are not tested."
    if not results:
        yield "No score is published, so how well it edits is not known."
    judges = {str(start["verifier"]) for start in record.starts if start.get("verifier")}
    for judge in sorted(judges):
        said = markdown_text(judge)
        yield f"It was rewarded by {said}: scores by the same verifier say more than they should."


def _made(start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    machine = start.get("machine", {})
    hardware = [str(machine.get("cpu", "?")), *map(str, machine.get("gpus", []))]
    yield (
        "hardware",
        f"{', '.join(hardware)}; ranks: {start.get('ranks', '?')}, on {start.get('device', '?')}",
    )
    yield "versions", ", ".join(f"{name} {version}" for name, version in start.get("versions", {}).items())


def _published(value: Any) -> Any:
    """A recipe for others: folders of this machine by their names, no addresses."""
    if isinstance(value, dict):
        return {name: _published(inner) for name, inner in value.items() if name not in _PRIVATE}
    if isinstance(value, list):
        return [_published(inner) for inner in value]
    own = isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~"))
    return Path(value).name if own else value
