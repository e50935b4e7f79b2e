"""Pairwise comparison inside a group: a judge sees the source and two of its edits, and says which is better.

Small judges order two images better than they give points to one: Qwen3-VL-8B agrees with people on 84% of
EditReward-Bench's pairs when it sees both, on 58% when it scores one by one (arXiv 2602.06013). The share of
comparisons that an edit wins is its score (Pref-GRPO, arXiv 2508.20751). Here each edit meets a bounded
number of the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256

from earl.endpoints.message import data_url
from earl.records import Attempt, Verdict
from earl.verifiers.judge import JudgeVerifier, Question, Result
from earl.verifiers.protocol import without_image
from earl.verifiers.question_sets import Form, QuestionSet

PAIR = Form(("source", "first", "second"), ("edit_success",), count=1, low=0, high=2)
Pair = tuple[int, int]


def pairs_of(count: int, each: int) -> list[Pair]:
    """Pairs among `count` edits: each edit with `each` others (an even number), or with all.

    The edits stand in a circle; each is compared with the next ones, in which it is first, and with the
    ones before it, in which it is second, so that a judge's liking for a place cancels.
    """
    pairs: dict[frozenset[int], Pair] = {}
    for step in range(1, min(each // 2, count // 2) + 1):
        for place in range(count):
            other = (place + step) % count
            pairs.setdefault(frozenset((place, other)), (place, other))
    return list(pairs.values())


def win_rates(count: int, second_won: Mapping[Pair, float | None]) -> list[float | None]:
    """The share of its comparisons that each edit won, 0 to 1; a tie is half a win.

    Args:
        second_won: for each pair 1 where its second edit is better, 0 where its first is, 0.5 for a tie; None
            where the comparison failed.

    Returns:
        None for an edit of whose comparisons half or more failed.
    """
    shares: list[list[float]] = [[] for _ in range(count)]
    met = [0] * count
    for (first, second), share in second_won.items():
        met[first] += 1
        met[second] += 1
        if share is not None:
            shares[first].append(1 - share)
            shares[second].append(share)
    return [sum(won) / len(won) if 2 * len(won) > of else None for won, of in zip(shares, met, strict=True)]


class PairwiseVerifier(JudgeVerifier):
    """Scores the edits of one image against each other; all four scores are 10 x the share won.

    Attempts with equal source and instruction are a group; one that is alone in its group cannot be judged.
    """

    own = QuestionSet({"pair": PAIR})

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts."""
        verdicts = [without_image(attempt) for attempt in attempts]
        groups: dict[tuple[str, bytes], list[int]] = defaultdict(list)
        for place, attempt in enumerate(attempts):
            if verdicts[place] is None:
                groups[attempt.instruction, attempt.source.tobytes()].append(place)
        judged = await asyncio.gather(
            *(self._judge_group([attempts[place] for place in group]) for group in groups.values())
        )
        for group, found in zip(groups.values(), judged, strict=True):
            for place, verdict in zip(group, found, strict=True):
                verdicts[place] = verdict
        return [verdict for verdict in verdicts if verdict is not None]

    async def _judge_group(self, group: Sequence[Attempt]) -> list[Verdict]:
        if len(group) == 1:
            why = "one edit of its image alone: a pairwise verifier compares several with each other"
            return [Verdict("unusable", why=why, refused=True)]
        pairs = pairs_of(len(group), self.settings.comparisons)
        results = await asyncio.gather(
            *(self._compare(group[first], group[second]) for first, second in pairs)
        )
        won = {
            pair: result.answers[0][0] / 10 if result.status == "ok" else None
            for pair, result in zip(pairs, results, strict=True)
        }
        verdicts = []
        for place, rate in enumerate(win_rates(len(group), won)):
            own = [result for pair, result in zip(pairs, results, strict=True) if place in pair]
            if rate is None:
                verdicts.append(self._failed(own))
            else:
                raw = "\n".join(result.text for result in own if result.text)
                scores = (10 * rate,) * 4
                verdicts.append(Verdict("ok", *scores, raw=raw, notes=self._notes(own)))
        return verdicts

    async def _compare(self, first: Attempt, second: Attempt) -> Result:
        """One comparison; its score is of the second. Equal images are a tie, which nobody is asked about."""
        shown = {"source": first.source, "first": first.edited, "second": second.edited}
        images = {
            name: data_url(image, self.settings.jpeg) for name, image in shown.items() if image is not None
        }
        if images["first"] == images["second"]:
            return Result(Question("pair"), "ok", answers=((5.0,),), text="pair: equal images")
        name = sha256("\0".join([first.instruction, *images.values()]).encode()).hexdigest()[:32]
        result = await self._ask(Question("pair"), first, images, f"{name}-pair")
        return result.averaged()
