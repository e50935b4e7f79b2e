"""Terminal output on stderr: the progress display of all commands, and text that is safe to print.

Progress is shown only where stderr is a terminal; a pipe or a file gets plain lines and nothing else.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from earl.errors import OutputError, shortened

if TYPE_CHECKING:
    import rich.progress

# Control characters except tab and line feed, C1 controls, separators that break lines, marks that
# reverse the reading direction, and the surrogates that stand for bytes which are not UTF-8.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Text of unknown origin (a file name, a model's answer) for a terminal, with `\x1b` for an escape.

    Tabs and line feeds stay; control characters, direction marks and undecodable bytes are escaped.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """The same on one line."""
    return printable(" ".join(text.split()))


def say(text: str = "") -> None:
    """Print a line on standard output, `printable`.

    Raises:
        OutputError: standard output cannot take it, as on a full disk.
        BrokenPipeError: its reader has gone.
    """
    with _written():
        print(printable(text), flush=True)


def say_bytes(content: bytes) -> None:
    """Write bytes to standard output; raises as `say`, and where there is none."""
    if sys.stdout is None:
        raise OutputError("standard output is closed; name a file with --out")
    with _written():
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def complain(text: str, stream: TextIO | None = None) -> None:
    """Print a line on standard error or another stream, `printable`; lost where that is closed or full."""
    stream = stream or sys.stderr
    with suppress(OSError):
        if stream is not None:  # `print` would take standard output in its place
            print(printable(text), file=stream, flush=True)


def warn(text: str) -> None:
    """Print a warning as one line on standard error; nothing for ""."""
    if text:
        complain(f"earl: warning: {shortened(one_line(text))}")


class Progress:
    """One bar for each named task. A context manager, and a function `(task, done, total, note)`.

    Args:
        stream: a terminal to draw on; standard error when None. On anything else nothing is drawn.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream or sys.stderr  # None where a process has none
        self.shown = bool(self._stream and self._stream.isatty()) and os.environ.get("TERM") != "dumb"
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._details = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(
        self,
        task: str,
        done: int,
        total: int | None = None,
        note: str | None = "",
        details: str | None = None,
    ) -> None:
        """Show how far a task is.

        Args:
            task: its name; a new name adds a bar.
            done: units done; total: units in all, None where that is unknown.
            note: free text behind the bar; None leaves what is there.
            details: text in lines of its own below all bars, wrapped to the terminal; None leaves what
                is there.
        """
        if not self.shown:
            return
        bars = self._open()
        if task not in self._tasks:
            self._tasks[task] = bars.add_task(printable(task), total=total, completed=done, note="")
        if note is not None:
            bars.update(self._tasks[task], note=printable(note))
        if details is not None:
            self._details = printable(details)
        bars.update(self._tasks[task], completed=done, total=total)

    def task(self, name: str) -> Callable[[int, int | None], None]:
        """The same for one task: a function `(done, total)`."""
        return lambda done, total: self(name, done, total)

    def line(self, text: str) -> None:
        """Print one line, above the bars where there are any, also to a pipe or a file.

        Where nobody reads it any more, or the disk is full, the line is lost and the work goes on.
        """
        if self._bars is not None:
            self._bars.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            complain(text, self._stream)

    def close(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _open(self) -> rich.progress.Progress:
        if self._bars is None:
            from rich.console import Console, RenderableType
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as _Bars
            from rich.text import Text

            shown = self

            class Bars(_Bars):
                def get_renderables(self) -> Iterator[RenderableType]:
                    yield from super().get_renderables()
                    if shown._details:
                        yield Text(shown._details, style="dim")

            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(elapsed_when_finished=True),
                BarColumn(bar_width=20),
                console=Console(file=self._stream),
            )
            self._bars.start()
        return self._bars
