"""Learning-rate schedule, as a pure function of the step."""

from __future__ import annotations

import math

from earl.config.sections import Schedule


def rate_factor(schedule: Schedule, step: int, *, total_steps: int, peak: float) -> float:
    """What the peak learning rate is multiplied by at a step.

    Linear from 0 over the warm-up (step 1 is 1/warmup), then a half cosine from 1 to
    `minimum / peak` at the end, or 1 throughout.

    Args:
        step: 1 is the first update.
        total_steps: where the cosine ends.
        peak: learning rate that `schedule.minimum` refers to.
    """
    if step <= schedule.warmup_steps:
        return step / schedule.warmup_steps
    if schedule.name == "constant":
        return 1.0
    floor = schedule.minimum / peak
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, total_steps - schedule.warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
