"""Early stopping on a validation metric."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class EarlyStop:
    """Counts observations since the best one. Lower is better; negate what should rise.

    Args:
        patience: observations without improvement before `should_stop`; None never stops.
    """

    patience: int | None = None
    best: float = math.inf
    best_step: int = 0
    waited: int = 0

    def update(self, value: float, step: int) -> bool:
        """Take in an observation; True where it is the best so far. A NaN is never the best."""
        if value < self.best:
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    @property
    def should_stop(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        state = asdict(self)
        return {key: None if value == math.inf else value for key, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Progress is restored; the settings stay those of this run's recipe."""
        self.best = math.inf if state["best"] is None else state["best"]
        self.best_step, self.waited = state["best_step"], state["waited"]
