"""What README and docs tell people to type exists, parses, and points at files that are there."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
from importlib import import_module
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

from earl.cli import table
from earl.errors import EarlError
from earl.world.families import FAMILIES
from earl.world.language.tables import OPERATIONS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return [text for language, text in found if language in languages]


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every `earl …` line in the pages' shell blocks."""
    found = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "earl" in words and words[0] in ("earl", "accelerate"):
                given = takewhile(lambda word: word not in ("<", ">", "|"), words[words.index("earl") + 1 :])
                found.append((page.name, list(given)))
    return found


def links() -> list[tuple[Path, str, str]]:
    """(page, file, heading) of every link that does not leave the repository."""
    found = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not link.startswith(("http://", "https://")):
                target, _, heading = link.partition("#")
                found.append((page, target, heading))
    return found


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[\s_]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def test_every_command_in_the_pages_parses(capsys):
    wrong = []
    for page, words in commands():
        try:
            run = table.parse(words)
        except (EarlError, SystemExit) as error:
            wrong.append(f"{page}: earl {shlex.join(words)}: {error} {capsys.readouterr().err}")
        else:
            assert callable(run)
    assert not wrong, "\n".join(wrong)
    assert len(commands()) > 15


def test_every_command_and_option_named_in_a_sentence_exists(capsys):
    wrong, seen = [], 0
    for page in PAGES:
        if page.name == "CHANGELOG.md" or page.parent.name == "lab-notes":  # they name what is gone, too
            continue
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for words in (span.split() for span in re.findall(r"`earl ([a-z][^`\n]*)`", prose)):
            try:
                command = table.find(words)
            except SystemExit:
                wrong.append(f"{page.name}: {capsys.readouterr().err}")
                continue
            known = command.parser(command.load())._option_string_actions
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            wrong += [f"{page.name}: earl {command.words} {o}" for o in options if o not in known]
            seen += 1
    assert not wrong, "\n".join(wrong)
    assert seen > 50


def test_every_command_is_run_by_a_test():
    """Its words stand in some test as they are given to `main` or to a process."""
    here = Path(__file__).parent
    parsed_only = {"test_readme.py", "test_cli_table.py", "test_cli_outputs.py", "test_cli_bad_input.py"}
    tests = [path for path in here.rglob("*.py") if path.name not in parsed_only]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    missing = [
        command.words
        for command in table.COMMANDS
        if not re.search(
            r"[(\[]\s*" + r",\s*".join(f'"{word}"' for word in command.words.split()) + r"[,\]]", text
        )
        and not re.search(r'"earl", ' + ", ".join(f'"{word}"' for word in command.words.split()), text)
    ]
    assert not missing


def outputs() -> set[str]:
    """What the commands in the pages write: values of -o, --out and --sheet."""
    flags = ("-o", "--out", "--sheet")
    return {words[at + 1] for _, words in commands() for at, word in enumerate(words[:-1]) if word in flags}


def test_what_the_pages_write_does_not_show_in_git_status(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    written = [*sorted(outputs() - {"-"}), "photo-edited.png", "photos-edited/a.png", "edited/a.png"]
    assert len(written) > 30
    asked = ["git", "-C", str(tmp_path), "check-ignore", "--verbose", "--non-matching", "--stdin"]
    said = subprocess.run(asked, input="\n".join(written), text=True, capture_output=True)
    shown = [line.split("\t")[1] for line in said.stdout.splitlines() if line.startswith("::")]
    assert [name for name in shown if not name.startswith("experiments/")] == []


def test_every_command_is_explained():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert not [command.words for command in table.COMMANDS if f"earl {command.words}" not in page]


def test_links_lead_somewhere():
    """To a file that is there; and, in a page, to a heading that is."""
    wrong = []
    for page, target, heading in links():
        path = (page.parent / target).resolve() if target else page
        headings = anchors(path) if heading and path.suffix == ".md" and path.exists() else {heading}
        if not path.exists() or heading not in headings:
            wrong.append(f"{page.relative_to(ROOT)}: {target}#{heading}")
    assert not wrong, "\n".join(wrong)


def test_recipes_named_in_the_pages_exist():
    for page in PAGES:
        for name in re.findall(r"recipes/[\w/.-]+\.toml", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_every_make_target_named_exists():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.M))
    assert {"demo", "test", "check", "bench", "docs"} <= named <= make_targets()


def test_what_the_architecture_page_names_is_there():
    """Files under src/earl, the names given beside them, and dotted names."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "earl"
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        assert (package / name).is_file() or (ROOT / name).is_file(), name
    for name in re.findall(r"`(earl(?:\.\w+)+)`", text):
        module, _, attribute = name.rpartition(".")
        exists = find_spec(module) and (find_spec(name) if package_of(module) else None)
        assert exists or hasattr(import_module(module), attribute), name
    for cell in re.findall(r"\| ([^|]*\.py`[^|]*) \|$", text, re.M):
        for path, names in re.findall(r"`([\w/]+\.py)`((?:, `[\w.]+`)*)", cell):
            source = (package / path).read_text(encoding="utf-8")
            for name in re.findall(r"`([\w.]+)`", names):
                for part in name.split("."):
                    assert re.search(rf"(def|class) {part}\b", source), f"{path} has no {name}"


def package_of(module: str) -> bool:
    return (ROOT / "src" / Path(*module.split("."))).is_dir()


def test_python_in_the_pages_is_python():
    for page in PAGES:
        for text in blocks(page, "python"):
            ast.parse(text, filename=str(page))


def test_the_python_of_the_readme_runs_as_pasted(tmp_path, monkeypatch):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    for text in blocks(ROOT / "README.md", "python"):
        exec(compile(text, "README.md", "exec"), {})
    assert (tmp_path / "night.png").is_file()


def test_the_readme_opens_with_the_image_and_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    picture, demo, test = (text.index(part) for part in ("docs/images/demo.png", "make demo", "make test"))
    assert picture < demo < test < 500


def test_ci_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test$", script.read_text(encoding="utf-8"), re.M)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_the_pages_of_the_site_are_all_in_its_menu():
    listed = set(re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    docs = ROOT / "docs"
    assert listed == {str(page.relative_to(docs)) for page in docs.rglob("*.md")}


def test_every_lab_note_is_in_the_index():
    notes = ROOT / "docs" / "lab-notes"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (notes / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.name for page in notes.glob("*.md") if page.name != "index.md")


def test_the_readme_has_one_table_of_at_most_eight_rows():
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert rows[1].startswith("| ---") and len(rows) <= 2 + 8


def test_every_wording_of_the_world_is_on_its_page():
    page = (ROOT / "docs" / "world.md").read_text(encoding="utf-8")
    missing = [text for table in OPERATIONS.values() for text in table["plain"] if f"`{text}`" not in page]
    assert not missing
    assert all(f"| {family} | {group} |" in page for family, group in FAMILIES.items())


def test_the_version_is_in_the_changelog():
    from earl import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
