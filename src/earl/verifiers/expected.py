"""The expected score from a judge's token log-probabilities, instead of the one that it sampled.

Where an answer says 7, the model had also thought of 6 and 8; the mean over what it would have
written is finer than a whole number. Some tokenizers write 10 as one token, others as 1 and 0:
there the probability of "1" is split by what follows it, which is known only if "1" was sampled.
Where it was not, that share is left out, and the rest counts as the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_MASS = 0.5  # share of the probability that must lie on scores for their mean to mean anything


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token, and the likeliest tokens at its place with natural log-probabilities."""

    text: str
    likeliest: tuple[tuple[str, float], ...]


def expected_scores(
    answer: str, spans: Sequence[tuple[int, int]], tokens: Sequence[Token], *, low: int = 0, high: int = 10
) -> tuple[tuple[float, ...] | None, str]:
    """The mean of each score over the judge's own distribution.

    Args:
        answer: the answer's text.
        spans: where its scores stand, (start, end) characters.
        tokens: of the answer; what they spell ends with the answer.
        low, high: the least and the greatest score.

    Returns:
        (scores in [low, high], "") or (None, what is wrong).
    """
    if not tokens:
        return None, "the server gave no log-probabilities"
    if not spans:
        return None, "no single place where the scores stand"
    spelt = "".join(token.text for token in tokens)
    begin = len(spelt) - len(answer)
    if begin < 0 or spelt[begin:] != answer:
        return None, "the log-probabilities do not spell the answer"
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token.text))
    scores = []
    for start, end in spans:
        if not answer[start:end].isdigit():
            return None, f"{answer[start:end]!r} is not a whole number"
        first = next(i for i in range(len(tokens)) if starts[i + 1] > start + begin)
        opening = tokens[first].text.strip()
        if not opening or not answer[start:end].startswith(opening):
            return None, "a score shares its token with other text"
        mean, problem = _mean(tokens, first, low, high)
        if mean is None:
            return None, problem
        scores.append(mean)
    return tuple(scores), ""


def _mean(tokens: Sequence[Token], at: int, low: int, high: int) -> tuple[float | None, str]:
    """The mean of the score whose first token is at `at`."""
    shares = _shares(tokens[at])
    whole = any(text == str(high) for text in shares)  # the tokenizer has "10" as one token
    if not whole and high >= 10:
        one = shares.pop("1", 0.0)
        if tokens[at].text.strip() == "1" and at + 1 < len(tokens):
            following = _shares(tokens[at + 1])
            ten = sum(share for text, share in following.items() if text.startswith("0"))
            shares["10"] = one * min(1.0, ten)
            shares["1"] = one * max(0.0, 1 - ten)
    known = {
        int(text): share for text, share in shares.items() if text.isdigit() and low <= int(text) <= high
    }
    mass = sum(known.values())
    if mass < LEAST_MASS:
        return None, f"only {mass:.2f} of the probability lies on scores"
    return sum(score * share for score, share in known.items()) / mass, ""


def _shares(token: Token) -> dict[str, float]:
    """Probability by stripped text."""
    shares: dict[str, float] = {}
    for text, logprob in token.likeliest:
        shares[text.strip()] = shares.get(text.strip(), 0.0) + math.exp(min(0.0, logprob))
    return shares
