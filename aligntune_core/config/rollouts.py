"""What the algorithms share that learn from their own answers: rewards, generation, and how a rollout is used."""

from __future__ import annotations

import logging
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from aligntune_core.config.fields import (
    Count,
    Functions,
    NonNegative,
    PathText,
    PositiveFloat,
    PositiveInt,
    Weights,
)
from aligntune_core.config.settings import Group, TrainingConfig, choice, setting
from aligntune_core.errors import ConfigError, Problem

log = logging.getLogger("aligntune")

TRL_GRPO = "TRL's GRPOConfig"


class RewardSettings(Group):
    title = "Rewards"

    reward_functions: Functions = setting(
        (), "What scores an answer: names of rewards, FILE.py:name, module:function, or functions; they are summed."
    )
    reward_weights: Weights = setting((), "A weight for each reward, the reward model's last; unset: all 1.")
    reward_model_name: PathText | None = setting(
        None, "A reward model: the run folder or the model that algorithm=reward gave, or a hub name."
    )
    reward_timeout: PositiveFloat = setting(300.0, "Seconds that a reward may take for a batch of answers.")
    overlong_cache: Annotated[Count | None, Field()] = setting(
        0, "Tokens before max_completion_length from which on length is punished; 0: never.", "arXiv:2503.14476, eq. 13"
    )

    @property
    def function_weights(self) -> tuple[float, ...]:
        """A weight for each of `reward_functions`."""
        count = len(self.reward_functions)
        return self.reward_weights[:count] if self.reward_weights else (1.0,) * count

    @property
    def model_weight(self) -> float:
        """The weight of the reward model."""
        return self.reward_weights[-1] if self.reward_weights else 1.0


class GenerationSettings(Group):
    title = "Generation"

    num_generations: PositiveInt = setting(8, "Answers to each prompt.", TRL_GRPO)
    max_completion_length: PositiveInt = setting(256, "Longest answer, in tokens.", "TRL's GRPOConfig up to 1.7")
    temperature: PositiveFloat = setting(1.0, "Sampling temperature.", TRL_GRPO)
    top_p: Annotated[PositiveFloat, Field(le=1.0)] = setting(1.0, "Nucleus sampling: the share kept.", TRL_GRPO)
    num_iterations: PositiveInt = setting(
        1, "Passes over a rollout.", "Shao et al. 2024, arXiv:2402.03300, section 4.2"
    )
    steps_per_generation: PositiveInt | None = setting(
        None, "Forward passes that share a rollout; unset: gradient_accumulation_steps.", TRL_GRPO
    )
    epsilon: Annotated[PositiveFloat, Field(lt=1.0)] = setting(
        0.2, "The ratio is clipped below 1 - epsilon.", "Schulman et al. 2017, arXiv:1707.06347, section 6.1"
    )
    epsilon_high: PositiveFloat | None = setting(None, "The ratio is clipped above 1 + epsilon_high; unset: epsilon.")


class GroupSettings(Group):
    title = "Groups"

    beta: NonNegative = setting(0.0, "Weight of the KL divergence to the reference model; 0: no reference model.")
    scale_rewards: Annotated[
        Literal["group", "batch", "none"], choice("group", "batch", "none", kind="the choices are")
    ] = setting(
        "group",
        "Divide advantages by the deviation of the rewards in the group, in the batch, or not at all.",
        TRL_GRPO,
    )
    mask_truncated_completions: bool = setting(
        False, "Leave answers that reached max_completion_length out of the loss.", TRL_GRPO
    )
    dynamic_sampling_attempts: Count = setting(
        0, "Rounds in which groups of equal rewards are replaced by groups of other prompts; 0: never."
    )


class CriticSettings(Group):
    title = "PPO"

    gamma: Annotated[PositiveFloat, Field(le=1.0)] = setting(1.0, "Discount of later rewards.", "TRL 1.12's PPOConfig")
    lam: Annotated[NonNegative, Field(le=1.0)] = setting(
        0.95, "Lambda of generalised advantage estimation.", "Schulman et al. 2015, arXiv:1506.02438; TRL 1.12"
    )
    kl_coef: NonNegative = setting(
        0.05, "Weight of the KL divergence (k1) to the reference model in the reward.", "TRL 1.12's PPOConfig"
    )
    vf_coef: PositiveFloat = setting(0.1, "Weight of the value loss.", "TRL 1.12's PPOConfig")
    cliprange_value: PositiveFloat = setting(
        0.2, "A value moves at most so far from the one at the rollout.", "TRL 1.12's PPOConfig"
    )
    critic: Annotated[Literal["model", "head"], choice("model", "head", kind="the choices are")] = setting(
        "model", "The critic: a model of its own, or a head on the policy's hidden states."
    )
    critic_learning_rate: Annotated[PositiveFloat, Field(le=1.0)] | None = setting(
        None, "The critic's peak learning rate; unset: learning_rate.", "TRL 1.12: one rate for both"
    )
    whiten: bool = setting(
        True, "Give the advantages of a rollout mean 0 and deviation 1.", "Ziegler et al. 2019, arXiv:1909.08593"
    )
    missing_eos_penalty: PositiveFloat | None = setting(
        None, "Taken from the score of an answer that does not end by itself.", "TRL 1.12's PPOConfig"
    )


class RolloutConfig(GenerationSettings, RewardSettings, TrainingConfig):
    """What every algorithm shares that learns from its own answers.

    Attributes:
        fewest_generations: answers to a prompt at least.
    """

    fewest_generations: ClassVar[int] = 2
    rows = "prompts"
    learning_rates = (1e-6, 1e-5, "full: TRL's GRPOConfig; LoRA: ten times that, as TRL's guide for LoRA")

    num_epochs: PositiveFloat = setting(1.0, "Passes over the prompts.", "TRL's examples")
    batch_size: PositiveInt = setting(8, "Answers per device and forward pass.", TRL_GRPO)

    @property
    def generation_steps(self) -> int:
        """Forward passes that share a rollout."""
        return self.steps_per_generation or self.gradient_accumulation_steps

    @property
    def rollout_steps(self) -> int:
        """Optimiser steps on one rollout."""
        return max(self.generation_steps // self.gradient_accumulation_steps, 1) * self.num_iterations

    @property
    def overlong(self) -> int:
        """Tokens before `max_completion_length` from which on length is punished; 0: never."""
        return self.overlong_cache or 0

    def coupled(self) -> list[Problem]:
        found = super().coupled()
        accumulated = self.gradient_accumulation_steps
        if self.generation_steps % accumulated:
            text = f"is no multiple of gradient_accumulation_steps = {accumulated}, so a step would span two rollouts"
            below = max(self.generation_steps // accumulated, 1) * accumulated
            remedy = f"set {below} or {below + accumulated}"
            found.append(Problem.of("steps_per_generation", text, remedy, value=self.steps_per_generation))
        if self.overlong >= self.max_completion_length:
            text = f"is not less than max_completion_length = {self.max_completion_length}"
            remedy = f"set it to about a fifth, {self.max_completion_length // 5}"
            found.append(Problem.of("overlong_cache", text, remedy, value=self.overlong_cache))
        rewards = len(self.reward_functions) + bool(self.reward_model_name)
        if self.reward_weights and len(self.reward_weights) != rewards:
            weights = len(self.reward_weights)
            text = f"{weights} weight{'s' * (weights != 1)} for {rewards} reward{'s' * (rewards != 1)}"
            found.append(Problem.of("reward_weights", text, "give one for each", value=list(self.reward_weights)))
        default = type(self).model_fields["reward_timeout"].get_default()
        if self.reward_timeout != default and not self.reward_functions:
            text = "has no effect without reward_functions: a reward model has no time limit"
            found.append(Problem.of("reward_timeout", text, "leave it out", value=self.reward_timeout))
        if self.num_generations < self.fewest_generations:
            text = "an answer is compared with the others to its prompt, so there must be at least 2"
            found.append(Problem.of("num_generations", text, "set 8", value=self.num_generations))
        return found

    def _sharing(self, processes: int) -> int:
        """How many processes share a group; with dynamic sampling each replaces its own."""
        return 1 if getattr(self, "dynamic_sampling_attempts", 0) else processes

    def _misfit(self, processes: int) -> str:
        """Why a rollout is no whole number of groups; empty where it is."""
        sharing = self._sharing(processes)
        count, size = self.batch_size * self.generation_steps * sharing, self.num_generations
        if count % size == 0:
            return ""
        times, what = f"{self.batch_size} × {self.generation_steps}", "batch_size × steps"
        if sharing > 1:
            times, what = f"{times} × {sharing}", f"{what} × processes"
        return f"a rollout has {times} = {count} answers ({what}), which are no groups of {size}"

    def fitted(self, processes: int) -> Self:
        """With what follows from the sizes that the user chose, and each such decision told.

        `gradient_accumulation_steps`, where it is not given, grows until a rollout is a whole number of groups;
        `save_steps` is rounded up to the end of a rollout, where a run resumes bit for bit.

        Args:
            processes: how many train together.

        Raises:
            ConfigError: a rollout is no whole number of groups, with the numbers and values that fit.
        """
        config = self
        if config._misfit(processes) and not self.model_fields_set & {
            "gradient_accumulation_steps",
            "steps_per_generation",
        }:
            first = self.gradient_accumulation_steps
            candidates = (
                self.decided(gradient_accumulation_steps=n) for n in range(first, first + self.num_generations)
            )
            config = next(c for c in candidates if not c._misfit(processes))
            steps = config.gradient_accumulation_steps
            log.info("gradient_accumulation_steps = %d: a rollout is then a whole number of groups", steps)
        if text := config._misfit(processes):
            count = config.batch_size * config.generation_steps * self._sharing(processes)
            fits = [n for n in range(self.fewest_generations, count + 1) if count % n == 0]
            near = sorted(fits, key=lambda n: abs(n - self.num_generations))[:1]
            ways = [*(f"num_generations: {n}" for n in near), f"batch_size: {self.num_generations}"]
            remedy = f"set {', or '.join(ways)}"
            raise ConfigError(text, remedy, field="num_generations", value=self.num_generations)
        return config._on_boundaries()

    def _on_boundaries(self) -> Self:
        steps = self.rollout_steps
        rounded = -(-self.save_steps // steps) * steps
        if rounded == self.save_steps:
            return self
        log.info(
            "save_steps = %d, not %d: a rollout serves %d steps, and is not saved", rounded, self.save_steps, steps
        )
        return self.decided(save_steps=rounded)

    def check_prompts(self, count: int, processes: int) -> None:
        """Refuse fewer prompts than one rollout takes, and tell how many each epoch leaves out.

        Raises:
            ConfigError: nothing would be trained.
        """
        needed = self.batch_size * self.generation_steps * processes // self.num_generations
        if count < needed:
            sizes = "batch_size × steps" + " × processes" * (processes > 1)
            text = f"a rollout takes {needed} prompts ({sizes} / num_generations), and there are {count}"
            remedy = "give more rows, or set a smaller batch_size or gradient_accumulation_steps"
            raise ConfigError(text, remedy, field="batch_size", value=self.batch_size)
        if left := count % needed:
            log.warning("each epoch leaves out %d of %d prompts: a rollout takes %d", left, count, needed)
