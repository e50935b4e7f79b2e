"""HTML in words that others wrote: it changes neither the elements of a page nor their attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import tomli_w
import tomllib

from earl.convert.card import model_card
from earl.data.card import _page
from earl.evaluation.page import write_page
from earl.pages.run import write_run_page
from earl.pages.run_record import read_run
from earl.publishing import _card
from earl.tables import Column, Row, Table
from evaluation.evaluation_parts import Inverter, run
from pages.test_report_page import make_run

WORD = "quince"  # stands where words of others stand
PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><img src=x onerror='alert(1)'>",
    "'><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "`onmouseover=alert(1)`",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</pre></div></body><h1>gone</h1>",
    "<!-- a comment",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<base href='https://example.com/'>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "<form action='https://example.com'><input name=q>",
    "<style>*{display:none}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{ 7 * 7 }}{% for x in y %}<%= 1 %>${alert(1)}",
)


class Structure(HTMLParser):
    """Elements in order with their attributes' names, addresses, and what scripts and styles say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[object] = []
        self.within = ""
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within = tag
        places = [value for name, value in attrs if name in ("href", "src", "style", "action", "srcdoc")]
        self.seen.append((tag, [name for name, _ in attrs], places))
        self.words += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.within = ""
        self.seen.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.seen.append(f"comment {data}")

    def handle_decl(self, decl: str) -> None:
        self.seen.append(f"declaration {decl}")

    def unknown_decl(self, data: str) -> None:
        self.seen.append(f"unknown {data}")

    def handle_data(self, data: str) -> None:
        if self.within in ("script", "style"):
            self.seen.append(data)
        self.words.append(data)


def reworded(folder: Path, word: str) -> None:
    """Another word wherever the folder's records have `WORD`."""
    for path in folder.rglob("*.json*"):
        path.write_text(path.read_text().replace(WORD, json.dumps(word)[1:-1]))
    recipe = folder / "recipe.toml"
    if recipe.is_file():
        table = tomllib.loads(recipe.read_text())
        recipe.write_text(tomli_w.dumps({**table, "title": table["title"].replace(WORD, word)}))


def page_of_a_run(home: Path, word: str) -> str:
    folder = make_run(home / "run", steps=20)
    for path in [*folder.rglob("*.json*"), folder / "recipe.toml"]:
        others = r"A <run>|paint it <b>|earl-scene|a processor|2\.13\.0|strange|no idea|close"
        path.write_text(re.sub(others, WORD, path.read_text()))
    reworded(folder, word)
    return write_run_page(folder, home / "page.html").read_text()


def page_of_evaluations(home: Path, word: str) -> str:
    for name, edit in (("a", Inverter()), ("b", Inverter(no_image=["t1"]))):
        edit.name = name
        run(home, name, editor=edit, count=4)
        for path in (home / name).rglob("*.json*"):
            path.write_text(re.sub(r"invert|even|brightness|seen|cut off", WORD, path.read_text()))
        reworded(home / name, word)
    return write_page(home / "a", home / "page.html", other=home / "b").read_text()


def card_of_data(home: Path, word: str) -> str:
    card = {"splits": {"train": 2}, "splits_by_family": {"train": {word: 2}}, "licences": {word: 2}}
    card |= {"source": {"name": word}, "made_with": {"origin": word}, "hashes": {"rows": "0"}}
    card |= {"without_target": 0, "with_reasoning": 0, "edits": 2, "holdout": {}}
    return _page(word, card).partition("\n---\n")[2]


def table_in_markdown(home: Path, word: str) -> str:
    rows = [Row((word, 1.0)), Row(("x", 2.0))]
    return Table(word, [Column("family", left=True), Column("score")], rows, notes=[word]).markdown()


def card_of_a_converted_model(home: Path, word: str) -> str:
    meta = {"origin": {"source": word, "earl": "0"}, "parts": ["policy"], "licence": word}
    return re.sub("`[^`]*`", "code", model_card(meta, {}).split("\n---\n", 1)[1])  # code is shown as it is


def card_of_a_run(home: Path, word: str) -> str:
    page_of_a_run(home, word)
    card = _card(read_run(home / "run"), "a/b", [], base=None, licence=None, limits=[], notes="")
    return card.split("\n---\n", 1)[1].partition("```toml")[0]


PAGES = [page_of_a_run, page_of_evaluations, card_of_data, card_of_a_converted_model, card_of_a_run]
PAGES += [table_in_markdown]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.__name__)
def test_words_stay_words(page: Callable[[Path, str], str], tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = Structure(page(tmp_path / "plain", WORD))
    assert any(WORD in word for word in plain.words), "the page shows it"
    for number, payload in enumerate(PAYLOADS):
        home = tmp_path / str(number)
        home.mkdir()
        found = Structure(page(home, payload))
        assert found.seen == plain.seen, payload
        assert sum(word.count(WORD) for word in found.words) == 0
