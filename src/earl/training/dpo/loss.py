"""The loss of direct preference optimisation, as a pure function of log-probabilities.

Axes: P pairs; 2: the preferred edit, the other.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def margins(policy_P2: Tensor, reference_P2: Tensor, beta: float) -> Tensor:
    """How much more than the reference the policy prefers the right edit: (P,), dimensionless.

    beta ((log p - log ref) of the preferred edit - the same of the other).

    Args:
        policy_P2, reference_P2: natural log-probabilities of whole completions.
    """
    rewards_P2 = beta * (policy_P2 - reference_P2)
    return rewards_P2[:, 0] - rewards_P2[:, 1]


def dpo_loss(policy_P2: Tensor, reference_P2: Tensor, beta: float) -> Tensor:
    """-log sigmoid(margin) of each pair, (P,), nats; log 2 where policy and reference agree.

    Source: DPO (arXiv 2305.18290), equation 7.
    """
    return -logsigmoid(margins(policy_P2, reference_P2, beta))
