"""What a run keeps in mind between steps, and when it has had enough."""

from __future__ import annotations

from typing import Any

from earl.config.grpo import Stops
from earl.training.plateau import EarlyStop


class Progress:
    """Position in the stream of prompts, and the rewards that the plateau is read from.

    It is what `Trainer` saves and restores as its batches.
    """

    def __init__(self, stops: Stops) -> None:
        self.stops = stops
        self.drawn = 0
        self.rewards: list[float] = []
        self.plateau = EarlyStop(stops.patience, stops.min_gain)

    def take(self, count: int) -> list[int]:
        """The numbers of the next prompts."""
        self.drawn += count
        return list(range(self.drawn - count, self.drawn))

    def watch(self, step: int, *, reward: float, kl: float, entropy: float) -> str | None:
        """Take in a step's means; a sentence where the run should end.

        Args:
            reward: points; kl: nats a token; entropy: nats a visual token. NaN trips its bound.
        """
        stops = self.stops
        if stops.max_kl is not None and not kl <= stops.max_kl:
            return f"KL to the reference is {kl:.3g} nats a token, stops.max_kl is {stops.max_kl:g}"
        if stops.min_entropy is not None and not entropy >= stops.min_entropy:
            return f"the visual entropy is {entropy:.3g} nats, stops.min_entropy is {stops.min_entropy:g}"
        if stops.max_entropy is not None and not entropy <= stops.max_entropy:
            return f"the visual entropy is {entropy:.3g} nats, stops.max_entropy is {stops.max_entropy:g}"
        self.rewards = [*self.rewards, reward][-stops.window :]
        if len(self.rewards) == stops.window:
            self.plateau.update(-sum(self.rewards) / stops.window, step)
        if self.plateau.should_stop:
            return (
                f"the reward, averaged over {stops.window} steps, is no better than {-self.plateau.best:.3g} "
                f"at step {self.plateau.best_step}"
            )
        return None

    def __next__(self) -> list[Any]:
        raise TypeError("prompts are drawn by take()")

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "rewards": self.rewards, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn, self.rewards = state["drawn"], list(state["rewards"])
        self.plateau.load_state_dict(state["plateau"])
