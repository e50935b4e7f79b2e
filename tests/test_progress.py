"""The progress display: bars on a terminal, plain lines elsewhere; control characters escaped."""

from __future__ import annotations

import io
import sys

import pytest

from earl.cli import main
from earl.progress import Progress, one_line, printable, warn


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError("no space left")


def run(stream: io.StringIO) -> str:
    with Progress(stream) as progress:
        progress("images \x1b]0;title\x07", 1, 3, "[red]loss\x1b[2J")
        progress.line("validation [b]2.5[/b] \x9b1m")
        progress.task("verdicts")(2, None)
        progress("images \x1b]0;title\x07", 3, 3, "[red]loss")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")


def test_a_terminal_shows_a_bar_a_task_and_lines_above_them() -> None:
    shown = run(Terminal())
    for text in ("images", "3/3", "verdicts", "2/?", "[red]loss", "validation [b]2.5[/b]"):
        assert text in shown
    for code in ("\x1b]0", "\x1b[2J", "\x9b"):
        assert code not in shown


def test_a_pipe_shows_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(io.StringIO()) == "validation [b]2.5[/b] \\x9b1m\n"


def test_a_dumb_terminal_is_no_place_for_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert run(Terminal()) == "validation [b]2.5[/b] \\x9b1m\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("name-\udcff.png", "name-\\udcff.png"),
        ("two\nlines\tand a tab, é, 图", "two\nlines\tand a tab, é, 图"),
        ("\r\x7f\x85\u2028\u202e", "\\r\\x7f\\x85\\u2028\\u202e"),
    ],
)
def test_text_of_strangers_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_one_line_has_no_breaks() -> None:
    assert one_line(" an answer\n\tof two\x1b[31m lines ") == "an answer of two\\x1b[31m lines"


def test_what_standard_error_cannot_take_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    warn("lost")
    monkeypatch.setattr(sys, "stderr", None)  # as with 2>&-
    warn("lost too")
    Progress().line("and this")
    assert main(["edit", "nowhere.png", "paint it"]) == main(["no such"]) == 2
    assert capsys.readouterr().out == "", "standard output may be the image"
