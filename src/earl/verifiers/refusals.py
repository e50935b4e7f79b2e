"""Refusals in a judge's answer: sentences of some thirty languages (`refusals.toml`), flags in its objects.

Prose that refuses makes the scores beside it no verdict, in whatever form they stand. Inside an object a text
may well say what could not be seen in an image, so there it has to be the judging itself that is declined.
A verdict that is taken for a refusal is only lost, so in doubt it is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from earl.endpoints.reading import Node
from earl.files import parse_toml, read_text

_FILE = Path(__file__).with_suffix(".toml")
_TABLES = parse_toml(read_text(_FILE), str(_FILE))
_CANNOT, _JUDGING = _TABLES["cannot"], _TABLES["judging"]


def _any_of(*names: str) -> str:
    """One expression for all of some tables."""
    text = "|".join(part for name in names for part in _TABLES[name])
    for name in ("cannot", "judging", "object"):
        text = text.replace(f"<{name}>", _TABLES[name])
    return text


_AT_START, _SORRY = _any_of("at_start"), rf"\A\W*(?:{_any_of('sorry')})"
_PROSE = re.compile(rf"\b(?:{_any_of('never_judged', 'in_prose')})|{_AT_START}|{_SORRY}", re.M)
_INSIDE = re.compile(
    rf"\b(?:{_any_of('never_judged')})|{_AT_START}"
    rf"|\A\W*{_CANNOT}[^.!?\n]{{0,20}}?\b{_JUDGING}"
    rf"|\b(?:i|we)\b[^.!?\n]{{0,20}}\b{_CANNOT}[^.!?\n]{{0,40}}?\b(?:{_JUDGING}|(?:assist|help|comply)\b)",
    re.M,
)
_JUDGING_ELSEWHERE = re.compile(_any_of("judging_elsewhere"))
_UNABLE_ELSEWHERE = re.compile(_any_of("unable_elsewhere"))
_SENTENCE_ENDS = re.compile(r"[.!?;:。！？؟।\n]")
_VERB = r"(?:judg|rat|scor|assess|evaluat|grad|answer)"
_ABLE = rf"(?:be)?{_VERB}(?:e|ed|e?able)?(?:this|it|images?|edit)?"
_NOT_IF_TRUE = re.compile(  # names of flags, without marks between their words
    r"(?:is|was|has|i|judge)?(?:refus(?:e[ds]?|al|ing)|declin(?:e[ds]?|ing)|abstain(?:s|ed)?|skipped|error|"
    r"placeholder|example|sample|template|draft|dummy|mock|hypothetical)"
    rf"(?:answer|response|output|scores?|values?|to{_VERB}e?)?"
    rf"|(?:is)?un{_VERB}(?:ed|e?able)|(?:i|is|judge)?(?:can(?:no|')?t|couldnot|unableto|notableto"
    rf"|not){_ABLE}"
)
_NOT_IF_FALSE = re.compile(
    rf"(?:i|is|judge)?(?:can|could|ableto){_ABLE}|(?:is|was)?{_VERB}(?:ed|e?able)|(?:is)?final"
    r"|(?:is)?(?:scores?|answer|rating|judge?ment|verdict)(?:is|are)?(?:valid|real|final|reliable)"
    r"|(?:is)?(?:valid|real|final|reliable)(?:scores?|answer|rating|judge?ment|verdict)"
)
_SURE, _NOTHING = re.compile(r"confidence(?:level|score)?"), re.compile(r"0+(?:\.0*)?%?|zero|none")
_TRUE, _FALSE = frozenset(("true", "yes", "1")), frozenset(("false", "no", "0"))
_FAILED = frozenset(("error", "failed", "failure", "refused", "declined", "skipped", "aborted"))
_NO_TEXT = frozenset(("", "none", "null", "n/a", "na", *_FALSE))


def declines(text: str) -> bool:
    """Whether prose says that it will not judge, or that its scores are not meant."""
    text = text.lower()
    return bool(_PROSE.search(text)) or _declines_elsewhere(text)


def _declines_elsewhere(text: str) -> bool:
    """Whether a lower-case text declines in another language than English."""
    for match in _JUDGING_ELSEWHERE.finditer(text):
        before = _SENTENCE_ENDS.split(text[max(0, match.start() - 60) : match.start()])[-1]
        after = _SENTENCE_ENDS.split(text[match.start() : match.end() + 60])[0]
        if _UNABLE_ELSEWHERE.search(before + after):
            return True
    return False


def refusals(node: Node) -> Iterator[str]:
    """Why an object is no verdict: a text in it declines to judge, or a flag says that none was made."""
    if node.kind == "string":
        said = node.text.lower()
        if _INSIDE.search(said) or _declines_elsewhere(said):
            yield "the answer declines to judge"
    for key, item in zip(node.keys, node.items, strict=False):
        name, said = re.sub(r"[^a-z']", "", key.lower()), item.text.strip().lower()
        if item.kind in ("bare", "string") and (
            (said in _TRUE and _NOT_IF_TRUE.fullmatch(name))
            or (said in _FALSE and _NOT_IF_FALSE.fullmatch(name))
            or (re.match("refus|declin|abstain|error", name) and said not in _NO_TEXT)
            or (name in ("status", "state") and said in _FAILED)
            or (_SURE.fullmatch(name) and _NOTHING.fullmatch(said))
        ):
            yield f'the answer says "{key.strip()[:40]}": {item.text.strip()[:40]}, so it is no verdict'
    for item in node.items:
        yield from refusals(item)
