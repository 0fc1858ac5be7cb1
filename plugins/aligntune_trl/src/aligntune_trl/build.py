"""Which trainer trains an algorithm."""

from __future__ import annotations

from aligntune_core import BackendTrainer, TrainRequest
from aligntune_trl.dpo import build_dpo
from aligntune_trl.policy import build_policy
from aligntune_trl.ppo.build import build_ppo
from aligntune_trl.reward_model import build_reward_model
from aligntune_trl.sft import build_sft

_BUILDERS = {"sft": build_sft, "dpo": build_dpo, "reward": build_reward_model, "ppo": build_ppo}


def build(request: TrainRequest) -> BackendTrainer:
    """A trainer for the request's algorithm; those without a builder of their own are of the GRPO family."""
    return _BUILDERS.get(request.algorithm, build_policy)(request)
