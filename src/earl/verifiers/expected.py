"""Expected scores from a judge's token log-probabilities, in place of the scores that it sampled.

Where an answer says 7, the model also gave 6 and 8 some probability; the mean over them is finer than a
whole number. Some tokenizers write 10 as one token, others as 1 and 0: there the probability of "1" is
split by what follows it, which is known only if "1" was sampled. Where it was not, that share is left out,
and the rest counts as the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from earl.endpoints.client import Token

LEAST_MASS = 0.5  # share of the probability that must lie on scores for their mean to mean anything


def expected_scores(
    answer: str, spans: Sequence[tuple[int, int]], tokens: Sequence[Token], *, low: int = 0, high: int = 10
) -> tuple[tuple[float, ...] | None, str]:
    """The mean of each score over the judge's own distribution.

    Tokens are lined up with the answer from its start to its last score, by their bytes, so that special
    tokens around it and characters in several tokens after it do not matter.

    Args:
        answer: the answer's text.
        spans: where its scores stand, (start, end) characters.
        tokens: of the answer, perhaps with others before and after.
        low, high: the least and the greatest score.

    Returns:
        (scores in [low, high], "") or (None, what is wrong).
    """
    if not tokens:
        return None, "the server gave no log-probabilities"
    if not spans:
        return None, "no single place where the scores stand"
    ends = list(accumulate(len(token.spelt) for token in tokens))
    needed = answer[: max(end for _, end in spans)].encode("utf-8", "replace")
    begin = b"".join(token.spelt for token in tokens).rfind(needed)  # a thought before it may say the same
    if begin < 0:
        return None, "the log-probabilities do not spell the answer"
    scores = []
    for start, end in spans:
        score = answer[start:end]
        if not score.isdigit():
            return None, f"{score!r} is not a whole number"
        place = begin + len(answer[:start].encode("utf-8", "replace"))
        first = next(i for i, token_end in enumerate(ends) if token_end > place)
        opening = tokens[first].text.strip()
        if not opening or not score.startswith(opening):
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
        int(text): share
        for text, share in shares.items()
        if text.isascii() and text.isdigit() and len(text) < 9 and low <= int(text) <= high
    }
    mass = sum(known.values())
    if not mass >= LEAST_MASS:
        return None, f"only {mass:.2f} of the probability lies on scores"
    return sum(score * share for score, share in known.items()) / mass, ""


def _shares(token: Token) -> dict[str, float]:
    """Probability by stripped text."""
    shares: dict[str, float] = {}
    for text, logprob in token.likeliest:
        shares[text.strip()] = shares.get(text.strip(), 0.0) + math.exp(min(0.0, logprob))
    return shares
