"""PPO from a request: TRL's GRPOTrainer with our critic and advantages."""

from __future__ import annotations

from typing import Any, cast

from aligntune_core import TrainRequest
from aligntune_core.config import PpoConfig
from aligntune_trl import building
from aligntune_trl.policy import PolicyTrainer, construct, load_policy
from aligntune_trl.ppo.trainer import ppo_config_class, ppo_trainer_class


def critic_arguments(config: PpoConfig) -> dict[str, Any]:
    """What our trainer takes beside TRL's arguments."""
    return {
        "gamma": config.gamma,
        "lam": config.lam,
        "kl_coef": config.kl_coef,
        "vf_coef": config.vf_coef,
        "cliprange_value": config.cliprange_value,
        "critic": config.critic,
        "critic_learning_rate": config.critic_learning_rate or config.learning_rate,
        "whiten": config.whiten,
        "missing_eos_penalty": config.missing_eos_penalty,
    }


class PpoTrainer(PolicyTrainer):
    """A `BackendTrainer` of a policy with a critic."""

    def facts(self) -> dict[str, Any]:
        return super().facts() | critic_arguments(cast("PpoConfig", self._request.config))

    def close(self) -> None:
        """Let go of the model and of the critic."""
        if hasattr(self.native, "critic"):
            self.native.forget_critic()
        super().close()


def build_ppo(request: TrainRequest) -> PpoTrainer:
    """Our trainer, on TRL's.

    Raises:
        ConfigError, DataError: see `load_policy`, and what PPO cannot do yet.
    """
    config, policy = cast("PpoConfig", request.config), load_policy(request)
    fixed = {"beta": config.kl_coef, "scale_rewards": "none", "mask_truncated_completions": False}
    wanted = policy.arguments(fixed)
    arguments = building.make_checked(ppo_config_class(policy.trl.GRPOConfig), wanted, config)
    native = construct(policy.loaded, policy.model, ppo_trainer_class, arguments, **critic_arguments(config))
    return PpoTrainer(native, policy.loaded, wanted, policy.tokeniser)
