"""Any weighted sum of verifiers, itself a verifier."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from earl.errors import ConfigError, VerifierError
from earl.records import REFUSED, Attempt, Verdict
from earl.verifiers.protocol import Verifier, check, without_image

PARTS = ("edit_success", "over_editing", "naturalness", "artifacts")


@dataclass(frozen=True)
class Weighted:
    """One verifier of a sum. `weight` counts against the sum of all weights."""

    name: str
    verifier: Verifier
    weight: float = 1.0


class WeightedSum:
    """Each of the four scores is the weighted mean of the verifiers' scores, so it stays 0-10.

    Where one verifier gives no scores, the sum has none: its verdict has that status and says whose
    it is. Several verifiers look at once. A verdict's notes keep those of each verifier, with its own
    scores, as `NAME.edit_success` and so on.

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
        """What will judge. Raises VerifierError where a part cannot."""
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
        notes: dict[str, float | str] = {}
        raw = []
        failed: Verdict | None = None
        whys = []
        any_failed = not all(verdict.ok for verdict in verdicts)
        for part, verdict in zip(self.parts, verdicts, strict=True):
            why = str(verdict.notes.get("why") or ("" if verdict.ok else verdict.raw))
            if why and not (verdict.ok and any_failed):
                whys.append(f"{part.name}: {why}")
            notes |= {f"{part.name}.{key}": value for key, value in verdict.notes.items()}
            if verdict.raw:
                raw.append(f"[{part.name}] {verdict.raw}")
            if verdict.ok:
                assert verdict.overall is not None, f"verifier {part.name}: a verdict that is ok has scores"
                notes[f"{part.name}.overall"] = verdict.overall
                notes |= {f"{part.name}.{name}": float(getattr(verdict, name)) for name in PARTS}
            else:
                notes[f"{part.name}.status"] = verdict.status
                if REFUSED in verdict.notes:
                    notes[REFUSED] = verdict.notes[REFUSED]
                failed = failed or verdict
        if whys:
            notes["why"] = "; ".join(whys)
        text = "\n".join(raw)
        if failed is not None:
            return Verdict(failed.status, raw=text, notes=notes)
        scores = [
            sum(share * getattr(verdict, name) for share, verdict in zip(self.shares, verdicts, strict=True))
            for name in PARTS
        ]
        success, restraint, naturalness, artifacts = (min(10.0, score) for score in scores)
        return Verdict("ok", success, restraint, naturalness, artifacts, raw=text, notes=notes)


def scores_by_part(verdicts: Iterable[Verdict]) -> dict[str, list[float]]:
    """What each verifier of a sum said, by name; empty for verdicts of other verifiers.

    `NAME.overall`, `NAME.edit_success` and so on are of the verdicts that are ok, as the sum's own scores
    are; `NAME.failed` is 1 for each of all verdicts that `NAME` gave no scores for, else 0.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        for key, value in verdict.notes.items():
            part, _, name = key.rpartition(".")
            if not part or name not in ("status", "overall", *PARTS):
                continue
            if name in ("status", "overall"):
                found[f"{part}.failed"].append(float(name == "status"))
            if name != "status" and verdict.ok:
                found[key].append(float(value))
    return dict(found)
