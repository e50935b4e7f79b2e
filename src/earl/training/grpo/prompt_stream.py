"""Prompt-stream state and early stopping."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from earl.config.grpo import EarlyStopping
from earl.records import Completion
from earl.training.early_stopping import EarlyStop


class PromptStream:
    """Position in the stream of prompts, and the rewards that early stopping watches.

    `Trainer` saves and restores it as its batches.

    Attributes:
        ahead: completions of the next step's prompts, all ranks', where they are sampled one step ahead.
    """

    def __init__(self, settings: EarlyStopping) -> None:
        self.settings = settings
        self.drawn = 0
        self.rewards: list[float] = []
        self.plateau = EarlyStop(settings.patience)
        self.ahead: list[list[Completion]] | None = None

    def take(self, count: int) -> list[int]:
        """The numbers of the next prompts."""
        self.drawn += count
        return list(range(self.drawn - count, self.drawn))

    def coming(self, count: int) -> list[int]:
        """The numbers that `take` gives next."""
        return list(range(self.drawn, self.drawn + count))

    def watch(self, step: int, *, reward: float, kl: float) -> str | None:
        """Take in a step's means; why the run should end now, or None.

        Args:
            reward: points; kl: nats a token. NaN counts as above its bound.
        """
        settings = self.settings
        if settings.max_kl is not None and not kl <= settings.max_kl:
            return (
                f"KL to the reference is {kl:.3g} nats a token, early_stopping.max_kl is {settings.max_kl:g}"
            )
        self.rewards = [*self.rewards, reward][-settings.window :]
        if len(self.rewards) == settings.window:
            self.plateau.update(-sum(self.rewards) / settings.window, step)
        return self.end_reason()

    def end_reason(self) -> str | None:
        """The reason to stop where the reward is on a plateau; None otherwise."""
        if not self.plateau.should_stop:
            return None
        return (
            f"the reward, averaged over {self.settings.window} steps, is no better than "
            f"{-self.plateau.best:.3g} at step {self.plateau.best_step}"
        )

    def __next__(self) -> list[int]:
        raise TypeError("prompts are drawn by take()")

    def state_dict(self) -> dict[str, Any]:
        ahead = [[asdict(completion) for completion in group] for group in self.ahead or ()]
        state = {"drawn": self.drawn, "rewards": self.rewards, "plateau": self.plateau.state_dict()}
        return state | ({"ahead": ahead} if ahead else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn, self.rewards = state["drawn"], list(state["rewards"])
        self.plateau.load_state_dict(state["plateau"])
        ahead = state.get("ahead")
        self.ahead = ahead and [[_completion(**fields) for fields in group] for group in ahead]


def _completion(ids: list[int], logprobs: list[float], **rest: Any) -> Completion:
    return Completion(tuple(ids), tuple(logprobs), **rest)
