"""The other side of `ppo.py`: a run of PPO as `trl==1.12.0` has it, in that version's own environment."""

from __future__ import annotations

import argparse
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    set_seed,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Notes when the loop began and when its last step ended; a step is a whole rollout."""

    began = ended = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ended = time.perf_counter()


def arguments(given: dict[str, Any], seed: int, output: Path) -> PPOConfig:
    """With one micro-batch a rollout, which it cuts into mini-batches, it updates once a mini-batch."""
    return PPOConfig(
        output_dir=str(output), seed=seed, per_device_train_batch_size=given["rollout"], gradient_accumulation_steps=1,
        num_mini_batches=given["rollout"] // given["mini_batch"], num_ppo_epochs=given["epochs"],
        total_episodes=given["rollouts"] * given["rollout"], local_rollout_forward_batch_size=given["rollout"],
        response_length=given["response_length"], temperature=1.0, stop_token="eos", missing_eos_penalty=None,  # noqa: S106
        learning_rate=given["learning_rate"], lr_scheduler_type="constant", warmup_steps=0, optim="adamw_torch_fused",
        weight_decay=0.0, kl_coef=given["kl_coef"], kl_estimator="k1", vf_coef=given["vf_coef"],
        cliprange=given["cliprange"], cliprange_value=given["cliprange_value"], gamma=given["gamma"], lam=given["lam"],
        whiten_rewards=False, num_sample_generations=0, gradient_checkpointing=False, bf16=False, use_cpu=True,
        logging_steps=1, save_strategy="no", eval_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip


def train(folder: Path, seed: int, output: Path) -> dict[str, Any]:
    """Train and save the policy; the seconds of the loop."""
    given = json.loads((folder / "settings.json").read_text("utf-8"))
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    critic, reward = (
        AutoModelForSequenceClassification.from_pretrained(folder / name, num_labels=1, dtype=torch.float32)
        for name in ("model", "reward")
    )
    torch.nn.init.zeros_(critic.score.weight)  # as ours begins
    rows = json.loads((folder / "train.json").read_text("utf-8"))
    prompts = Dataset.from_list([{"input_ids": tokenizer(row["prompt"])["input_ids"]} for row in rows])
    clock = Clock()
    trainer = PPOTrainer(
        args=arguments(given, seed, output), processing_class=tokenizer, model=policy, ref_model=None,
        reward_model=reward.eval(), value_model=critic, train_dataset=prompts, eval_dataset=prompts, callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    policy.save_pretrained(output / "model")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("trl", "transformers", "torch"))
    return {"seconds": clock.ended - clock.began, "model": str(output / "model"), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "SEED", "OUTPUT"), required=True)
    folder, seed, output = parser.parse_args().child
    print("RESULT", json.dumps(train(Path(folder), int(seed), Path(output))))


if __name__ == "__main__":
    main()
