"""What a command said on stderr."""

from __future__ import annotations


def one_sentence(capsys) -> str:
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("earl") and "Traceback" not in said, said
    return said
