"""PPO's arithmetic on tensors of shape (completions, tokens): rewards, advantages, whitening, the value loss.

Plain functions of tensors in, tensors out, in whatever precision they are given. `mask` is 1 at action tokens and 0 at
all others (padding, and what a tool wrote): those are no steps of the policy, so time passes over them.
The policy's clipped loss is TRL's own (loss type `dapo`, Schulman et al. 2017, arXiv:1707.06347, eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes."""
_TINY = 1e-8


def k1(logps: Tensor, reference_logps: Tensor, mask: Tensor) -> Tensor:
    """The plain estimate of KL(policy ‖ reference) at each action token: log π − log π_ref, 0 elsewhere.

    Its mean over the policy's samples is unbiased; one value may be negative (k1 of Schulman, "Approximating KL
    Divergence", 2020).
    """
    return torch.where(mask.bool(), logps - reference_logps, 0.0)


def at_last_action(scores: Tensor, mask: Tensor) -> Tensor:
    """Each completion's score (completions,) at its last action token; nowhere where it has none.

    Returns:
        (completions, tokens)
    """
    later_actions = mask.flip(-1).cumsum(-1).flip(-1)
    return torch.where((later_actions == 1) & mask.bool(), scores.unsqueeze(-1), 0.0)


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and what the critic is to learn from them.

        δ_t = r_t + γ V_{t+1} − V_t        Â_t = Σ_l (γλ)^l δ_{t+l}        R_t = Â_t + V_t

    (Schulman et al. 2015, arXiv:1506.02438, eq. 11–16.) t counts action tokens. A completion ends with its last one,
    cut off or not: what would have come after it is worth 0.

    Args:
        rewards, values, mask: (completions, tokens); what rewards and values hold elsewhere than at action tokens is
            not looked at.
        gamma: the discount γ, 0 to 1.
        lam: λ, 0 to 1; 1 means rewards to go minus the value, 0 one-step differences.

    Returns:
        Advantages and returns, both (completions, tokens), 0 elsewhere than at action tokens.
    """
    action = mask.bool()
    advantages = torch.zeros_like(values)
    next_value = next_advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        here = action[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = torch.where(here, advantage, 0.0)
        next_value = torch.where(here, values[:, t], next_value)
        next_advantage = torch.where(here, advantage, next_advantage)
    return advantages, torch.where(action, advantages + values, 0.0)


def masked_mean(x: Tensor, mask: Tensor, total: Total) -> Tensor:
    """The mean of all action tokens of all processes, a scalar; 0 where there are none."""
    kept = torch.where(mask.bool(), x, 0.0)
    summed = total(torch.stack([kept.sum(), mask.sum().to(x.dtype)]))
    return summed[0] / summed[1].clamp(min=1.0)


def moments(x: Tensor, mask: Tensor, total: Total) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by the number) of all action tokens of all processes, as scalars."""
    mean = masked_mean(x, mask, total)
    return mean, masked_mean((x - mean) ** 2, mask, total)


def whiten(x: Tensor, mask: Tensor, total: Total) -> Tensor:
    """Shifted and scaled to mean 0 and variance 1 over all action tokens of all processes; 0 elsewhere."""
    mean, variance = moments(x, mask, total)
    return torch.where(mask.bool(), (x - mean) * torch.rsqrt(variance + _TINY), 0.0)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, cliprange: float) -> tuple[Tensor, Tensor]:
    """½ max((V − R)², (clip(V, V_old ± cliprange) − R)²) at each token.

    The squared error is that of Schulman et al. 2017 (arXiv:1707.06347, eq. 9); clipping and ½ are OpenAI baselines'
    (ppo2), as in TRL's former PPO: a value that moved further than `cliprange` gets no gradient to move on.

    Returns:
        The loss, and whether clipping made it larger; both of the shape of `values`.
    """
    clipped = values.clamp(old_values - cliprange, old_values + cliprange)
    plain_error, clipped_error = (values - returns) ** 2, (clipped - returns) ** 2
    return 0.5 * torch.maximum(plain_error, clipped_error), clipped_error > plain_error


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor, total: Total) -> Tensor:
    """1 − Var(R − V) / Var(R) over all action tokens of all processes: 1 is a perfect critic, 0 a useless one.

    NaN where the returns are all the same.
    """
    _, left = moments(returns - values, mask, total)
    _, variance = moments(returns, mask, total)
    return torch.where(variance > 0, 1.0 - left / variance, torch.nan)
