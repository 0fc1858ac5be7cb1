"""PPO trainers on the model of twelve words, and what the tests look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl
from aligntune_trl.loop import guarded
from aligntune_trl.ppo import ppo_config_class, ppo_trainer_class
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed

from ..conftest import WORDS

A = WORDS.index("a") + 2  # after padding and the end
LORA = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
Build = Callable[..., Any]


def share_of_a(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The share of one word in a completion."""
    return [sum(token == A for token in ids) / len(ids) for ids in completion_ids]


@pytest.fixture
def build(micro: Path, tmp_path: Path) -> Build:
    """A PPO trainer on the micro model; any argument of the config or of the trainer may be given."""

    def make(model: Any = None, *, reward: Any = share_of_a, peft: Any = None, **given: Any) -> Any:
        ours: dict[str, Any] = {
            "gamma": 1.0, "lam": 0.95, "kl_coef": 0.0, "vf_coef": 0.1, "cliprange_value": 0.2, "critic": "model",
            "critic_learning_rate": 1e-3, "whiten": True, "missing_eos_penalty": None, "critic_lora": None,
        }  # fmt: skip
        ours |= {name: given.pop(name) for name in list(given) if name in ours}
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1,
            "max_completion_length": 6, "learning_rate": 1e-3, "max_steps": 1, "logging_steps": 1,
            "save_strategy": "no", "lr_scheduler_type": "constant", "weight_decay": 0.0, "bf16": False, "use_cpu": True,
            "report_to": "none", "disable_tqdm": True, "gradient_checkpointing": False, "logging_nan_inf_filter": False,
            "dataloader_pin_memory": False, "seed": 3,
        }  # fmt: skip
        random = np.random.default_rng(0)
        prompts = [" ".join(random.choice(WORDS, random.integers(1, 5))) for _ in range(64)]
        rows = [{"prompt": prompt, "number": number} for number, prompt in enumerate(prompts)]
        set_seed(3)  # the adapter and the critic's head are drawn before the trainer sets its seed
        trainer = ppo_trainer_class(guarded(trl.GRPOTrainer))(
            model=str(micro) if model is None else model,
            args=ppo_config_class(trl.GRPOConfig)(**{**defaults, **given}),
            reward_funcs=reward, train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows[:4]),
            processing_class=AutoTokenizer.from_pretrained(micro), peft_config=peft, **ours,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        return trainer

    return make


def weights(module: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], **tolerance: float) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], **tolerance) for name in one)


def rollout(trainer: Any) -> dict[str, Any]:
    """A rollout as the trainer makes it, in the rows' own order."""
    trainer.model.train()
    count = trainer.args.per_device_train_batch_size * trainer.args.steps_per_generation
    batch: dict[str, Any] = trainer._generate_and_score_completions([trainer.train_dataset[i] for i in range(count)])
    return batch


def logps_of(model: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
    """The log-probabilities of each completion's tokens, one completion at a time and without padding."""
    found = []
    for row in range(len(batch["completion_ids"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row] == 1]
        completion = batch["completion_ids"][row][batch["completion_mask"][row] == 1]
        logits = model(input_ids=torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        found.append(torch.log_softmax(logits, -1).gather(1, completion[:, None])[:, 0])
    return found


def shake(model: Any, size: float = 0.1) -> Any:
    """Move the trained weights, so that adapters do something and the policy is no longer its reference."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += size * torch.randn_like(parameter)
    return model


def chained(micro: Path) -> Any:
    """A model that has a trained adapter already."""
    torch.manual_seed(2)
    return shake(get_peft_model(AutoModelForCausalLM.from_pretrained(micro), LORA))


def some_none(completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float | None]:
    """A reward for every other row."""
    shares = share_of_a(completion_ids)
    return [share if n % 2 else None for share, n in zip(shares, number, strict=True)]
