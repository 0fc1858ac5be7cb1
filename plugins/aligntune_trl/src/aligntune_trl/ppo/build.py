"""PPO from a request: TRL's GRPOTrainer with our critic and advantages."""

from __future__ import annotations

from typing import Any, cast

from aligntune_core import TrainRequest
from aligntune_core.config import PpoConfig
from aligntune_trl import building
from aligntune_trl.policy import PolicyTrainer, PromptTokeniser, check_prompts, construct, own_arguments
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
    """Load the model and construct our trainer.

    Raises:
        ConfigError, DataError: what only the library, the model or the tokenizer can tell.
    """
    trl = building.library("GRPOTrainer", "GRPOConfig")
    config = cast("PpoConfig", request.config)
    loaded = building.begin(request, trl.GRPOConfig)
    tokeniser = PromptTokeniser(loaded.tokenizer)
    model = building.load_policy(loaded)
    check_prompts(loaded, model, tokeniser, config.max_completion_length)
    fixed = {"beta": config.kl_coef, "scale_rewards": "none", "mask_truncated_completions": False}
    wanted = building.wanted_arguments(loaded, model, own_arguments(loaded) | fixed, trl.GRPOConfig)
    arguments = building.make_checked(ppo_config_class(trl.GRPOConfig), wanted, config)
    native = construct(loaded, model, ppo_trainer_class, arguments, **critic_arguments(config))
    return PpoTrainer(native, loaded, wanted, tokeniser)
