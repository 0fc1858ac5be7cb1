"""PPO on TRL's GRPOTrainer; TRL has had none of its own since 1.13."""

from aligntune_trl.ppo.trainer import ppo_config_class, ppo_trainer_class

__all__ = ["ppo_config_class", "ppo_trainer_class"]
