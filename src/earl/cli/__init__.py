"""The command line: `earl COMMAND …`, also `python -m earl COMMAND …`.

Only the chosen command's module is imported, and torch only when the command runs, so that `earl --help`
answers at once. A user's mistake is one sentence on stderr and the error's exit code; any other exception
keeps its traceback, because it is our mistake.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from earl.cli.table import parse
from earl.errors import EarlError
from earl.progress import complain, one_line

INTERRUPTED = 130  # what a shell reports for Ctrl-C: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after `earl`; those of the process when None.

    Returns:
        The exit code: 0 done, 2 a user's mistake (or the error's own code), 130 interrupted.
    """
    _quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a test's own stream
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return parse(list(sys.argv[1:] if argv is None else argv))() or 0
    except SystemExit as leaving:  # argparse: help was printed, or an option was wrong
        return leaving.code if isinstance(leaving.code, int) else 0
    except EarlError as error:
        complain(f"earl: {one_line(str(error))}")
        return error.exit_code
    except PermissionError as error:
        if error.filename is None:
            raise
        complain(f"earl: {error.filename}: {error.strerror}; change its permissions, or name another place")
        return EarlError.exit_code
    except KeyboardInterrupt:
        complain("earl: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `earl models | head`: the reader has had enough
        return 0
    finally:
        _drop_unwritable()


def _quiet_libraries() -> None:
    """Keep libraries' warnings off the terminal, where a command's own sentences belong.

    `python -W` and PYTHONWARNINGS bring warnings back, the libraries' own variables their log messages.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torch's loggers have their own handler
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def _drop_unwritable() -> None:
    """Send what standard output cannot take to nowhere, or the interpreter complains when it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
