"""Whole runs of PPO: what is logged, evaluation, checkpoints, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import trl
from aligntune_trl.ppo import ppo_config_class, ppo_trainer_class
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
)

from aligntune_core import ConfigError

from ..marks import heavy
from ..results import same
from .conftest import LORA, chained, share_of_a, weights


def test_a_run_logs_what_ppo_has_and_not_what_only_groups_have(build):
    trainer = build(kl_coef=0.05, per_device_train_batch_size=8, log_completions=False)
    trainer.train()
    row = trainer.state.log_history[0]
    expected = {"value_loss", "value_clip_ratio", "explained_variance", "values_mean", "returns_mean", "kl",
                "non_score_reward", "reward", "entropy", "clip_ratio/region_mean"}  # fmt: skip
    assert expected <= row.keys()
    assert "frac_reward_zero_std" not in row
    batch = trainer._buffered_inputs[0]
    means = batch["advantages"].sum(dim=1) / batch["completion_mask"].sum(dim=1)
    assert sorted(trainer._logs["advantages"]) == pytest.approx(sorted(means.tolist()))


def test_evaluation_samples_and_scores_without_learning(build):
    trainer = build(per_device_eval_batch_size=2, kl_coef=0.1)
    before = weights(trainer.critic.module)
    numbers = trainer.evaluate()
    assert {"eval_loss"} <= numbers.keys()
    logged = trainer.state.log_history[-1]
    assert {"eval_reward", "eval_kl", "eval_values_mean"} <= logged.keys()
    assert same(before, weights(trainer.critic.module))


def test_several_completions_a_prompt_are_legal_and_one_alone_is_not(build):
    trainer = build(num_generations=2, max_steps=2)
    trainer.train()
    assert trainer.num_generations == 2
    assert build(per_device_train_batch_size=1, gradient_accumulation_steps=2).num_generations == 1
    with pytest.raises(ConfigError, match="batch_size = 1: a rollout of one completion"):
        build(per_device_train_batch_size=1)


@pytest.mark.parametrize("critic", ["model", "head"])
@pytest.mark.parametrize("start", ["full", heavy("lora"), heavy("chained")])
def test_a_resumed_run_ends_with_the_same_bits(build, micro, tmp_path, critic, start):
    """Rollouts of 2 × 4 completions, used for 2 updates twice: a rollout ends at every fourth update."""
    given = {
        "gradient_accumulation_steps": 1, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 12,
        "lr_scheduler_type": "cosine", "save_strategy": "steps", "save_steps": 4, "critic": critic, "kl_coef": 0.05,
        "peft": LORA if start == "lora" else None, "weight_decay": 0.01,
    }  # fmt: skip
    whole, resumed = (
        build(chained(micro) if start == "chained" else None, **given, output_dir=str(tmp_path / name))
        for name in ("whole", "resumed")
    )
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    assert sorted(path.name for path in (checkpoint / "critic").iterdir()) == ["critic.safetensors", "optimizer.pt"]
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert same(weights(whole.model), weights(resumed.model))
    assert same(weights(whole.critic.module), weights(resumed.critic.module))
    assert whole.state.log_history[-2]["value_loss"] == resumed.state.log_history[-2]["value_loss"]


def test_a_checkpoint_with_another_critic_or_none_is_refused(build, tmp_path):
    given = {"save_strategy": "steps", "save_steps": 1}
    build(**given).train()
    checkpoint = tmp_path / "run" / "checkpoint-1"
    with pytest.raises(ConfigError, match="critic = 'head': the checkpoint's critic is critic: model"):
        build(**given, critic="head", max_steps=2).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "critic" / "critic.safetensors").unlink()
    with pytest.raises(ConfigError, match="this checkpoint has no critic; resume from one of PPO"):
        build(**given, max_steps=2).train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        (
            "deepspeed_plugin",
            object(),
            "deepspeed = .*: PPO's critic is outside DeepSpeed's engine; start with torchrun",
        ),
        ("fsdp", True, "fsdp = True: PPO's critic is not sharded by FSDP; start with torchrun"),
        ("fp16", True, "precision = 'fp16': fp16 needs its gradients scaled, .*; set precision: bf16 or fp32"),
    ],
)
def test_what_the_critic_cannot_follow_is_refused(micro, tmp_path, argument, value, message):
    args = ppo_config_class(trl.GRPOConfig)(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    setattr(args, argument, value)
    with pytest.raises(ConfigError, match=message):
        ppo_trainer_class(trl.GRPOTrainer)(
            str(micro), args=args, reward_funcs=share_of_a, gamma=1.0, lam=0.95, kl_coef=0.0, vf_coef=0.1,
            cliprange_value=0.2, critic="model", critic_learning_rate=1e-3, whiten=True,
        )  # fmt: skip


def test_a_quantised_policy_has_a_head_for_a_critic_and_no_copy(build, micro):
    def quantised() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoModelForCausalLM.from_pretrained(
                micro, quantization_config=BitsAndBytesConfig(load_in_4bit=True), device_map={"": "cpu"}
            )

    with pytest.raises(ConfigError, match=r"critic = 'model': .*; set critic: head"):
        build(quantised(), peft=LORA)
    trainer = build(quantised(), peft=LORA, critic="head")
    assert isinstance(trainer.model, PeftModel)
    trainer.train()
    assert trainer.state.log_history[0]["value_loss"] > 0
