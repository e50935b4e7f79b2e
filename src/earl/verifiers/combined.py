"""Any weighted sum of verifiers, itself a verifier."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from earl.errors import ConfigError, VerifierError
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.verifiers.protocol import Verifier, check, without_image


@dataclass(frozen=True)
class Weighted:
    """One verifier of a sum. `weight` counts against the sum of all weights."""

    name: str
    verifier: Verifier
    weight: float = 1.0


class WeightedSum:
    """Each of the four scores is the weighted mean of the verifiers' scores, so it stays 0-10.

    Where one verifier gives no scores, the sum has none: its verdict has that status and says whose
    it is. The verifiers judge concurrently. A verdict's `members` are those of each verifier.

    Raises (on making one):
        ConfigError: no verifier, two of one name, or a weight that is not above 0.
    """

    def __init__(self, parts: Sequence[Weighted]) -> None:
        if not parts:
            raise ConfigError("a sum of verifiers needs at least one")
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            raise ConfigError(f"verifiers of a sum need names of their own, got {names}")
        for part in parts:
            if not (part.weight > 0 and math.isfinite(part.weight)):
                raise ConfigError(f"the weight of verifier {part.name!r} is {part.weight}; expected above 0")
        self.parts = tuple(parts)
        total = sum(part.weight for part in parts)
        self.shares = tuple(part.weight / total for part in parts)

    async def check(self) -> str:
        """Description of the judges. Raises VerifierError where one cannot be reached."""
        found = []
        for part, share in self._shared():
            try:
                found.append(f"{share:.3g} x {part.name} ({await check(part.verifier)})")
            except VerifierError as error:
                raise VerifierError(f"verifier {part.name!r} of the sum: {error}") from error
        return " + ".join(found)

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts."""
        by_part = await asyncio.gather(*(part.verifier.judge(attempts) for part in self.parts))
        for part, verdicts in zip(self.parts, by_part, strict=True):
            assert len(verdicts) == len(attempts), f"verifier {part.name} gave {len(verdicts)} verdicts"
        return [
            without_image(attempt) or self._sum([verdicts[i] for verdicts in by_part])
            for i, attempt in enumerate(attempts)
        ]

    def _shared(self) -> list[tuple[Weighted, float]]:
        return list(zip(self.parts, self.shares, strict=True))

    def _sum(self, verdicts: Sequence[Verdict]) -> Verdict:
        members = {part.name: verdict for part, verdict in zip(self.parts, verdicts, strict=True)}
        failed = {name: verdict for name, verdict in members.items() if not verdict.ok}
        why = "; ".join(
            f"{name}: {verdict.why or verdict.reason}"
            for name, verdict in (failed or members).items()
            if failed or verdict.why
        )
        raw = "\n".join(f"[{name}] {verdict.raw}" for name, verdict in members.items() if verdict.raw)
        if failed:
            first = next(iter(failed.values()))
            refused = any(verdict.refused for verdict in failed.values())
            return Verdict(first.status, why=why, refused=refused, raw=raw, members=members)
        scores: dict[str, Any] = {}
        for name in SCORE_PARTS:
            values = [verdict.score(name) for verdict in verdicts]
            total = sum(share * (value or 0.0) for share, value in zip(self.shares, values, strict=True))
            scores[name] = min(10.0, total)
        return Verdict("ok", **scores, why=why, raw=raw, members=members)


def scores_by_member(verdicts: Iterable[Verdict]) -> dict[str, list[float]]:
    """The scores of each verifier of a sum, by name; empty for verdicts of other verifiers.

    `NAME.overall`, `NAME.edit_success` and so on are of the verdicts that are ok, as the sum's own scores
    are; `NAME.failed` is 1 for each of all verdicts that `NAME` gave no scores for, else 0.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        for member, own in verdict.members.items():
            scores[f"{member}.failed"].append(float(not own.ok))
            for name in ("overall", *SCORE_PARTS):
                value = own.score(name)
                if verdict.ok and value is not None:
                    scores[f"{member}.{name}"].append(value)
    return dict(scores)
