"""Groups whose answers all earned the same: they teach nothing, exactly."""

from __future__ import annotations

from typing import Any

import torch

_ROUNDING = 1e-6  # rewards are summed in single precision


def flat_groups(rewards: torch.Tensor, weights: torch.Tensor, size: int) -> torch.Tensor:
    """Which groups have no answer that earned more than another.

    Args:
        rewards: what each function gave each answer, shape (groups * size, functions); NaN: it gave none.
        weights: the functions' weights, shape (functions,).
        size: answers a group; those of a group stand together.

    Returns:
        Booleans of shape (groups,). Answers that no function scored are left out; a group with fewer than two others
        is flat.
    """
    missing = rewards.isnan().all(dim=1).view(-1, size)
    totals = (rewards * weights.to(rewards)).nansum(dim=1).view(-1, size)
    highest = totals.masked_fill(missing, -torch.inf).amax(dim=1)
    lowest = totals.masked_fill(missing, torch.inf).amin(dim=1)
    return ~(highest - lowest > _ROUNDING * torch.maximum(highest.abs(), lowest.abs()))


_Trainer: Any = object  # TRL's class, which comes beneath when it is known


class _ExactGroups(_Trainer):  # type: ignore[misc]
    """What `exact_groups` puts on top of a trainer class."""

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        self._drawn_rewards = rewards
        return rewards

    def flat_groups(self) -> torch.Tensor:
        """Which groups of the draw just scored are flat, over all processes; shape (groups,)."""
        return flat_groups(self._drawn_rewards, self.reward_weights, self.num_generations)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training:
            flat = self.flat_groups().repeat_interleave(self.num_generations)
            count = len(batch["advantages"])
            mine = flat[self.accelerator.process_index * count :][:count]
            batch["advantages"] = batch["advantages"].masked_fill(mine, 0.0)
        return batch


def exact_groups(base: type[Any]) -> type[Any]:
    """A trainer class over GRPOTrainer in which flat groups have advantages of exactly 0.

    TRL's are the difference of a reward and a mean that is rounded, and Adam makes a step of full size of it.
    """
    return type(base.__name__, (_ExactGroups, base), {})
