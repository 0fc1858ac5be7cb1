"""The presets: what each of the algorithms that learn from their own answers sets and pins, with its source."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from aligntune_core.config.fields import Count, NonNegative, PositiveFloat, PositiveInt
from aligntune_core.config.rollouts import CriticSettings, GroupSettings, RolloutConfig
from aligntune_core.config.settings import choice, setting
from aligntune_core.errors import Problem

DAPO = "Yu et al. 2025, arXiv:2503.14476"
GSPO = "Zheng et al. 2025, arXiv:2507.18071"
DR_GRPO = "Liu et al. 2025, arXiv:2503.20783"
DEEPSEEK = "Shao et al. 2024, arXiv:2402.03300"

MINI_BATCHES = 4
"""GSPO: a rollout is cut into so many mini-batches (section 5.1)."""
CACHE_SHARE = 5
"""DAPO: the punished part is a fifth of the longest answer (section 4.1: 4,096 of 20,480)."""


class GrpoConfig(GroupSettings, RolloutConfig):
    """Group-relative policy optimisation."""

    algorithm = "grpo"
    pinned = MappingProxyType({"loss_type": "grpo", "importance_sampling_level": "token"})

    beta: NonNegative = setting(
        0.04, "Weight of the KL divergence to the reference model; 0: no reference model.", f"{DEEPSEEK}, section 4.2"
    )

    def coupled(self) -> list[Problem]:
        found = super().coupled()
        if self.dynamic_sampling_attempts and self.scale_rewards == "batch":
            text = "replacing groups would change the advantages of all others"
            found.append(Problem.of("scale_rewards", text, "set scale_rewards: group or none", value="batch"))
        return found


class GspoConfig(GrpoConfig):
    """Group sequence policy optimisation."""

    algorithm = "gspo"
    pinned = MappingProxyType({"loss_type": "grpo", "importance_sampling_level": "sequence"})

    beta: NonNegative = setting(0.0, "Weight of the KL divergence to the reference model.", f"{GSPO}, eq. 5")
    epsilon: Annotated[PositiveFloat, Field(lt=1.0)] = setting(
        3e-4, "The ratio of the whole answer is clipped below 1 - epsilon.", f"{GSPO}, section 5.1"
    )
    epsilon_high: PositiveFloat | None = setting(
        4e-4, "The ratio of the whole answer is clipped above 1 + epsilon_high.", f"{GSPO}, section 5.1"
    )
    steps_per_generation: PositiveInt | None = setting(
        None,
        f"Forward passes that share a rollout; unset: {MINI_BATCHES} mini-batches.",
        f"{GSPO}, section 5.1",
    )

    @property
    def generation_steps(self) -> int:
        return self.steps_per_generation or MINI_BATCHES * self.gradient_accumulation_steps

    def coupled(self) -> list[Problem]:
        found = super().coupled()
        if self.rollout_steps < 2 and not self.generation_steps % self.gradient_accumulation_steps:
            text = "with one mini-batch a rollout the ratio is always 1, and nothing is ever clipped"
            remedy = f"set steps_per_generation: {MINI_BATCHES * self.gradient_accumulation_steps}, or leave it out"
            found.append(Problem.of("steps_per_generation", text, remedy, value=self.steps_per_generation))
        return found


class DapoConfig(GrpoConfig):
    """Decoupled clip and dynamic sampling policy optimisation."""

    algorithm = "dapo"
    pinned = MappingProxyType({"loss_type": "dapo", "importance_sampling_level": "token"})

    beta: NonNegative = setting(
        0.0, "Weight of the KL divergence to the reference model.", f"{DAPO}, section 2.3: removed"
    )
    epsilon_high: PositiveFloat | None = setting(
        0.28, "The ratio is clipped above 1 + epsilon_high: clip-higher.", f"{DAPO}, section 4.1"
    )
    mask_truncated_completions: bool = setting(
        True, "Leave answers that reached max_completion_length out of the loss.", f"{DAPO}, section 3.4"
    )
    overlong_cache: Annotated[Count | None, Field()] = setting(
        None,
        "Tokens before max_completion_length from which on length is punished; unset: a fifth of it; 0: never.",
        f"{DAPO}, eq. 13 and section 4.1",
    )
    dynamic_sampling_attempts: Count = setting(
        10,
        "Rounds in which groups of equal rewards are replaced by groups of other prompts; 0: never.",
        f"{DAPO}, eq. 11; 10 as max_num_gen_batches in the authors' recipe",
    )

    @property
    def overlong(self) -> int:
        return self.max_completion_length // CACHE_SHARE if self.overlong_cache is None else self.overlong_cache


class DrGrpoConfig(GrpoConfig):
    """GRPO without its biases."""

    algorithm = "dr_grpo"
    pinned = MappingProxyType({"loss_type": "dr_grpo", "importance_sampling_level": "token"})

    beta: NonNegative = setting(0.0, "Weight of the KL divergence to the reference model.", f"{DR_GRPO}, section 3.2")
    scale_rewards: Annotated[
        Literal["group", "batch", "none"], choice("group", "batch", "none", kind="the choices are")
    ] = setting("none", "Divide advantages by the deviation of the rewards, or not at all.", f"{DR_GRPO}, section 3.2")


class PpoConfig(CriticSettings, RolloutConfig):
    """Proximal policy optimisation with a learned critic."""

    algorithm = "ppo"
    pinned = MappingProxyType({"loss_type": "dapo", "importance_sampling_level": "token"})
    fewest_generations = 1
    learning_rates = (3e-6, 3e-5, "full: TRL 1.12's PPOConfig; LoRA: ten times that")

    num_generations: PositiveInt = setting(1, "Answers to each prompt.", "TRL 1.12's PPOConfig")
    num_iterations: PositiveInt = setting(4, "Passes over a rollout.", "TRL 1.12's num_ppo_epochs")
