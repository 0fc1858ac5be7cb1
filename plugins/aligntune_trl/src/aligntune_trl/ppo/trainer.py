"""PPO as a subclass of TRL's GRPOTrainer: its sampling, rewards and clipped loss; our critic and advantages.

GRPO compares completions of one prompt. PPO (Schulman et al. 2017, arXiv:1707.06347) asks a learned critic instead what
each token was worth, so one completion a prompt is enough: generalised advantage estimates over tokens take the place
of GRPO's advantages, and the KL to the reference is a part of the reward (Ziegler et al. 2019, arXiv:1909.08593).
"""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict

from aligntune_core import ConfigError, DivergedError
from aligntune_trl.ppo import numerics
from aligntune_trl.ppo.critic import Critic, Kind

_Base: Any = object
"""In TRL's trainers' place, for the type checker; `ppo_trainer_class` gives the real one."""


def ppo_config_class(base: type[Any]) -> type[Any]:
    """GRPOConfig (or a subclass) which allows one completion a prompt, and has it by default.

    What it makes are instances of `base`.
    """

    @dataclasses.dataclass
    class PPOConfig(base):  # type: ignore[misc]
        num_generations: int | None = 1
        num_generations_eval: int | None = None

        def __post_init__(self) -> None:
            wanted = self.num_generations
            if wanted == 1:
                self.num_generations = self._some_divisor()
                self.num_generations_eval = self.num_generations_eval or 1
            super().__post_init__()  # all but its refusal of one completion a prompt
            self.num_generations = wanted
            self.__class__ = base  # checkpoints pickle it, which takes a class that a module has

        def _some_divisor(self) -> int:
            """A number above 1 that divides the rollout's size."""
            steps = self.steps_per_generation or self.gradient_accumulation_steps
            processes = int(os.environ.get("WORLD_SIZE", "1"))
            sizes = (self.per_device_train_batch_size, self.generation_batch_size or steps, processes)
            if all(size < 2 for size in sizes):
                problem = "a rollout of one completion has nothing to compare it with"
                raise ConfigError(problem, "set 2 or more, or gradient_accumulation_steps", field="batch_size", value=1)
            return next(size for size in sizes if size > 1)

    return PPOConfig


def ppo_trainer_class(base: type[Any]) -> type[Any]:
    """PPO made from `base`: TRL's GRPOTrainer as it is now, or a subclass of it."""
    return type("PPOTrainer", (PPO, base), {})


def _refuse_unsupported(args: Any) -> None:
    """Refuse what would wrap, shard or scale the policy without its critic.

    Raises:
        ConfigError: DeepSpeed, FSDP or fp16 is asked for, by argument or by launcher.
    """
    remedy = "start with torchrun, or with accelerate launch and plain DDP"
    if args.deepspeed_plugin is not None:
        raise ConfigError("PPO's critic is outside DeepSpeed's engine", remedy, field="deepspeed", value=args.deepspeed)
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes", "y", "on", "t"):
        raise ConfigError("PPO's critic is not sharded by FSDP", remedy, field="fsdp", value=args.fsdp)
    if args.fp16 or getattr(args, "mixed_precision", None) == "fp16":
        problem = "fp16 needs its gradients scaled, and PPO's critic has an optimiser that the scaler does not know"
        raise ConfigError(problem, "set precision: bf16 or fp32", field="precision", value="fp16")


class _CriticSteps(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Updates the critic exactly when the policy is updated."""

    def __init__(self, critic: Critic) -> None:
        self._critic = critic

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rate = kwargs["optimizer"].param_groups[0]["lr"]
        self._critic.step(state.global_step + 1, rate / args.learning_rate if args.learning_rate else 1.0)


class PPO(_Base):  # type: ignore[misc]
    """The mixin of `ppo_trainer_class`.

    Metrics beside GRPO's: `value_loss` (before vf_coef), `value_clip_ratio`, `explained_variance`, `values_mean`,
    `returns_mean`, all over action tokens; where there is a reference also `kl` (log π − log π_ref, mean over action
    tokens) and `non_score_reward` (the KL's part of the reward, mean over completions).

    Args:
        model, args, kwargs: GRPOTrainer's. args is of `ppo_config_class`; its beta becomes kl_coef, by which TRL keeps
            a reference policy: the model's own folder loaded again, or its state before training under adapters.
        gamma: discount of rewards, a token; 1 is none.
        lam: λ of the advantage estimates.
        kl_coef: what a nat of KL to the reference costs, in reward; 0: no reference.
        vf_coef: factor of the value loss; the critic's optimiser is AdamW, which hardly feels it unless it clips.
        cliprange_value: how far a value may move in a rollout.
        critic: "model" (a copy of the policy's backbone and a head) or "head" (on the policy's hidden states).
        critic_learning_rate: the critic's peak learning rate; its schedule has the shape of the policy's.
        whiten: scale the advantages of a rollout to mean 0 and variance 1.
        missing_eos_penalty: taken off the score of a completion that does not end; None is 0.
        critic_lora: the adapter of a "model"; None: as the policy has, or none.

    Raises:
        ConfigError: DeepSpeed, FSDP, fp16, or a "model" on a quantised base.
    """

    beta: float
    _buffered_inputs: list[dict[str, Any]]
    _tag_names = ("trl", "ppo")
    _name = "PPO"
    _paper = {  # noqa: RUF012 - TRL's form
        "title": "Proximal Policy Optimization Algorithms",
        "id": "1707.06347",
        "citation": "@article{schulman2017proximal, title = {Proximal Policy Optimization Algorithms}, "
        "author = {John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov}, "
        "year = 2017, eprint = {arXiv:1707.06347}}",
    }

    def __init__(
        self,
        model: Any,
        *,
        args: Any,
        gamma: float,
        lam: float,
        kl_coef: float,
        vf_coef: float,
        cliprange_value: float,
        critic: Kind,
        critic_learning_rate: float,
        whiten: bool,
        missing_eos_penalty: float | None = None,
        critic_lora: LoraConfig | None = None,
        **kwargs: Any,
    ) -> None:
        _refuse_unsupported(args)
        args = copy.copy(args)
        args.beta = kl_coef
        super().__init__(model=model, args=args, **kwargs)
        self._gamma, self._lam, self._whiten = gamma, lam, whiten
        self._vf_coef, self._cliprange_value = vf_coef, cliprange_value
        self._missing_eos_penalty = missing_eos_penalty or 0.0
        self.critic = Critic(
            critic,
            self.model,
            learning_rate=critic_learning_rate,
            adapter=critic_lora,
            args=args,
            accelerator=self.accelerator,
        )
        self._critic_steps = _CriticSteps(self.critic)
        self.add_callback(self._critic_steps)

    def forget_critic(self) -> None:
        """Let go of the critic's memory; the trainer can train no more."""
        self.remove_callback(self._critic_steps)
        del self.critic, self._critic_steps

    # Rollout: what each action token was worth.

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keep the rewards of all processes' completions, (completions, rewards): GRPO hands on advantages only."""
        rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        self._rewards = rewards
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        action = _actions(batch)
        scores, scored = self._scores(batch)
        rewards = numerics.at_last_action(scores, action)
        if self.beta:
            rewards = rewards - self._kl_cost(batch, action)
        ids, mask = _whole(batch)
        values = self.critic.values(ids, mask, action.shape[1], self.args.per_device_train_batch_size)
        advantages, returns = numerics.advantages_and_returns(rewards, values, action, self._gamma, self._lam)
        learnt = action * scored.unsqueeze(-1)
        self._log_values(values, returns, learnt)
        if self._whiten:
            advantages = numerics.whiten(advantages, learnt, self._total)
        batch["advantages"] = advantages * learnt
        self._log_advantages(batch["advantages"], action)
        return batch | {"values": values, "returns": returns, "learnt_mask": learnt}

    def _scores(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """This process's scores, and which completions have one, both (completions,): all rewards may be None."""
        count, first = len(batch["completion_ids"]), self.accelerator.process_index * len(batch["completion_ids"])
        rewards = self._rewards[first : first + count]
        scores = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
        ends = torch.isin(batch["completion_ids"], torch.tensor(self.eos_token_ids, device=scores.device))
        ended = (ends & batch["completion_mask"].bool()).any(dim=1)
        return scores - self._missing_eos_penalty * ~ended, ~rewards.isnan().all(dim=1)

    def _kl_cost(self, batch: dict[str, Any], action: Tensor) -> Tensor:
        """What the KL to the reference takes off the reward of each token; (completions, tokens)."""
        logps = batch.get("old_per_token_logps")
        if logps is None:  # TRL leaves them out where a rollout is used for one update only
            ids, mask = _whole(batch)
            rows = self.args.per_device_train_batch_size
            with torch.no_grad():
                logps = self._get_per_token_logps_and_entropies(
                    self.model, ids, mask, action.shape[1], batch_size=rows
                )[0]
        kl = numerics.k1(logps, batch.pop("ref_per_token_logps"), action)
        self._log("kl", numerics.masked_mean(kl, action, self._total))
        each = kl.sum(dim=1)
        self._log("non_score_reward", -self.beta * numerics.masked_mean(each, torch.ones_like(each), self._total))
        return self.beta * kl

    # Updates: the policy as in GRPO, then the critic.

    def _prepare_inputs(self, inputs: Any) -> dict[str, Any]:
        """Cut a rollout into other mini-batches in each of its epochs, as PPO's do; GRPO keeps the first ones."""
        parts = self.args.steps_per_generation
        if self.model.training and self._step % parts == 0 and self._step % (parts * self.num_iterations):
            self._buffered_inputs = split_tensor_dict(shuffle_sequence_dict(_joined(self._buffered_inputs)), parts)
        batch: dict[str, Any] = super()._prepare_inputs(inputs)
        return batch

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """TRL's loss without its KL term, because the reward has the KL in it."""
        beta, self.beta = self.beta, 0.0
        try:
            with self.critic.listening(self.model) as heard:
                loss: Tensor = super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.beta = beta
        self._minibatch = inputs, torch.cat(heard) if heard else None
        return loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)
        batch, hidden = self._minibatch
        ids, mask = _whole(batch)
        self.critic.learn(ids, mask, batch["returns"].shape[1], hidden, lambda values: self._value_loss(values, batch))
        return loss

    def _value_loss(self, values: Tensor, batch: dict[str, Any]) -> Tensor:
        """vf_coef times the mean over the tokens of an update, however it is cut into batches, as TRL's `dapo` loss."""
        mask = batch["learnt_mask"]
        loss, clipped = numerics.clipped_value_loss(values, batch["values"], batch["returns"], self._cliprange_value)
        mean = numerics.masked_mean(loss.detach(), mask, self._total)
        if not torch.isfinite(mean):
            raise DivergedError.at(self.state.global_step + 1, "value_loss", float(mean))
        self._log("value_loss", mean)
        self._log("value_clip_ratio", numerics.masked_mean(clipped.float(), mask, self._total))
        tokens = batch["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        mine: Tensor = self._vf_coef * torch.where(mask.bool(), loss, 0.0).sum() / tokens
        return mine

    # Checkpoints.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save and not self.args.save_only_model:  # before TRL, whose last file makes it complete
            self.critic.save(folder / "critic")
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.critic.load(Path(checkpoint) / "critic")

    # Metrics.

    def _total(self, x: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(x, reduction="sum")
        return total

    def _log(self, name: str, value: Tensor) -> None:
        self._metrics["train" if self.model.training else "eval"][name].append(value.item())

    def _log_values(self, values: Tensor, returns: Tensor, mask: Tensor) -> None:
        self._log("values_mean", numerics.masked_mean(values, mask, self._total))
        self._log("returns_mean", numerics.masked_mean(returns, mask, self._total))
        explained = numerics.explained_variance(values, returns, mask, self._total)
        if not explained.isnan():
            self._log("explained_variance", explained)

    def _log_advantages(self, advantages: Tensor, action: Tensor) -> None:
        """Put each completion's mean advantage where GRPO noted its own, and drop what only groups have."""
        self._metrics["train" if self.model.training else "eval"].pop("frac_reward_zero_std", None)
        means = self.accelerator.gather(advantages.sum(dim=1) / action.sum(dim=1).clamp(min=1)).tolist()
        noted = self._logs["advantages"]
        for _ in range(min(len(means), len(noted))):
            noted.pop()
        noted.extend(means)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The mini-batches of a rollout as one; what has no rows stands in each of them."""
    rows = {name for name, value in parts[0].items() if isinstance(value, Tensor) and value.ndim}
    return {
        name: torch.cat([part[name] for part in parts]) if name in rows else value for name, value in parts[0].items()
    }


def _actions(batch: dict[str, Any]) -> Tensor:
    """1 at the tokens that the policy chose, (completions, tokens): not at padding, nor at what a tool wrote."""
    mask: Tensor = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def _whole(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Prompts and completions as one, and their attention mask; both (rows, all tokens)."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    return ids, torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
