"""The command line: `earl COMMAND …`, also `python -m earl COMMAND …`.

Only the chosen command's module is imported, and torch only inside it when it runs, so that
`earl --help` answers at once. A user's mistake is one sentence on stderr and the error's exit
code; anything else keeps its traceback, because it is our mistake.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from earl.cli.table import parse
from earl.errors import EarlError

INTERRUPTED = 130  # what a shell reports for Ctrl-C: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after `earl`; those of the process when None.

    Returns:
        The exit code: 0 done, 2 a user's mistake (or the error's own code), 130 interrupted.
    """
    # torchao, where it is installed, is imported by others and warns of GPU kernels that a CPU lacks.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        run, options = parse(list(sys.argv[1:] if argv is None else argv))
        return run(options)
    except SystemExit as leaving:  # argparse: help was printed, or an option was wrong
        return leaving.code if isinstance(leaving.code, int) else 0
    except EarlError as error:
        print(f"earl: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("earl: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `earl models | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
