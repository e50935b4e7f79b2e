"""Tables in four forms: the same numbers, and names of strangers that do no harm."""

from __future__ import annotations

import csv
import io

import pytest

from earl.records import Estimate
from earl.tables import Column, Row, Table

EVIL = (
    "\x1b[31mred\x1b]0;title\x07",
    "two\nlines | and a bar",
    "red\r=cmd|' /C calc'!A0",
    "\t=1+1",
    "=cmd|' /C calc'!A0",
    " +1",
    "-2",
    "@SUM(A1)",
    "<script>alert(1)</script> & more",
    "100% of $1_000 #1 {x} ~ ^ \\",
    "\u202eevil\u2028line",
)


def table(name: str) -> Table:
    columns = [Column("family", left=True), Column("n"), Column("overall", interval=True), Column("SC")]
    estimate = Estimate(5.0, 4.0, 6.5, 7)
    rows = [Row([name, 7, estimate, estimate]), Row(["all", 7, None, estimate], "all")]
    return Table(f"{name} on it", columns, rows, [f"about {name}"])


@pytest.mark.parametrize("name", EVIL)
def test_names_of_strangers_do_no_harm(name):
    shown = table(name)
    text, markdown, latex, written = shown.text(), shown.markdown(), shown.latex(), shown.csv()
    for form in (text, markdown, latex, written):
        assert not {"\x1b", "\x07", "\r", "\u202e", "\u2028"} & set(form)
        assert len(form.splitlines()) == len(
            getattr(
                table("x"), {text: "text", markdown: "markdown", latex: "latex"}.get(form, "csv")
            )().splitlines()
        )
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
    assert "<script>" not in markdown
    cells = list(csv.reader(io.StringIO(written)))
    assert all(len(row) == 8 for row in cells)
    assert not cells[1][0].lstrip().startswith(("=", "+", "-", "@"))


def test_the_same_numbers_in_every_form():
    shown = table("blue")
    assert shown.text().splitlines()[2].split() == ["blue", "7", "5.00", "[4.00,", "6.50]", "5.00"]
    assert "| blue | 7 | 5.00 [4.00, 6.50] | 5.00 [4.00, 6.50] |" in shown.markdown()
    assert r"blue & 7 & 5.00 {\scriptsize$\pm$1.25}" in shown.latex() and r" & -- & " in shown.latex()
    rows = list(csv.DictReader(io.StringIO(shown.csv())))
    assert (rows[0]["overall"], rows[0]["overall_low"], rows[0]["SC_high"]) == ("5.0", "4.0", "6.5")
    assert rows[1]["overall"] == rows[1]["overall_low"] == ""
