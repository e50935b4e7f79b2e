"""Scores in a judge's answer; what is not certain is unusable.

A score counts as the answer's own JSON object, which stands on lines of its own, or in its last line, as
`score: [...]`, or as a list alone if no sentence stands before it; `read_tagged` and `read_lines` read the
forms of other published questions. What was thought aloud, and what stands in an example or in the middle of
prose, does not count. All scores that stand anywhere in the answer must agree. Numbers are checked for count,
range and being numbers.
`tests/vectors/judge_answers.json` has 27 answers and what is read from each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from earl.endpoints.reading import LONGEST, Node, objects, value_at, without_thinking
from earl.verifiers.refusals import declines, refusals

_WRAPPERS = re.compile("answer|assessment|evaluation|final|final_answer|judgment|output|response|result")
_MOST_BRACKETS = 500
_NEAR = 400  # characters before and after a score that are looked at
_WHOLE = re.compile(r"[+-]?\d{1,4}")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_LIST = re.compile(r"\[([\s\d.,+\-\"']{0,200})\]")
_KEYED = re.compile(
    r"(?<!\w)[\"'*_`]{0,4}scores?[\"'*_`]{0,4}\s{0,8}(?:[:=：]|\bis\b"
    r"|\bare\b)[\"'*_`\s]{0,8}\[([^\[\]{}]{0,200})\]",
    re.I,
)
_TAG = re.compile(r"<[/|]?[\w|/ ]{1,30}>|\|\|V\^=\^V\|\|", re.I)
_LABEL = re.compile(
    r"\b(?:my|the|here|is|are|so|and|thus|hence|therefore|final|overall|answer|evaluation|output"
    r"|result|json|thought)\b",
    re.I,
)
_LED_TO = re.compile(r"(?:[:：=]|\A)[\s\"'*_`]*\Z")  # a list behind it is announced, or all there is
_CLAUSE_END = re.compile(r"[.,;:!?)]")
_BECAUSE = re.compile(r"\b(?:because|since|due to)\b", re.I)
_REASONS = re.compile(r"\n[\s*_#>-]{0,8}(?:reasoning|reasons?|explanation|rationale)[\s*_]{0,4}[:：]", re.I)
_EXAMPLE = re.compile(
    r"\b(?:example|template|instance|such as|like this|e\.g\.|"
    r"format (?:is|would|should|must|looks))[^\n]{0,80}\Z"
    r"|\b(?:sample|schema|draft|thinking|assum\w+|suppos\w+|if|might|hypothetical\w*|guess"
    r"|placeholders?|default)\b"
    r"[^\n.!?]{0,80}\Z",
    re.I,
)
_OTHER_LIST = re.compile(  # announces a list that is not one of scores
    r"\b(?:images?|pictures?|photos?|figures?|references?|sources?|citations?|pages?|sections?"
    r"|polic(?:y|ies)|"
    r"regions?|box|bbox|coordinates)\W*\Z",
    re.I,
)
_DOUBT = re.compile(
    r"(?:[\n.!?]\s{0,4}(?:(?:no|oh|but|hmm+),? )?(?:wait|actually|on second thought|scratch that"
    r"|correction|"
    r"hmm+|I take (?:that|it) back)|\blet me (?:look|check|re\w+))\b",
    re.I,
)
_VERSION = r"(?:first|initial|draft|preliminary|previous|earlier|tentative|final|revised|updated|corrected)"
_OTHER_SCORE = re.compile(
    rf"{_VERSION}(?:[_ -]?(?:scores?|ratings?))?|scores?[_ -]{_VERSION}|ratings?|scoring|grades?|verdict"
)
_PART = re.compile(
    r"(?:edit[_ ]?)?success|restraint|over[_ ]?editing|naturalness|artifacts|overall(?:[_ ]score)?"
)
_FIGURE = r"\d{1,4}(?:\.\d{1,4})?"
_WORDS = "zero|one|two|three|four|five|six|seven|eight|nine|ten"
_IN_WORDS = re.compile(rf"\b({_WORDS})(?: points?)? out of (?:ten|five|10|5)\b", re.I)
_OUT_OF = re.compile(rf"({_FIGURE})\s{{0,2}}(?:/|out of)\s{{0,2}}\d{{1,4}}", re.I)
_NAMED = (
    r"(?:scores?|ratings?|punkte|bewertung|puntuaci[oó]n|puntaje|calificaci[oó]n|pontuaç[aã]o"
    r"|punteggio|оценк\w"
    r"|балл\w*|ocena|分数|分數|评分|評分|得分|打分|スコア|点数|점수)"
)
_STATED = re.compile(  # as "Score: 8/10, 9/10", "final: 8 and 9", "score (of all) -> (8, 9)"
    rf"(?<![^\W_])(?:{_NAMED}(?:[ _#]?[12](?=\s?[:=]))?[^\w\n]{{0,12}}(?:\n[^\w\n]{{0,8}})?"
    r"(?:(?:is|are|now|boxed|should be|would be)[^\w\n]{1,8}){0,2}"
    rf"|{_NAMED}[^\[\](){{}}\n]{{0,40}}(?:\([a-z ]{{1,20}}\)[^\w\n]{{0,8}})?"
    rf"[\[(（【［{{]\s?(?={_FIGURE}\s?[^\w\n])"
    rf"|(?:{_VERSION}|overall|(?:edit )?success|restraint|over-?editing|naturalness|artifacts|on reflection"
    r"|(?:final )?answer|verdict)[^\w\n]{0,6}(?:[:=：]|->|→|\b(?:is|are|should be|would be)\b)[^\w\n]{0,8}"
    r"(?:boxed[^\w\n]{0,4})?)"
    rf"({_FIGURE}(?:(?:[^\w\n]|\n\s{{0,8}}[-*•]|\band\b|\bout of\b){{1,12}}{_FIGURE}){{0,8}})(?![\w.]\d)",
    re.I,
)
_FIGURES_ALONE = re.compile(
    rf"^(?:[^\w\n]|boxed){{0,20}}({_FIGURE}(?:[^\w\n]{{1,8}}{_FIGURE}){{1,8}})[^\w\n]{{0,20}}$", re.M
)
_TAGGED = re.compile(r"<score>([^<>]{0,40})</score>", re.I)
_OWN_LINE = re.compile(
    rf"^[^\w\n]{{0,8}}(?:(?:the|my|final|overall) ){{0,3}}score(?: is)?[^\w\n]{{0,8}}({_FIGURE})", re.I | re.M
)
_FINAL = re.compile(
    r"\bfinal[ _]score\b(?: is\b)?[\s*_`:：=]{0,12}(\d{1,4})(?:/[15])?(?![\d/–-]|[.,]\s?\d)", re.I
)
_LINE = re.compile(r"^[ \t*-]*[A-Z][^\n:]{2,60}:[ \t*]*(\d{1,4})[ \t*.]*$", re.M)


@dataclass(frozen=True, slots=True)
class Reading:
    """Scores, or the problem that leaves none. `spans` says where in the answer each number stands."""

    scores: tuple[float, ...] | None
    problem: str = ""
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Mention:
    """Scores somewhere in an answer. `counts`: they stand where a verdict stands."""

    value: Node
    counts: bool


def read_scores(
    answer: str, *, count: int = 2, low: float = 0, high: float = 10, cut_off: bool = False
) -> Reading:
    """Read `count` scores in [low, high] from a judge's answer, in time proportional to its length.

    Never raises for what a judge wrote: `scores` is None and `problem` says why.

    Args:
        cut_off: the answer was ended by a limit, not by the judge. Then only its own object counts.
    """
    text, problem = _spoken(answer, cut_off)
    if problem:
        return Reading(None, problem)
    if text.count("[") + text.count("{") > _MOST_BRACKETS:
        return Reading(None, f"the answer has more than {_MOST_BRACKETS} brackets")
    prose, mentions, parts, refusal = _in_objects(text, cut_off)
    mentions += _in_prose(prose, f"[{low:g},{high:g}]", cut_off)
    if not any(mention.counts for mention in mentions):
        return Reading(None, _missing(prose, mentions, cut_off))
    if refusal or declines(prose):
        return Reading(None, refusal or "the answer declines to judge")
    readings = [_checked(mention.value, count, low, high) for mention in mentions]
    for reading in readings:
        if reading.scores is None:
            return reading
    first = readings[0].scores
    if any(reading.scores != first for reading in readings) or _states_others(prose, parts, first, low, high):
        return Reading(None, "several verdicts that differ")
    return next(r for r, mention in zip(readings, mentions, strict=True) if mention.counts)


def read_tagged(answer: str, *, low: int, high: int, cut_off: bool = False) -> Reading:
    """One whole number between score tags, which nothing follows in its line. As `read_scores`."""
    text, problem = _spoken(answer, cut_off)
    tags = list(_TAGGED.finditer(text))
    if not problem and declines(text):
        problem = "the answer declines to judge"
    said = {float(line[1]) for line in _OWN_LINE.finditer(_TAGGED.sub("", _in_figures(text)))}
    if not problem and len({tag[1].strip() for tag in tags}) > 1:
        problem = "several verdicts that differ"
    score = tags[-1][1].strip() if tags else ""
    if not problem and not (_WHOLE.fullmatch(score) and low <= int(score) <= high):
        problem = f"expected one whole number from {low} to {high} between <score> and </score>"
    if problem:
        return Reading(None, problem)
    if said - {float(score)}:
        return Reading(None, "several verdicts that differ")
    start, end = tags[-1].span()
    if cut_off and re.search(r"\w", text[end:]):
        return Reading(None, "the answer was cut off by its limit behind its score")
    if _DOUBT.search(text, end) or not _bare_after(text, end) or _announced(text, start, _EXAMPLE):
        return Reading(None, "the score stands in prose or in an example only, not as the answer's own")
    return Reading((float(score),))


def read_lines(answer: str, count: int, *, low: int, high: int, cut_off: bool = False) -> Reading:
    """`count` whole numbers in lines such as `Name: 4`. As `read_scores`."""
    text, problem = _complete(answer, cut_off)
    lines = list(_LINE.finditer(text))
    scores = tuple(float(line[1]) for line in lines)
    if not problem and (len(scores) != count or not all(low <= score <= high for score in scores)):
        problem = f"expected {count} whole numbers from {low} to {high} in lines such as Name: 4"
    if not problem and _announced(text, lines[0].start(), _EXAMPLE):
        problem = "the scores are those of an example"
    return Reading(None, problem) if problem else Reading(scores)


def read_final(answer: str, *, low: int, high: int, cut_off: bool = False) -> Reading:
    """The one whole number behind "Final Score:"; where it stands several times it must be the same. As
    `read_scores`."""
    text, problem = _complete(answer, cut_off)
    found = {int(score[1]) for score in _FINAL.finditer(text)}
    if not problem and len(found) > 1:
        problem = "several verdicts that differ"
    if not problem and not (found and low <= min(found) <= high):
        problem = f"expected one whole number from {low} to {high} behind Final Score:"
    return Reading(None, problem) if problem else Reading((float(found.pop()),))


def _complete(answer: str, cut_off: bool) -> tuple[str, str]:
    """As `_spoken`, for answers that must be whole: nothing to read where it is cut off, or declines."""
    text, problem = _spoken(answer, cut_off)
    if not problem and cut_off:
        problem = "the answer was cut off by its limit"
    if not problem and declines(text):
        problem = "the answer declines to judge"
    return text, problem


def _spoken(answer: str, cut_off: bool) -> tuple[str, str]:
    """(the answer with blanks in place of thinking, why there is nothing to read or "")."""
    if len(answer) > LONGEST:
        return "", f"the answer has {len(answer)} characters; at most {LONGEST} are read"
    text = without_thinking(answer)
    if text.strip():
        return text, ""
    where = "the answer holds nothing but thinking" if answer.strip() else "the answer is empty"
    return "", f"{where}, cut off by its limit" if cut_off else where


def _missing(prose: str, mentions: list[_Mention], cut_off: bool) -> str:
    if declines(prose):
        return "the answer declines to judge"
    if cut_off:
        return "the answer was cut off by its limit before its scores stood whole"
    if mentions:
        return "scores stand in prose or in an example only, not as the answer's own object or last line"
    if _IN_WORDS.search(prose):
        return "the scores stand in words, not in figures"
    return "no scores in the answer"


def _in_objects(text: str, cut_off: bool) -> tuple[str, list[_Mention], list[float], str]:
    """The text with blanks in place of its objects, the scores in them, single numbers of parts of a verdict,
    and how one of them refuses or ""."""
    mentions: list[_Mention] = []
    parts: list[float] = []
    refusal = ""
    pieces, at = [], 0
    last_brace, last_word = text.rfind("}") + 1, len(text.rstrip(" \n\t`\"'*_.|"))
    last_doubt = max((match.start() for match in _DOUBT.finditer(text)), default=-1)
    for node in objects(text):
        # An object that breaks is taken to go on to the last brace.
        end = node.end if node.whole else max(node.end, last_brace)
        draft = end <= last_doubt or (cut_off and end < last_word)  # the answer goes on after this object
        values = list(_scores_of(node, True))
        own = bool(values) and not draft and _stands_alone(text, node.start, end)
        mentions += [_Mention(value, own and level) for value, level in values]
        parts += _parts_of(node)
        refusal = refusal or next(refusals(node), "")
        pieces += [text[at : node.start], " " * (node.end - node.start)]
        at = node.end
    return "".join(pieces) + text[at:], mentions, parts, refusal


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether an object is on lines of its own, and not announced as an example."""
    return _bare_before(text, start) and _bare_after(text, end) and not _announced(text, start, _EXAMPLE)


def _announced(text: str, at: int, words: re.Pattern[str]) -> bool:
    """Whether words of a kind stand before a place, in its line or in the one before."""
    before = text[max(0, at - _NEAR) : at].rstrip(" \n\t\r`\"'*_[")
    return bool(words.search(re.sub(r"`json\Z", "", before).rstrip("` \n")))


def _bare_before(text: str, at: int, *, clause: bool = False) -> bool:
    """Whether nothing but marks and labels ("final answer:") stands before a place in its line, or clause."""
    begin = max(0, at - _NEAR)
    before = text[max(begin, text.rfind("\n", begin, at) + 1) : at]
    return _bare(_CLAUSE_END.split(before)[-1] if clause else before)


def _bare_after(text: str, at: int, *, reason: bool = False) -> bool:
    """Whether nothing but marks stands after a place in its line, or up to a reason ("because ...")."""
    end = text.find("\n", at, at + _NEAR)
    after = text[at : end if end >= 0 else at + _NEAR]
    because = _BECAUSE.search(after) if reason else None
    if because:
        return _bare(after[: because.start()], labels=False)
    return (end >= 0 or at + _NEAR >= len(text)) and _bare(after, labels=False) and "?" not in after


def _alone(text: str, match: re.Match[str]) -> bool:
    """Whether nothing but marks, labels and other lists stands in a list's line."""
    begin, end = max(0, match.start() - _NEAR), match.end() + _NEAR
    before = text[max(begin, text.rfind("\n", begin, match.start()) + 1) : match.start()]
    after = text[match.end() : end].partition("\n")[0]
    return _bare(_LIST.sub("", before)) and _bare(_LIST.sub("", after), labels=False)


def _bare(words: str, *, labels: bool = True) -> bool:
    left = _TAG.sub("", words)
    return not re.search(r"[\w{}]", _LABEL.sub("", left) if labels else left)


def _scores_of(node: Node, own: bool) -> Iterator[tuple[Node, bool]]:
    """Values of the key "score" in an object, and whether each is the object's own."""
    if node.kind == "list":
        for item in node.items:
            yield from _scores_of(item, False)
    for key, value in zip(node.keys, node.items, strict=False):  # a list has no keys
        name = key.strip().lower()
        if name in ("score", "scores"):
            yield value, own
        elif _OTHER_SCORE.fullmatch(name) and value.kind == "list":
            yield value, False
        else:
            yield from _scores_of(value, own and bool(_WRAPPERS.fullmatch(name)))


def _parts_of(node: Node) -> Iterator[float]:
    """Single numbers in an object that are called like parts of a verdict."""
    for key, item in zip(node.keys, node.items, strict=False):
        number = _number(item.text) if item.kind == "bare" else None
        if number is not None and _PART.fullmatch(key.strip().lower()):
            yield number
    for item in node.items:
        yield from _parts_of(item)


def _states_others(
    prose: str, parts: list[float], scores: tuple[float, ...] | None, low: float, high: float
) -> bool:
    """Whether other scores than these stand somewhere, in whatever notation. Of a single number it is not
    known which score it is, so it may lie between them."""
    assert scores, "they were checked"
    stated = [[number] for number in parts]
    for found in (_STATED, _FIGURES_ALONE):
        text = _TAG.sub(" ", prose) if found is _FIGURES_ALONE else prose
        for match in found.finditer(_OUT_OF.sub(r"\1", _in_figures(text))):
            numbers = [float(figure) for figure in re.findall(_FIGURE, match[1])]
            stated.append(numbers[2:] if numbers[:2] == [low, high] != list(scores) else numbers)
    return any(
        tuple(numbers) != scores
        if len(numbers) == len(scores)
        else any(not min(scores) <= number <= max(scores) for number in numbers)
        for numbers in stated
    )


def _in_prose(prose: str, scale: str, cut_off: bool) -> Iterator[_Mention]:
    """`score: [...]` anywhere, and lists that stand alone on a line; those of the last line count."""
    reasons = _REASONS.search(prose)
    last = prose[: reasons.start() if reasons else None].rstrip().rfind("\n") + 1
    led_to = bool(_LED_TO.search(_TAG.sub("", prose[:last])))
    whole = prose.strip(" \n\t\"'*_`.")
    keyed = list(_KEYED.finditer(prose))
    taken = {match.end() for match in keyed}
    for match in [*keyed, *(m for m in _LIST.finditer(prose) if m.end() not in taken)]:
        if match.end() in taken:
            stands = _bare_before(prose, match.start(), clause=True) and _bare_after(
                prose, match.end(), reason=True
            )
        elif re.search(r"\d", match[1]) and _alone(prose, match):
            stands = led_to
        else:
            continue
        if f"[{''.join(match[1].split())}]" == scale and whole not in match[0]:
            continue  # the range of scores, as the question says it
        if _announced(prose, match.start(), _EXAMPLE) or (
            match.end() not in taken and _announced(prose, match.start(), _OTHER_LIST)
        ):
            stands = False
        value = value_at(prose, prose.index("[", match.start()))
        assert value is not None, "there is a bracket"
        yield _Mention(value, stands and match.start() >= last and not cut_off)


def _in_figures(text: str) -> str:
    """The text with "seven out of ten" as 7."""
    return _IN_WORDS.sub(lambda match: str(_WORDS.split("|").index(match[1].lower())), text)


def _checked(value: Node, count: int, low: float, high: float) -> Reading:
    items = value.items if value.kind == "list" else [value]
    if not value.whole:
        return Reading(None, "the answer ends or breaks inside its scores")
    if len(items) != count:
        return Reading(None, f"{len(items)} scores instead of {count}")
    scores = []
    for item in items:
        number = _number(item.text)
        if number is None:
            return Reading(None, f"{item.text[:40]!r} is not a number")
        if not low <= number <= high:
            return Reading(None, f"{number:g} is outside {low:g} to {high:g}")
        scores.append(number)
    return Reading(tuple(scores), spans=tuple(item.inside for item in items))


def _number(item: str) -> float | None:
    item = item.strip()
    if len(item) > 40 or not _NUMBER.fullmatch(item):
        return None
    number = float(item)
    return number if math.isfinite(number) else None
