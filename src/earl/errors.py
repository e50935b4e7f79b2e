"""The exception family: every mistake of a user raises one of these, with one clear sentence.

A message says what was given, what was expected, and what to do. The command line prints
it without a traceback and leaves with `exit_code`. `assert` is for our own mistakes.
"""

from __future__ import annotations

LONGEST = 1000  # characters of a message


def shortened(message: str) -> str:
    """The message with its middle cut out where it is long, as one that quotes its input may be."""
    if len(message) <= LONGEST:
        return message
    return f"{message[: LONGEST * 2 // 3]} … {message[-LONGEST // 3 :]}"


class EarlError(Exception):
    """Base of all errors that a user can cause; the command line prints only its message, `shortened`."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ConfigError(EarlError, ValueError):
    """A recipe or an option: unknown key, wrong type, out of range, two fields that disagree."""


class ImageError(EarlError, ValueError):
    """An image that is missing, unreadable, or of a shape that cannot be edited."""


class InstructionError(EarlError, ValueError):
    """An instruction that is empty, too long, or not understood."""


class SequenceError(EarlError, ValueError):
    """Token ids that do not form what the layout expects."""


class TokenizerError(EarlError, ValueError):
    """Files of a text tokenizer that are missing or do not fit together."""


class ModelNotFoundError(EarlError, FileNotFoundError):
    """A model name or folder that does not exist or lacks a file."""


class ModelFormatError(EarlError, ValueError):
    """Weights or configuration in a form that is not accepted (pickle, truncated, wrong shapes)."""


class DataError(EarlError, ValueError):
    """Shards, sources or mixtures that cannot be read or are empty."""


class CheckpointError(EarlError, OSError):
    """A checkpoint that cannot be written or read; what was saved before is intact."""


class TrainingError(EarlError, RuntimeError):
    """Training had to stop (not-a-number loss, no usable sample); a checkpoint was kept."""


class Interrupted(EarlError, RuntimeError):
    """Work that Ctrl-C or SIGTERM ended; what is done is kept. Leaves with 130 or 143."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class RewardError(EarlError, ValueError):
    """Rewards that are not finite or groups too small."""


class VerifierError(EarlError, RuntimeError):
    """A verifier that cannot be reached or set up."""


class EndpointError(EarlError, RuntimeError):
    """A model's endpoint that cannot be reached, or gives no answer now; asking later may help."""


class InvalidAnswerError(EarlError, ValueError):
    """An answer of a model that cannot be used; the message says why, to people and to the model.

    `refused`: the endpoint understood the question and will not answer it, now or later.
    """

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


class EngineError(EarlError, RuntimeError):
    """An engine outside our own (vLLM) that cannot be started, reached or given new weights."""


class MissingExtraError(EarlError, ImportError):
    """A library of an optional extra is not installed; the message names the extra."""


class OutputError(EarlError, OSError):
    """An output that exists already, or cannot be written; what was there before is intact."""
