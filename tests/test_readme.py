"""What README and docs tell people to type exists, parses, and points at files that are there."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from earl.cli import table
from earl.models.resolve import shipped_folder
from earl.world import FAMILIES
from earl.world.language import TEMPLATES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE_WITH_THE_MODEL = {"docs/images/demo.png"}


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return [text for language, text in found if language in languages]


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every `earl …` line in the pages' shell blocks."""
    found = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).splitlines():
            words = shlex.split(line, comments=True)
            if "earl" in words and words[0] in ("earl", "accelerate"):
                found.append((page.name, words[words.index("earl") + 1 :]))
    return found


def links() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                found.append((page, target))
    return found


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: str(value)[:60])
def test_every_command_in_the_pages_parses(page, words):
    run, _ = table.parse(words)
    assert callable(run)


def test_there_are_commands_to_check():
    assert len(commands()) > 15


@pytest.mark.parametrize("command", table.COMMANDS, ids=lambda command: command.words)
def test_every_command_is_explained(command):
    assert f"earl {command.words}" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda value: str(value).rpartition("/")[2])
def test_links_lead_somewhere(page, target):
    path = (page.parent / target).resolve()
    if not (shipped_folder() / "earl.json").exists() and str(path.relative_to(ROOT)) in MADE_WITH_THE_MODEL:
        return  # the image is made by the shipped model, and comes with it
    assert path.exists()


def test_recipes_named_in_the_pages_exist():
    for page in PAGES:
        for name in re.findall(r"recipes/[\w/.-]+\.toml", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_every_make_target_named_exists():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make ([a-z]+)`", text)) | set(re.findall(r"^make ([a-z]+)", text, re.M))
    assert {"demo", "test", "check", "bench", "docs"} <= named <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_pages_is_python(page):
    for text in blocks(page, "python"):
        ast.parse(text)


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
    listed = set(re.findall(r"([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_every_wording_of_the_world_is_on_its_page():
    page = (ROOT / "docs" / "world.md").read_text(encoding="utf-8")
    missing = [text for wordings in TEMPLATES.values() for text in wordings if f"`{text}`" not in page]
    assert not missing
    assert all(f"| {family} | {group} |" in page for family, group in FAMILIES.items())


def test_the_version_is_in_the_changelog():
    from earl import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
