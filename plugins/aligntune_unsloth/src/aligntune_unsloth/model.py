"""The model by Unsloth: loading it, and its adapter, with every argument given."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Any

import torch
from aligntune_trl import loading
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, set_seed

from aligntune_core import ConfigError
from aligntune_core.config import TrainingConfig


def check_cpu(config: TrainingConfig) -> None:
    """Refuse what Unsloth's CPU backend would take and leave out; on a GPU nothing.

    Raises:
        ConfigError: with the setting.
    """
    for field in () if torch.cuda.is_available() else ("load_in_8bit", "packing"):
        if getattr(config, field, False):
            problem, remedy = "Unsloth's CPU backend leaves it out", 'leave it out, or use backend="trl"'
            raise ConfigError(problem, remedy, field=field, value=True)


def longest_of(config: TrainingConfig) -> int | None:
    """Tokens that a row may have; None, where settings do not say it: as many as the model has positions for."""
    return getattr(config, "max_seq_length", None)


def checkpoints(config: TrainingConfig) -> Any:
    """Unsloth's own way of gradient checkpointing, which is on by itself on a GPU; the setting decides."""
    if config.gradient_checkpointing is False:
        return False
    return "unsloth" if torch.cuda.is_available() else bool(config.gradient_checkpointing)


def quantised(config: TrainingConfig) -> int | None:
    """In how many bits the checkpoint, or the base of an adapter, is stored: Unsloth wants to be told; None: in all."""
    name = str(config.model_name)
    if loading.is_adapter(name):
        name = str(PeftConfig.from_pretrained(name).base_model_name_or_path)
    with loading.telling(config):
        found = AutoConfig.from_pretrained(name, revision=config.revision, trust_remote_code=config.trust_remote_code)
    how = getattr(found, "quantization_config", None) or {}
    how = how if isinstance(how, dict) else how.to_dict()
    return 4 if how.get("load_in_4bit") else 8 if how.get("load_in_8bit") else None


def load(fast: Any, config: TrainingConfig, precision: str) -> Any:
    """The model, ready to be trained.

    Args:
        fast: Unsloth's `FastLanguageModel`.
        config: settled settings.
        precision: bf16, fp16 or fp32.
    """
    name = str(config.model_name)
    checkpointing = checkpoints(config)
    bits = quantised(config)
    with loading.telling(config), redirect_stdout(sys.stderr):  # its banners are no results
        model, _ = fast.from_pretrained(
            model_name=name,
            max_seq_length=longest_of(config),
            dtype=loading.weights_dtype(config, precision),
            load_in_4bit=config.load_in_4bit or bits == 4,
            load_in_8bit=config.load_in_8bit or bits == 8,
            full_finetuning=not config.use_peft,
            fast_inference=False,
            use_gradient_checkpointing=checkpointing,
            random_state=config.seed,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            **({"attn_implementation": config.attn_implementation} if config.attn_implementation else {}),
        )
    if isinstance(model, PeftModel):
        loading.check_adapter_whole(model, name)
        return model
    if not config.use_peft:
        return model
    return adapted(fast, model, config, checkpointing)


def adapted(fast: Any, model: Any, config: TrainingConfig, checkpointing: Any) -> Any:
    """The model with a new adapter, whose first weights are those that aligntune_trl draws."""
    wanted = loading.lora_config(config, model)
    if wanted is None:
        raise TypeError("the model has an adapter already")
    targets = layers(model) if config.lora_target_modules == "all-linear" else list(config.lora_target_modules)
    set_seed(config.seed)
    with redirect_stdout(sys.stderr):
        return fast.get_peft_model(
            model,
            r=wanted.r,
            target_modules=targets,
            lora_alpha=wanted.lora_alpha,
            lora_dropout=wanted.lora_dropout,
            bias="none",
            use_gradient_checkpointing=checkpointing,
            random_state=config.seed,
            max_seq_length=longest_of(config),
            use_rslora=False,
            init_lora_weights=True,
        )


def layers(model: Any) -> list[str]:
    """The names of all linear layers but the one that gives the logits: PEFT's `all-linear`, written out."""
    head = model.get_output_embeddings()
    found = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    return sorted(found)
